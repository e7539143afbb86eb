/** What the files of this adapter share. */
import type { S3Client } from '@aws-sdk/client-s3';
import type { Arena, Log, Meter } from '../ports.ts';
import type { Calls } from './calls.ts';
import type { Crc32Thread } from './crc32-thread.ts';
import type { Quirks } from './quirks.ts';
import type { RetryBudget } from './retry.ts';

/** One bucket as this adapter sees it. */
export interface StoreContext {
  client: S3Client;
  bucket: string;
  endpoint: string;
  calls: Calls;
  quirks: Quirks;
  log: Log;
  meter: Meter;
  arena: Arena;
  crc32s: Crc32Thread;
  /** Replaces TRANSFER_BUDGET. */
  transferBudget: RetryBudget | undefined;
}
