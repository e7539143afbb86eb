/** Whether the bucket keeps old versions. Source: Amazon S3 API reference, GetBucketVersioning. */
import { GetBucketVersioningCommand } from '@aws-sdk/client-s3';
import { isBackupError } from '../errors.ts';
import type { Cancellable, ObjectStore } from '../ports.ts';
import { storeStatus } from './calls.ts';
import type { StoreContext } from './context.ts';

/** Of stores that have no versions. */
const NOT_KNOWN: readonly number[] = [501, 405, 404];

/** As ObjectStore.versioning. */
export async function readVersioning(
  { client, calls, bucket }: StoreContext,
  { signal }: Cancellable,
): ReturnType<ObjectStore['versioning']> {
  const command = () => new GetBucketVersioningCommand({ Bucket: bucket });
  try {
    const answer = await calls('GetBucketVersioning', (to) => client.send(command(), to), {
      signal,
    });
    if (answer.Status === 'Enabled') return 'enabled';
    return answer.Status === 'Suspended' ? 'suspended' : 'never';
  } catch (error) {
    if (isBackupError(error, 'store_refused') && NOT_KNOWN.includes(storeStatus(error))) {
      return undefined;
    }
    throw error;
  }
}
