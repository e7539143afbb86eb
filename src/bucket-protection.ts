/**
 * What a bucket does by itself to protect what is put into it: encryption at rest, object lock. Part of the store's port.
 */

export interface BucketEncryption {
  /** `none`, or as the store calls it: AES256, aws:kms, aws:kms:dsse. */
  algorithm: string;
  keyId?: string;
}

export interface BucketLock {
  /** Objects can be locked here; the bucket is versioned then. */
  enabled: boolean;
  /** Whatever is put into it is locked so. */
  byDefault?: { mode: 'governance' | 'compliance'; days: number };
}

export interface BucketProtection {
  /** What the bucket encrypts by default; undefined where the store has no such setting. */
  bucketEncryption(options: { signal: AbortSignal }): Promise<BucketEncryption | undefined>;
  /** Its object lock; undefined where the store has none. */
  bucketLock(options: { signal: AbortSignal }): Promise<BucketLock | undefined>;
}
