/** What a provider asks for requests and bytes: a table the user may set, for the estimate beside each backup. */
import { z } from 'zod';

/** What the provider asks for, in `currency`. */
export const pricesSchema = z.strictObject({
  currency: z.string().min(1).max(10),
  /** Whose prices, and of when: shown beside every estimate. */
  as_of: z.string().min(1).max(100),
  /** PUT, POST, parts sent. */
  upload_per_1000: z.number().nonnegative(),
  /** Parts copied. */
  copy_per_1000: z.number().nonnegative(),
  /** GET, HEAD. */
  read_per_1000: z.number().nonnegative(),
  sent_per_gb: z.number().nonnegative().default(0),
  copied_per_gb: z.number().nonnegative().default(0),
  /** Storage class → for a GiB and month; a class that is not in it costs as STANDARD. Without it no cost of storage is told. */
  stored_per_gb_month: z.record(z.string(), z.number().nonnegative()).optional(),
});
export type Prices = z.output<typeof pricesSchema>;

/** S3 Standard, us-east-1, as listed in November 2026; bytes into and inside a region are free. */
export const DEFAULT_PRICES: Prices = {
  currency: 'USD',
  as_of: 'AWS S3 Standard us-east-1, 2026-11',
  upload_per_1000: 0.005,
  copy_per_1000: 0.005,
  read_per_1000: 0.0004,
  sent_per_gb: 0,
  copied_per_gb: 0,
  stored_per_gb_month: {
    STANDARD: 0.023,
    INTELLIGENT_TIERING: 0.023,
    STANDARD_IA: 0.0125,
    ONEZONE_IA: 0.01,
    GLACIER_IR: 0.004,
    GLACIER: 0.0036,
    DEEP_ARCHIVE: 0.00099,
  },
};
