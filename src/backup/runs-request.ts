/** A request for a run becomes a run: which machines, which not and why, until when. Nothing is recorded here. */
import { problemOf } from '../catalog/problem.ts';
import { deadlineAt, type Run, type RunMachine } from '../catalog/run.ts';
import { BackupError, toBackupError } from '../errors.ts';
import type { Cancellable, Pool } from '../ports.ts';
import { formatTime } from '../time.ts';
import { checkClass } from './choose-class.ts';
import { type Engine, poolOf } from './context.ts';
import { checkMode } from './delta-mode.ts';
import type { RunInput } from './runs.ts';
import { type Candidate, selectMachines } from './runs-select.ts';

/** Machines in one run: its record is written whenever something changed. */
const MAX_MACHINES = 2000;

/** The run the request means, not recorded yet. Errors: see `startRun`. */
export async function selectRun(
  engine: Engine,
  { input, instance }: { input: RunInput; instance: string },
  options: Cancellable,
): Promise<Run> {
  const { request, triggeredBy, runId } = input;
  checkClass(request.retention, engine.retentionClasses);
  if (request.mode === 'delta') checkMode(request, await engine.store.facts(options));
  const { candidates, problems } = await candidatesOf(engine, request.select.pool, options);
  const { selected, skipped, missing, notes } = selectMachines(candidates, request);
  if (selected.length === 0 && !request.dry_run) {
    throw new BackupError('not_found', 'select machines: none is left to back up', {
      details: { skipped, missing, notes, problems: problems.map(({ detail }) => detail) },
    });
  }
  if (selected.length > MAX_MACHINES) {
    throw new BackupError(
      'invalid_request',
      `select machines: ${selected.length} are too many for one run, at most ${MAX_MACHINES}`,
      { details: { field: 'select', selected: selected.length, limit: MAX_MACHINES } },
    );
  }
  const nowMs = engine.clock.now();
  const deadlineMs = deadlineAt(request.deadline, nowMs);
  if (deadlineMs <= nowMs) {
    throw new BackupError('invalid_request', `keep the deadline ${request.deadline}: it is over`, {
      details: { field: 'deadline' },
    });
  }
  const absent = missing.map((name) =>
    problemOf(
      new BackupError('not_found', `find machine ${name}: no machine of that uuid or name`, {
        details: { vm: name },
      }),
    ),
  );
  const now = formatTime(nowMs);
  return {
    version: 1,
    id: runId ?? engine.ids.uuid(),
    status: 'queued',
    request,
    deadline_at: formatTime(deadlineMs),
    created_at: now,
    updated_at: now,
    cancel_requested: false,
    triggered_by: triggeredBy,
    instance,
    planned: false,
    machines: selected.map(
      ({ vm }): RunMachine => ({
        vm,
        status: 'waiting',
        left_out: [],
        srs: [],
        warnings: [],
      }),
    ),
    skipped,
    problems: [...problems, ...absent],
    notes,
  };
}

/** Every ordinary machine of the pools asked; a pool that does not answer is a problem, unless none does. */
async function candidatesOf(engine: Engine, poolName: string | undefined, options: Cancellable) {
  const pools: Pool[] =
    poolName === undefined ? [...engine.pools.values()] : [poolOf(engine, poolName)];
  const answers = await Promise.allSettled(pools.map((pool) => pool.listVms(options)));
  options.signal.throwIfAborted();
  const candidates: Candidate[] = [];
  const errors: BackupError[] = [];
  for (const [at, answer] of answers.entries()) {
    const pool = (pools[at] as Pool).name;
    if (answer.status === 'rejected') {
      errors.push(toBackupError(answer.reason));
      continue;
    }
    for (const { uuid, nameLabel, tags } of answer.value) {
      candidates.push({ vm: { uuid, name: nameLabel, pool }, tags });
    }
  }
  const [first] = errors;
  if (first !== undefined && errors.length === pools.length) throw first;
  return { candidates, problems: errors.map((error) => problemOf(error)) };
}
