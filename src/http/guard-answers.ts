/** What the guard of last good backups answers, for the description: its shape and an example. */
import { z } from 'zod';
import type { GuardReport } from '../backup/guard-service.ts';
import { BACKUP_EXAMPLE } from './examples.ts';

const time = z.iso.datetime();
const bytes = z.int().nonnegative();
const count = z.int().nonnegative();
const STATES = ['safe', 'renewed', 'pinned', 'due', 'released', 'none', 'failed'] as const;

export const guardStateSchema = z.enum(STATES).meta({
  description:
    'safe: it lasts longer than the margin. renewed: a copy of ours keeps it. pinned: a copy somebody wished does. due: the bucket ' +
    'deletes it within the margin, and nothing keeps it yet. released: somebody gave it up. none: there is no good backup. ' +
    'failed: it could not be looked at, copied or released.',
});

export const guardReportSchema = z
  .object({
    dry_run: z.boolean(),
    started_at: time,
    finished_at: time,
    margin_seconds: z.number().nonnegative(),
    rules_from: z.enum(['bucket', 'settings']).meta({
      description:
        'settings: the rules of the bucket cannot be read, so XVAULT_RETENTION_DAYS counts.',
    }),
    counts: z.object(
      Object.fromEntries(STATES.map((state) => [state, count])) as Record<
        (typeof STATES)[number],
        typeof count
      >,
    ),
    vms: z.array(
      z.object({
        vm: z.object({ uuid: z.string(), name: z.string().optional(), pool: z.string() }),
        guard: guardStateSchema,
        backup_id: z.string().optional(),
        expires_at: time.optional(),
        rule: z.string().optional(),
        renewed_bytes: bytes.optional(),
        released: z.array(z.string()).optional(),
        would_renew: z.boolean().optional(),
        would_release: z.array(z.string()).optional(),
        busy: z.boolean().optional(),
        error: z.object({ code: z.string(), detail: z.string() }).optional(),
      }),
    ),
  })
  .meta({ id: 'GuardReport' });

const { vm, id, archive } = BACKUP_EXAMPLE;

export const GUARD_EXAMPLE: GuardReport = {
  dry_run: false,
  started_at: '2026-11-23T05:00:03.120Z',
  finished_at: '2026-11-23T05:00:41.377Z',
  margin_seconds: 259_200,
  rules_from: 'bucket',
  counts: { safe: 0, renewed: 1, pinned: 0, due: 0, released: 0, none: 0, failed: 0 },
  vms: [
    {
      vm,
      guard: 'renewed',
      backup_id: id,
      renewed_bytes: archive.size_bytes,
    },
  ],
};
