/**
 * The settings of deltas: how much of what was joined in the store is read back, and what requests cost.
 *
 * The prices only turn counts into an estimate beside each backup; nothing is decided by them.
 */
import { z } from 'zod';
import { DEFAULT_PRICES, pricesSchema } from './prices.ts';
import type { SettingMeta } from './settings-table.ts';

/** Of the joints between copied and sent bytes. */
export const DEFAULT_SEAM_CHECK_PERCENT = 2;

const jsonPrices = z
  .string()
  .trim()
  .min(1)
  .transform((value, context): unknown => {
    try {
      return JSON.parse(value);
    } catch {
      context.addIssue({ code: 'custom', message: 'expected JSON' });
      return z.NEVER;
    }
  })
  .pipe(pricesSchema);

const percentError = 'expected a number, 0 to 100';

/** As parts of the settings object. */
export const deltaSettings = {
  XVAULT_SEAM_CHECK_PERCENT: z.coerce
    .number(percentError)
    .pipe(z.number(percentError).min(0, percentError).max(100, percentError))
    .default(DEFAULT_SEAM_CHECK_PERCENT)
    .meta({
      group: 'Bucket',
      description:
        'On stores that give no checksum of whole objects: how many of the places where copied and sent bytes meet are read back and checked after each delta, three at least. 0 checks none. See docs/delta.md.',
      example: '10',
    } satisfies SettingMeta),
  XVAULT_S3_PRICES: jsonPrices.default(DEFAULT_PRICES).meta({
    group: 'Bucket',
    description:
      'JSON: what the provider asks for requests and bytes, for the estimate beside each backup: `currency`, `as_of`, `upload_per_1000`, `copy_per_1000`, `read_per_1000`, `sent_per_gb`, `copied_per_gb`, and `stored_per_gb_month`, a table by storage class, for the forecast of docs/rotation.md.',
    example:
      '{"currency":"EUR","as_of":"our Ceph, 2026-11","upload_per_1000":0,"copy_per_1000":0,"read_per_1000":0}',
    defaultText: 'the prices of AWS S3 Standard in us-east-1, November 2026',
  } satisfies SettingMeta),
};
