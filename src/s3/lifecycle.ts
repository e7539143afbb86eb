/**
 * The lifecycle rules of the bucket: read, and written back with some of them changed.
 *
 * S3 replaces all rules at once, and knows no condition for it. So what is written is compared with what was read just
 * before; rules that are only kept go back as they came, tags, dates and all (`RAW`); what the SDK does not know it would
 * lose, so a rule with an element it does not know is told apart and never written; and afterwards the rules are read
 * again, for some stores drop what they do not know (RGW 18 a size filter, which makes a rule of all objects): then the old
 * ones are put back. No rules is a 404 with a code of its own; stores that know no rules answer 501 or 405. Source: Amazon S3
 * API reference, GetBucketLifecycleConfiguration and PutBucketLifecycleConfiguration; RGW as measured in November 2026.
 */
import { createHash } from 'node:crypto';
import {
  DeleteBucketLifecycleCommand,
  GetBucketLifecycleConfigurationCommand,
  PutBucketLifecycleConfigurationCommand,
  type LifecycleRule as StoreRule,
  type TransitionDefaultMinimumObjectSize,
} from '@aws-sdk/client-s3';
import { BackupError, isBackupError } from '../errors.ts';
import type { Cancellable, LifecycleRule, ObjectStore } from '../ports.ts';
import { storeStatus } from './calls.ts';
import type { StoreContext } from './context.ts';

/** No rules, 404. Some stores answer 404 without this code. */
const NOT_FOUND = 404;
const NOT_KNOWN: readonly number[] = [501, 405];
/** Every element of a rule that the SDK reads and writes, by its name in the XML. */
const KNOWN_ELEMENTS: ReadonlySet<string> = new Set(
  `Rule ID Prefix Status Filter And Tag Key Value ObjectSizeGreaterThan ObjectSizeLessThan Expiration Days Date
  ExpiredObjectDeleteMarker Transition StorageClass NoncurrentVersionTransition NoncurrentVersionExpiration NoncurrentDays
  NewerNoncurrentVersions AbortIncompleteMultipartUpload DaysAfterInitiation`.split(/\s+/),
);

/** What the store said, of rules that came from it. */
const RAW = new WeakMap<LifecycleRule, StoreRule>();

interface Found {
  rules: StoreRule[];
  /** Of each rule. */
  unknown: string[][];
  /** Goes back to its default unless it is written again. */
  leastSize: TransitionDefaultMinimumObjectSize | undefined;
}

/** What reading takes. */
export type RulesContext = Pick<StoreContext, 'client' | 'calls' | 'bucket'>;

/** The rules; [] when there are none, undefined where the store knows none. Errors: `store_*`. */
export async function readLifecycle(
  context: RulesContext,
  options: Cancellable,
): Promise<LifecycleRule[] | undefined> {
  const found = await readRules(context, options);
  return found?.rules.map((rule, i) => {
    const read = toRule(rule, found.unknown[i] ?? []);
    RAW.set(read, rule);
    return read;
  });
}

/** Replaces the rules; see ObjectStore.putLifecycle. */
export async function writeLifecycle(
  context: StoreContext,
  { found, rules }: Parameters<ObjectStore['putLifecycle']>[0],
  options: Cancellable,
): Promise<void> {
  const now = await readRules(context, options);
  const before = found.map((rule) => RAW.get(rule));
  if (now === undefined || !isSame(now.rules, before)) {
    throw new BackupError(
      'precondition_failed',
      `find the rules of bucket ${context.bucket} as they were read: somebody changed them meanwhile`,
    );
  }
  const lost = rules.filter(({ unknown }) => unknown !== undefined);
  if (lost.length > 0) throw cannotWrite(context, lost);
  const wanted = rules.map((rule) => withFilter(RAW.get(rule) ?? fromRule(rule)));
  await replace(context, { rules: wanted, leastSize: now.leastSize }, options);
  const after = await readRules(context, options);
  const read = after?.rules ?? [];
  // an answer from before the write is no refusal: bucket settings are not read back at once everywhere
  if (means(read) === means(wanted) || isSame(read, now.rules)) return;
  await replace(context, now, options);
  throw new BackupError(
    'store_refused',
    `keep the rules of bucket ${context.bucket} as they were written: the store dropped something of them; the old ones are back`,
    { details: { written: wanted.map(plain), kept: read.map(plain) }, retry: 'after-fix' },
  );
}

