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

/** `createBucket` for servers that have the call. */
export function bucketMaker(
  server: Pick<S3Server, 'endpoint' | 'accessKeyId' | 'secretAccessKey' | 'region'>,
): S3Server['createBucket'] {
  const { endpoint, region, accessKeyId, secretAccessKey } = server;
  return async (name, options = {}) => {
    const credentials = { accessKeyId, secretAccessKey };
    const client = new S3Client({ endpoint, region, credentials, forcePathStyle: true });
    try {
      const lock = options.objectLock && { ObjectLockEnabledForBucket: true };
      await client.send(new CreateBucketCommand({ Bucket: name, ...lock }));
      return name;
    } finally {
      client.destroy();
    }
  };
}

/** False when `XVAULT_TEST_SERVERS` names others only. */
export function isWanted(name: S3Server['name']): boolean {
  const wanted = process.env.XVAULT_TEST_SERVERS;
  return wanted === undefined || wanted.split(',').includes(name);
}
