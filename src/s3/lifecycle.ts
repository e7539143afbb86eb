/**
 * Reads the lifecycle rules of the bucket: what the store removes by itself.
 *
 * Only read, so that what is missing can be told. No rules is a 404 with a code of its own; stores that know no rules
 * answer 501 or 405. Source: Amazon S3 API reference, GetBucketLifecycleConfiguration.
 */
import {
  GetBucketLifecycleConfigurationCommand,
  type LifecycleRule as StoreRule,
} from '@aws-sdk/client-s3';
import { isBackupError } from '../errors.ts';
import type { Cancellable, LifecycleRule } from '../ports.ts';
import { storeStatus } from './calls.ts';
import type { StoreContext } from './context.ts';

/** No rules, 404. Some stores answer 404 without this code. */
const NOT_FOUND = 404;
const NOT_KNOWN: readonly number[] = [501, 405];

/** The rules; [] when there are none, undefined where the store knows none. Errors: `store_*`. */
export async function readLifecycle(
  { client, calls, bucket }: StoreContext,
  { signal }: Cancellable,
): Promise<LifecycleRule[] | undefined> {
  const command = () => new GetBucketLifecycleConfigurationCommand({ Bucket: bucket });
  try {
    const send = 'GetBucketLifecycleConfiguration';
    const { Rules = [] } = await calls(send, (to) => client.send(command(), to), { signal });
    return Rules.map(toRule);
  } catch (error) {
    if (!isBackupError(error, 'store_refused')) throw error;
    if (storeStatus(error) === NOT_FOUND) return [];
    if (NOT_KNOWN.includes(storeStatus(error))) return undefined;
    throw error;
  }
}

function toRule(rule: StoreRule): LifecycleRule {
  const { Filter: filter, Prefix: old = '' } = rule;
  const and = filter?.And;
  const narrowing = [
    filter?.Tag,
    filter?.ObjectSizeGreaterThan,
    filter?.ObjectSizeLessThan,
    and?.Tags?.length === 0 ? undefined : and?.Tags,
    and?.ObjectSizeGreaterThan,
    and?.ObjectSizeLessThan,
  ];
  const expirationDays = rule.Expiration?.Days;
  const abortDays = rule.AbortIncompleteMultipartUpload?.DaysAfterInitiation;
  return {
    id: rule.ID ?? '',
    enabled: rule.Status === 'Enabled',
    prefix: and?.Prefix ?? filter?.Prefix ?? old,
    narrowed: narrowing.some((one) => one !== undefined),
    ...(expirationDays === undefined ? {} : { expirationDays }),
    ...(abortDays === undefined ? {} : { abortDays }),
  };
}
