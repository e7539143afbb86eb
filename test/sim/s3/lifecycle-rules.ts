/**
 * Lifecycle rules: read from XML, written back as they came.
 *
 * Source: Amazon S3 API reference, PutBucketLifecycleConfiguration. Transitions are kept and not
 * played: this server has one class.
 */
import { invalidArgument, S3Error } from './errors.ts';
import {
  child,
  childrenOf,
  childText,
  el,
  malformed,
  optional,
  type Xml,
  type XmlNode,
} from './xml.ts';

/** S3 takes at most this many rules. */
const MAX_RULES = 1000;

export interface LifecycleRule {
  id: string;
  enabled: boolean;
  filter: {
    prefix?: string;
    tags: [string, string][];
    greaterThan?: number;
    lessThan?: number;
    /** How the client wrote it: answers keep the shape. */
    shape: 'prefix' | 'tag' | 'and' | 'size' | 'empty' | 'old';
  };
  expirationDays?: number;
  expirationDate?: number;
  expiredMarkers?: boolean;
  abortDays?: number;
  noncurrentDays?: number;
  newerNoncurrent?: number;
  transitions?: { days?: number; date?: string; storageClass: string }[];
}

/** Reads `<LifecycleConfiguration>`. Errors: `MalformedXML`, `InvalidArgument`. */
export function readRules(root: XmlNode): LifecycleRule[] {
  const rules = childrenOf(root, 'Rule').map(readRule);
  if (rules.length === 0 || rules.length > MAX_RULES) throw malformed('1 to 1000 rules');
  const ids = new Set(rules.map((rule) => rule.id));
  if (ids.size !== rules.length) throw invalidArgument('rule ids must differ');
  return rules;
}

function readRule(node: XmlNode, index: number): LifecycleRule {
  const status = childText(node, 'Status');
  if (status !== 'Enabled' && status !== 'Disabled') throw malformed('Status of a rule');
  const expiration = child(node, 'Expiration');
  const abort = child(node, 'AbortIncompleteMultipartUpload');
  const noncurrent = child(node, 'NoncurrentVersionExpiration');
  const transitions = childrenOf(node, 'Transition').map(readTransition);
  if (!expiration && !abort && !noncurrent && transitions.length === 0)
    throw malformed('a rule without an action');
  const date = childText(expiration, 'Date');
  return {
    id: childText(node, 'ID') ?? `rule-${index + 1}`,
    enabled: status === 'Enabled',
    filter: readFilter(node),
    ...value('expirationDays', days(childText(expiration, 'Days'))),
    ...value('expirationDate', date === undefined ? undefined : Date.parse(date)),
    ...(childText(expiration, 'ExpiredObjectDeleteMarker') === 'true' && { expiredMarkers: true }),
    ...value('abortDays', days(childText(abort, 'DaysAfterInitiation'))),
    ...value('noncurrentDays', days(childText(noncurrent, 'NoncurrentDays'))),
    ...value('newerNoncurrent', days(childText(noncurrent, 'NewerNoncurrentVersions'))),
    ...(transitions.length > 0 && { transitions }),
  };
}

function readTransition(node: XmlNode) {
  const storageClass = childText(node, 'StorageClass');
  if (storageClass === undefined) throw malformed('StorageClass of a transition');
  const date = childText(node, 'Date');
  const text = childText(node, 'Days');
  return {
    storageClass,
    ...value('days', text === '0' ? 0 : days(text)),
    ...(date !== undefined && { date }),
  };
}

function value<K extends string>(key: K, found: number | undefined): { [key in K]?: number } {
  return (found === undefined ? {} : { [key]: found }) as { [key in K]?: number };
}

function days(text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  if (!/^[1-9]\d{0,5}$/.test(text)) {
    throw new S3Error(400, 'InvalidArgument', 'days must be a positive integer');
  }
  return Number(text);
}

function readFilter(node: XmlNode): LifecycleRule['filter'] {
  const filter = child(node, 'Filter');
  if (!filter) {
    const prefix = childText(node, 'Prefix');
    if (prefix === undefined) throw malformed('a rule needs a Filter or a Prefix');
    return { prefix, tags: [], shape: 'old' };
  }
  const and = child(filter, 'And');
  const from = and ?? filter;
  const tags = childrenOf(from, 'Tag').map((tag): [string, string] => [
    childText(tag, 'Key') ?? '',
    childText(tag, 'Value') ?? '',
  ]);
  const prefix = childText(from, 'Prefix');
  const greaterThan = childText(from, 'ObjectSizeGreaterThan');
  const lessThan = childText(from, 'ObjectSizeLessThan');
  const shape = and
    ? 'and'
    : tags.length > 0
      ? 'tag'
      : prefix !== undefined
        ? 'prefix'
        : greaterThan !== undefined || lessThan !== undefined
          ? 'size'
          : 'empty';
  return {
    tags,
    shape,
    ...(prefix !== undefined && { prefix }),
    ...(greaterThan !== undefined && { greaterThan: Number(greaterThan) }),
    ...(lessThan !== undefined && { lessThan: Number(lessThan) }),
  };
}

/** Writes one rule as it was read. */
export function writeRule(rule: LifecycleRule): Xml {
  const { filter } = rule;
  const date = rule.expirationDate;
  const hasExpiration =
    rule.expirationDays !== undefined || date !== undefined || rule.expiredMarkers === true;
  const hasNoncurrent = rule.noncurrentDays !== undefined || rule.newerNoncurrent !== undefined;
  return el(
    'Rule',
    hasExpiration
      ? el(
          'Expiration',
          optional('Days', rule.expirationDays),
          date === undefined ? undefined : el('Date', new Date(date).toISOString()),
          rule.expiredMarkers ? el('ExpiredObjectDeleteMarker', true) : undefined,
        )
      : undefined,
    el('ID', rule.id),
    filter.shape === 'old' ? el('Prefix', filter.prefix) : writeFilter(filter),
    el('Status', rule.enabled ? 'Enabled' : 'Disabled'),
    hasNoncurrent
      ? el(
          'NoncurrentVersionExpiration',
          optional('NewerNoncurrentVersions', rule.newerNoncurrent),
          optional('NoncurrentDays', rule.noncurrentDays),
        )
      : undefined,
    (rule.transitions ?? []).map(({ days: count, date: on, storageClass }) =>
      el(
        'Transition',
        optional('Days', count),
        optional('Date', on),
        el('StorageClass', storageClass),
      ),
    ),
    rule.abortDays === undefined
      ? undefined
      : el('AbortIncompleteMultipartUpload', el('DaysAfterInitiation', rule.abortDays)),
  );
}

function writeFilter(filter: LifecycleRule['filter']): Xml {
  const inner = [
    optional('Prefix', filter.prefix),
    ...filter.tags.map(([key, tagValue]) => el('Tag', el('Key', key), el('Value', tagValue))),
    optional('ObjectSizeGreaterThan', filter.greaterThan),
    optional('ObjectSizeLessThan', filter.lessThan),
  ];
  return el('Filter', filter.shape === 'and' ? el('And', inner) : inner);
}