async function readRules(
  { client, calls, bucket }: RulesContext,
  { signal }: Cancellable,
): Promise<Found | undefined> {
  let xml = '';
  const command = () => {
    const made = new GetBucketLifecycleConfigurationCommand({ Bucket: bucket });
    made.middlewareStack.add(
      (next) => async (args) => {
        const answer = await next(args);
        const response = answer.response as { body?: AsyncIterable<Uint8Array> };
        const bytes = await collect(response.body);
        xml = bytes.toString('utf8');
        Object.assign(response, { body: new Uint8Array(bytes) });
        return answer;
      },
      // nearest to the wire: the SDK reads the body after us
      { step: 'deserialize', priority: 'low', name: 'keepXml' },
    );
    return made;
  };
  try {
    const send = 'GetBucketLifecycleConfiguration';
    const answer = await calls(send, (to) => client.send(command(), to), { signal });
    const rules = answer.Rules ?? [];
    const leastSize = answer.TransitionDefaultMinimumObjectSize;
    return { rules, unknown: unknownElements(xml), leastSize };
  } catch (error) {
    if (!isBackupError(error, 'store_refused')) throw error;
    if (storeStatus(error) === NOT_FOUND) return { rules: [], unknown: [], leastSize: undefined };
    if (NOT_KNOWN.includes(storeStatus(error))) return undefined;
    throw error;
  }
}

async function collect(body: AsyncIterable<Uint8Array> | undefined): Promise<Buffer> {
  if (body === undefined) return Buffer.alloc(0);
  if (body instanceof Uint8Array) return Buffer.from(body);
  const pieces: Uint8Array[] = [];
  for await (const piece of body) pieces.push(piece);
  return Buffer.concat(pieces);
}

/** Of each rule in the XML the elements the SDK drops. */
function unknownElements(xml: string): string[][] {
  const rules = xml.match(/<Rule[\s>][\s\S]*?<\/Rule>/g) ?? [];
  return rules.map((rule) => {
    const names = [...rule.matchAll(/<([A-Za-z][\w:.-]*)/g)].map(([, name = '']) => name);
    return [...new Set(names)].filter((name) => !KNOWN_ELEMENTS.has(name));
  });
}

async function replace(
  { client, calls, bucket }: StoreContext,
  { rules, leastSize }: Pick<Found, 'rules' | 'leastSize'>,
  { signal }: Cancellable,
): Promise<void> {
  if (rules.length === 0) {
    const remove = () => new DeleteBucketLifecycleCommand({ Bucket: bucket });
    await calls('DeleteBucketLifecycle', (to) => client.send(remove(), to), { signal });
    return;
  }
  const command = () => {
    const made = new PutBucketLifecycleConfigurationCommand({
      Bucket: bucket,
      LifecycleConfiguration: { Rules: rules },
      ...(leastSize === undefined ? {} : { TransitionDefaultMinimumObjectSize: leastSize }),
    });
    made.middlewareStack.add(
      (next) => async (args) => {
        const { headers, body } = args.request as { headers: Record<string, string>; body: string };
        // older stores want it, newer ones take it beside the SDK's own checksum
        headers['content-md5'] = createHash('md5').update(body).digest('base64');
        return await next(args);
      },
      { step: 'build', name: 'contentMd5' },
    );
    return made;
  };
  await calls('PutBucketLifecycleConfiguration', (to) => client.send(command(), to), { signal });
}

function cannotWrite({ bucket }: StoreContext, rules: readonly LifecycleRule[]): BackupError {
  const told = rules.map(({ id, unknown = [] }) => `${id} (${unknown.join(', ')})`).join('; ');
  const text = `write the rules of bucket ${bucket}: these have elements that would be lost: ${told}`;
  return new BackupError('store_refused', text, { retry: 'after-fix' });
}

function isSame(a: readonly StoreRule[], b: readonly (StoreRule | undefined)[]): boolean {
  return JSON.stringify(a) === JSON.stringify(b);
}

/** What rules do, whatever their order and the spelling of their filters. */
function means(rules: readonly StoreRule[]): string {
  const lines = rules.map((rule) => {
    const tags = rule.Filter?.And?.Tags ?? (rule.Filter?.Tag ? [rule.Filter.Tag] : []);
    return JSON.stringify([plain(rule), tags.map(({ Key, Value }) => [Key, Value]).sort()]);
  });
  return lines.sort().join('\n');
}

