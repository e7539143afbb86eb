/**
 * Runs as they lie in the bucket (runs/<run id>.json) and as the API shows them: many machines in one call.
 *
 * A run is a list of machines with what became of each, and nothing else: the backups are made by ordinary jobs, one for
 * each machine. The id of a job is written into the run before the job is begun, so a run that is taken over after a crash
 * finds that job instead of starting a second one. `version` changes only when an older reader would misread the record.
 */
import { z } from 'zod';
import { parseTime } from '../time.ts';
import { backupRequestSchema, backupSchema, problemSchema, vmNameSchema } from './record.ts';

const bytes = z.int().nonnegative();
const time = z.iso.datetime();
const text = z.string().min(1).max(255);

/** A run that was told no deadline begins nothing after a day: the next one is due by then. */
export const DEFAULT_DEADLINE_SECONDS = 86_400;
/** As long as a run may take: a take-over looks this far back. */
export const MAX_DEADLINE_SECONDS = 7 * 86_400;
/** Names and tags in one request. */
const MAX_WORDS = 1000;

export const RUN_STATUSES = [
  'queued',
  'running',
  'succeeded',
  'partial',
  'failed',
  'cancelled',
] as const;
export const MACHINE_STATUSES = [
  'waiting',
  'running',
  'succeeded',
  'failed',
  'cancelled',
  'not_started',
] as const;

export const selectSchema = z
  .strictObject({
    all: z.boolean().default(false),
    tags: z.array(text).max(MAX_WORDS).default([]),
    names: z.array(text).max(MAX_WORDS).default([]),
    pool: z.string().min(1).optional(),
  })
  .refine(
    ({ all, tags, names }) => all !== tags.length + names.length > 0,
    'either all, or tags or names',
  );
export type RunSelect = z.infer<typeof selectSchema>;

const UNIT_SECONDS: Record<string, number> = { s: 1, m: 60, h: 3600, d: 86_400 };
const DURATION = /^(\d{1,8})([smhd])$/;

/** An instant (RFC 3339 with its offset), or how long from the start of the run: 90m, 8h, 2d. */
export const deadlineSchema = z.union([
  z.iso.datetime({ offset: true }),
  z.string().regex(DURATION, 'a time such as 2026-11-24T06:00:00Z, or 90m, 8h, 2d'),
]);

/** The body of POST /v1/runs: what of a backup's request holds for every machine, and which machines. */
export const runRequestSchema = backupRequestSchema.omit({ pool: true, hooks: true }).extend({
  select: selectSchema,
  skip: z.array(text).max(MAX_WORDS).default([]),
  deadline: deadlineSchema.optional(),
});
export type RunRequest = z.infer<typeof runRequestSchema>;

/** Of the backup, as far as a report tells it. */
const madeSchema = z.object({
  backup_id: z.uuid(),
  mode: z.enum(['full', 'delta']),
  size_bytes: bytes,
  read_bytes: bytes,
  sent_bytes: bytes,
  copied_bytes: bytes,
  duration_seconds: z.number().nonnegative(),
  /** Of its requests; absent in runs of older versions. */
  estimated_cost: backupSchema.shape.estimated_cost,
});

export const runMachineSchema = z.object({
  vm: vmNameSchema,
  status: z.enum(MACHINE_STATUSES),
  /** Written before the job is begun; of one that waits, an earlier instance may have begun it. */
  job_id: z.uuid().optional(),
  /** Of the disks that are backed up. */
  virtual_size_bytes: bytes.optional(),
  /** Disks that are not backed up, each with the reason. */
  left_out: z.array(z.string()).default([]),
  srs: z.array(z.object({ uuid: z.string(), name: z.string() })).default([]),
  /** Of one that waits: for what, as of the last look. */
  waiting_because: z.string().optional(),
  started_at: time.optional(),
  finished_at: time.optional(),
  made: madeSchema.optional(),
  error: problemSchema.optional(),
  warnings: z.array(z.string()).default([]),
});
export type RunMachine = z.infer<typeof runMachineSchema>;

