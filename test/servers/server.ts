/**
 * What every S3 server of the tests offers, whatever runs behind it.
 */
import { CreateBucketCommand, S3Client } from '@aws-sdk/client-s3';

export interface S3Server {
  name: 'embedded' | 'ceph' | 'r2';
  endpoint: string;
  endpointTls?: string;
  caPem?: string;
  accessKeyId: string;
  secretAccessKey: string;
  region: string;
  /** Buckets that exist already; on R2 the only ones there can be. */
  buckets?: string[];
  /** Makes a bucket and returns its name; on R2 the name of one not handed out yet. */
  createBucket(name: string, options?: { objectLock?: boolean }): Promise<string>;
  stop(): Promise<void>;
}

/** Why a server is not there on this machine. */
export interface Skipped {
  skipped: string;
}

/** A server just started makes one in a second; one that has not by then is asked again, a few times. */
const BUCKET_TIMEOUT_MS = 20_000;
const BUCKET_TRIES = 3;

/** `createBucket` for servers that have the call. */
export function bucketMaker(
  server: Pick<S3Server, 'endpoint' | 'accessKeyId' | 'secretAccessKey' | 'region'>,
): S3Server['createBucket'] {
  const { endpoint, region, accessKeyId, secretAccessKey } = server;
  return async (name, options = {}) => {
    const credentials = { accessKeyId, secretAccessKey };
    const client = new S3Client({ endpoint, region, credentials, forcePathStyle: true });
    const lock = options.objectLock && { ObjectLockEnabledForBucket: true };
    try {
      for (let tries = BUCKET_TRIES; ; tries--) {
        const abortSignal = AbortSignal.timeout(BUCKET_TIMEOUT_MS);
        try {
          await client.send(new CreateBucketCommand({ Bucket: name, ...lock }), { abortSignal });
          return name;
        } catch (error) {
          // the answer to an earlier try may have been what was missing
          if (tries < BUCKET_TRIES && isOurs(error)) return name;
          if (tries === 1 || !abortSignal.aborted) throw error;
        }
      }
    } finally {
      client.destroy();
    }
  };
}

const isOurs = (error: unknown) =>
  error instanceof Error && error.name === 'BucketAlreadyOwnedByYou';

/** False when `XVAULT_TEST_SERVERS` names others only. */
export function isWanted(name: S3Server['name']): boolean {
  const wanted = process.env.XVAULT_TEST_SERVERS;
  return wanted === undefined || wanted.split(',').includes(name);
}