/** Without what may differ between two spellings of one rule. */
function plain(rule: StoreRule): LifecycleRule {
  return toRule(rule, []);
}

/** Old rules have a Prefix of their own; S3 takes no mixture of these and those with a Filter. */
function withFilter(rule: StoreRule): StoreRule {
  const { Prefix: prefix, ...rest } = rule as StoreRule & { Prefix?: string };
  return rest.Filter !== undefined || prefix === undefined
    ? rule
    : { ...rest, Filter: { Prefix: prefix } };
}

function toRule(rule: StoreRule, unknown: readonly string[]): LifecycleRule {
  const { Filter: filter, Prefix: old = '' } = rule as StoreRule & { Prefix?: string };
  const and = filter?.And;
  const tags = and?.Tags?.length ? and.Tags : filter?.Tag && [filter.Tag];
  const largerThanBytes = and?.ObjectSizeGreaterThan ?? filter?.ObjectSizeGreaterThan;
  const smallerThanBytes = and?.ObjectSizeLessThan ?? filter?.ObjectSizeLessThan;
  const isNarrow = [tags, largerThanBytes, smallerThanBytes].some((one) => one !== undefined);
  const moves = rule.Transitions?.map(({ Days: days, Date: date, StorageClass = '' }) => ({
    ...given({ days, date: date?.getTime() }),
    storageClass: StorageClass as string,
  }));
  const noncurrentTransitions = rule.NoncurrentVersionTransitions?.map(
    ({ NoncurrentDays: days, StorageClass = '' }) => ({
      ...given({ days }),
      storageClass: StorageClass as string,
    }),
  );
  return {
    id: rule.ID ?? '',
    enabled: rule.Status === 'Enabled',
    prefix: and?.Prefix ?? filter?.Prefix ?? old,
    narrowed: isNarrow,
    ...(isNarrow ? { tagged: tags !== undefined } : {}),
    ...given({
      largerThanBytes,
      smallerThanBytes,
      expirationDays: rule.Expiration?.Days,
      expirationDate: rule.Expiration?.Date?.getTime(),
      abortDays: rule.AbortIncompleteMultipartUpload?.DaysAfterInitiation,
      noncurrentDays: rule.NoncurrentVersionExpiration?.NoncurrentDays,
      newerNoncurrent: rule.NoncurrentVersionExpiration?.NewerNoncurrentVersions,
      expiredMarkers: rule.Expiration?.ExpiredObjectDeleteMarker || undefined,
      transitions: moves?.length ? moves : undefined,
      noncurrentTransitions: noncurrentTransitions?.length ? noncurrentTransitions : undefined,
      unknown: unknown.length > 0 ? [...unknown] : undefined,
    }),
  };
}

/** Of a rule of our own: prefix, days, nothing that narrows it. */
function fromRule(rule: LifecycleRule): StoreRule {
  const { expirationDays, abortDays, noncurrentDays, expiredMarkers, transitions } = rule;
  const made = {
    ID: rule.id,
    Status: rule.enabled ? 'Enabled' : 'Disabled',
    Filter: { Prefix: rule.prefix },
    ...(expirationDays === undefined ? {} : { Expiration: { Days: expirationDays } }),
    ...(expiredMarkers ? { Expiration: { ExpiredObjectDeleteMarker: true } } : {}),
    ...(abortDays === undefined
      ? {}
      : { AbortIncompleteMultipartUpload: { DaysAfterInitiation: abortDays } }),
    ...(noncurrentDays === undefined
      ? {}
      : { NoncurrentVersionExpiration: { NoncurrentDays: noncurrentDays } }),
    ...(transitions === undefined
      ? {}
      : {
          Transitions: transitions.map(({ days, storageClass }) => ({
            Days: days,
            StorageClass: storageClass,
          })),
        }),
  };
  return made as StoreRule;
}

/** Without the fields that are not there. */
function given<T extends object>(fields: T): { [K in keyof T]?: Exclude<T[K], undefined> } {
  const there = Object.entries(fields).filter(([, value]) => value !== undefined);
  return Object.fromEntries(there) as { [K in keyof T]?: Exclude<T[K], undefined> };
}
