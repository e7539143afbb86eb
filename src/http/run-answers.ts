/** Runs as the API shows them: the record with counts and links, its shape for the description, and an example. */
import { z } from 'zod';
import { countsOf, isRunEnded, type Run, type RunCounts, runSchema } from '../catalog/run.ts';
import { BACKUP_EXAMPLE } from './examples.ts';
import { httpProblemSchema } from './schemas.ts';

export type RunView = Run & {
  counts: RunCounts;
  links: { self: string; cancel?: string };
};

/** A run with its counts and links. */
export function runView(run: Run): RunView {
  const self = `/v1/runs/${run.id}`;
  return {
    ...run,
    counts: countsOf(run),
    links: { self, ...(isRunEnded(run) ? {} : { cancel: `${self}/cancel` }) },
  };
}

const count = z.int().nonnegative();

export const runAnswerSchema = runSchema
  .extend({
    problems: z.array(httpProblemSchema),
    counts: z.object({
      selected: count,
      waiting: count,
      running: count,
      succeeded: count,
      failed: count,
      cancelled: count,
      not_started: count,
      skipped: count,
    }),
    links: z.object({ self: z.string(), cancel: z.string().optional() }),
  })
  .meta({ id: 'Run' });

export const runListSchema = z
  .object({ runs: z.array(runAnswerSchema), next_page_token: z.string() })
  .meta({ id: 'RunList' });

const { vm, archive } = BACKUP_EXAMPLE;

const RUN: Run = {
  version: 1,
  id: '019ab0e0-4b1d-7f30-9c55-2d3e4f5a6b7c',
  status: 'running',
  request: {
    mode: 'auto',
    retention: 'daily',
    exclude_disks: [],
    compression: 'none',
    dry_run: false,
    quiesce: 'never',
    select: { all: true, tags: [], names: [] },
    skip: ['test-'],
    deadline: '8h',
  },
  deadline_at: '2026-11-23T10:00:00.412Z',
  created_at: '2026-11-23T02:00:00.412Z',
  started_at: '2026-11-23T02:00:02.913Z',
  updated_at: '2026-11-23T02:02:10.077Z',
  cancel_requested: false,
  triggered_by: 'nightly',
  instance: 'xvault-1',
  planned: true,
  machines: [
    {
      vm,
      status: 'succeeded',
      job_id: BACKUP_EXAMPLE.job_id,
      virtual_size_bytes: 21_474_836_480,
      left_out: [],
      srs: [{ uuid: '8f7e6d5c-4b3a-4291-a0b1-c2d3e4f5a6b7', name: 'NFS store' }],
      started_at: '2026-11-23T02:00:03.120Z',
      finished_at: BACKUP_EXAMPLE.finished_at,
      made: {
        backup_id: BACKUP_EXAMPLE.id,
        mode: BACKUP_EXAMPLE.mode,
        size_bytes: archive.size_bytes,
        read_bytes: BACKUP_EXAMPLE.read_bytes,
        sent_bytes: BACKUP_EXAMPLE.sent_bytes,
        copied_bytes: BACKUP_EXAMPLE.copied_bytes,
        duration_seconds: BACKUP_EXAMPLE.duration_seconds,
        estimated_cost: BACKUP_EXAMPLE.estimated_cost,
      },
      warnings: [],
    },
    {
      vm: { uuid: 'b7c1d2e3-4f5a-4b6c-8d7e-9f0a1b2c3d4e', name: 'db-1', pool: vm.pool },
      status: 'waiting',
      virtual_size_bytes: 107_374_182_400,
      left_out: ['disk 2 (scratch [nobackup]): marked [nobackup]'],
      srs: [{ uuid: '8f7e6d5c-4b3a-4291-a0b1-c2d3e4f5a6b7', name: 'NFS store' }],
      warnings: [],
    },
  ],
  skipped: [
    {
      vm: { uuid: 'd0e1f2a3-b4c5-4d6e-8f7a-8b9c0d1e2f3a', name: 'test-7', pool: vm.pool },
      reason: 'test- is in the skip list',
    },
  ],
  problems: [],
  notes: [],
};

export const RUN_EXAMPLE = runView(RUN);

/** A new copy of the example's record. */
export function exampleRun(): Run {
  return structuredClone(RUN);
}