export const runSkippedSchema = z.object({ vm: vmNameSchema, reason: z.string() });
export type RunSkipped = z.infer<typeof runSkippedSchema>;

export const runSchema = z.object({
  version: z.literal(1),
  id: z.uuid(),
  status: z.enum(RUN_STATUSES),
  request: runRequestSchema,
  /** Nothing is begun from here on. */
  deadline_at: time,
  created_at: time,
  started_at: time.optional(),
  finished_at: time.optional(),
  updated_at: time,
  cancel_requested: z.boolean(),
  triggered_by: z.string(),
  /** W3C Trace Context of who asked for it, where traces are sent. */
  traceparent: z.string().optional(),
  /** The instance that is at it, for people. */
  instance: z.string().optional(),
  /** Disks and storages were looked at, and the machines are in the order they are begun in. */
  planned: z.boolean(),
  machines: z.array(runMachineSchema),
  skipped: z.array(runSkippedSchema),
  /** Why the selection is not whole: a pool that does not answer, a name no machine has. None of it is a success. */
  problems: z.array(problemSchema),
  /** True, and no failure: an entry of the skip list that fits nothing. */
  notes: z.array(z.string()),
});
export type Run = z.infer<typeof runSchema>;

/** True when nothing will change any more. */
export function isRunEnded({ status }: Pick<Run, 'status'>): boolean {
  return status !== 'queued' && status !== 'running';
}

/** True when nothing will change any more for this machine. */
export function isMachineEnded({ status }: Pick<RunMachine, 'status'>): boolean {
  return status !== 'waiting' && status !== 'running';
}

/** What a run ends as, all its machines having ended. */
export function endOf(run: Pick<Run, 'machines' | 'problems' | 'cancel_requested'>): Run['status'] {
  const good = run.machines.filter(({ status }) => status === 'succeeded').length;
  const all = good === run.machines.length;
  if (all && run.problems.length === 0) return 'succeeded';
  if (run.cancel_requested && !all) return 'cancelled';
  return good > 0 ? 'partial' : 'failed';
}

/** Who asked for a job of this run: as with every job one line, from which `runBehind` reads the run again. */
export function askerOfJobs({ id, triggered_by }: Pick<Run, 'id' | 'triggered_by'>): string {
  return `${triggered_by} (run ${id})`;
}

/** The run that began a job, and who asked for that; undefined of a job that was asked for by itself. */
export function runBehind(triggeredBy: string): { by: string; runId: string } | undefined {
  const [, by, runId] = /^(.*) \(run ([0-9a-f-]{36})\)$/s.exec(triggeredBy) ?? [];
  return by === undefined || runId === undefined ? undefined : { by, runId };
}

/** How many machines are in each status, and how many were left out. */
export function countsOf({ machines, skipped }: Pick<Run, 'machines' | 'skipped'>) {
  const of = (status: RunMachine['status']) =>
    machines.filter((machine) => machine.status === status).length;
  return {
    selected: machines.length,
    waiting: of('waiting'),
    running: of('running'),
    succeeded: of('succeeded'),
    failed: of('failed'),
    cancelled: of('cancelled'),
    not_started: of('not_started'),
    skipped: skipped.length,
  };
}
export type RunCounts = ReturnType<typeof countsOf>;

/** The instant a deadline means for a run that starts now; never later than a run may take. */
export function deadlineAt(deadline: string | undefined, nowMs: number): number {
  const latest = nowMs + MAX_DEADLINE_SECONDS * 1000;
  if (deadline === undefined) return nowMs + DEFAULT_DEADLINE_SECONDS * 1000;
  const [, amount, unit] = DURATION.exec(deadline) ?? [];
  const at =
    amount === undefined
      ? parseTime(deadline)
      : nowMs + Number(amount) * (UNIT_SECONDS[unit ?? ''] ?? 0) * 1000;
  return Math.min(latest, at);
}
