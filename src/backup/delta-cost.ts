/** What a backup's requests cost by the table of XVAULT_S3_PRICES: an estimate for people, nothing is decided by it. */
import type { Backup } from '../catalog/record.ts';
import type { UploadCounters } from '../ports.ts';
import type { Prices } from '../prices.ts';

export interface Work {
  /** Of the upload: requests, and bytes that have a price. */
  counters: Readonly<
    Pick<
      UploadCounters,
      | 'requests'
      | 'uploadRequests'
      | 'copyRequests'
      | 'retries'
      | 'sentBytes'
      | 'copiedBytes'
      | 'joinedBytes'
    >
  >;
  /** Ranges of the base's index and of the new archive that were read. */
  reads: number;
}

/** Requests of all kinds, tries included. */
export function requestsOf({ counters, reads }: Work): NonNullable<Backup['requests']> {
  const { requests, uploadRequests, copyRequests, retries } = counters;
  return {
    total: requests + reads,
    uploads: uploadRequests,
    copies: copyRequests,
    reads,
    retries,
  };
}

/** Amounts have six digits behind the point: a request costs some millionths. */
export function costOf(work: Work, prices: Prices): NonNullable<Backup['estimated_cost']> {
  const { total, copies, reads } = requestsOf(work);
  // beginning, completing and looking are priced as uploads, by which they are never too low
  const uploads = total - copies - reads;
  const { sentBytes, copiedBytes, joinedBytes } = work.counters;
  const amount =
    (uploads * prices.upload_per_1000 +
      copies * prices.copy_per_1000 +
      reads * prices.read_per_1000) /
      1000 +
    (sentBytes * prices.sent_per_gb + (copiedBytes + joinedBytes) * prices.copied_per_gb) / 1e9;
  return {
    amount: Math.round(amount * 1e6) / 1e6,
    currency: prices.currency,
    prices: prices.as_of,
  };
}
