/** What is told of the days to come, for the description: its shape and an example. */
import { z } from 'zod';
import type { ForecastReport } from '../backup/forecast-service.ts';
import { BACKUP_EXAMPLE } from './examples.ts';

const bytes = z.int().nonnegative();
const time = z.iso.datetime();
const amount = z.number().nonnegative().optional();
const figures = {
  stored_bytes: bytes,
  backups: z.int().nonnegative(),
  cost: amount.meta({
    description:
      'Of storage, for this day; absent where XVAULT_S3_PRICES has no `stored_per_gb_month`.',
  }),
};

export const forecastSchema = z
  .object({
    checked_at: time,
    rules_from: z.enum(['bucket', 'settings']).meta({
      description:
        'settings: the rules of the bucket cannot be read, so XVAULT_RETENTION_DAYS counts.',
    }),
    currency: z.string().optional(),
    prices: z.string().optional().meta({ description: 'Whose, and of when.' }),
    days: z.array(
      z.object({
        date: z.string().meta({ description: 'UTC; the first is today, from now on.' }),
        ...figures,
        expected_bytes: bytes.meta({
          description: 'When backups go on as in the last two weeks.',
        }),
        expected_cost: amount,
        classes: z.record(z.string(), z.object(figures)).meta({
          description: 'By retention class; `pinned`: copies out of rotation.',
        }),
      }),
    ),
    vms: z.array(
      z.object({
        vm: z.object({ uuid: z.string(), name: z.string().optional(), pool: z.string() }),
        stored_bytes: bytes,
        backups: z.int().nonnegative(),
        stored_bytes_by_day: z.array(bytes),
        deletions: z
          .array(
            z.object({
              backup_id: z.string(),
              retention: z.string().optional(),
              expires_at: time,
              rule: z.string().optional(),
            }),
          )
          .meta({ description: 'What the rules delete in this time, the next first.' }),
      }),
    ),
  })
  .meta({
    id: 'Forecast',
    description: 'What is still stored on each of the days to come, under the rules in force.',
  });

const { vm, id, archive } = BACKUP_EXAMPLE;
const size = archive.size_bytes;

export const FORECAST_EXAMPLE: ForecastReport = {
  checked_at: '2026-11-23T05:00:03.120Z',
  rules_from: 'bucket',
  currency: 'USD',
  prices: 'AWS S3 Standard us-east-1, 2026-11',
  days: [
    {
      date: '2026-11-23',
      stored_bytes: size,
      backups: 1,
      cost: 0.0034,
      expected_bytes: size,
      expected_cost: 0.0034,
      classes: { daily: { stored_bytes: size, backups: 1, cost: 0.0034 } },
    },
    {
      date: '2026-11-24',
      stored_bytes: size,
      backups: 1,
      cost: 0.0034,
      expected_bytes: 2 * size,
      expected_cost: 0.0069,
      classes: { daily: { stored_bytes: size, backups: 1, cost: 0.0034 } },
    },
  ],
  vms: [
    {
      vm,
      stored_bytes: size,
      backups: 1,
      stored_bytes_by_day: [size, size],
      deletions: [
        {
          backup_id: id,
          retention: 'daily',
          expires_at: '2026-12-08T00:00:00.000Z',
          rule: 'xvault:daily',
        },
      ],
    },
  ],
};
