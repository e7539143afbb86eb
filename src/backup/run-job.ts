/** One job from its turn to its end, or to its next attempt, in this process. */
import type { Versioned } from '../catalog/job-store.ts';
import type { Job } from '../catalog/record.ts';
import { type BackupError, toBackupError } from '../errors.ts';
import type { Engine } from './context.ts';
import { type DriveInput, drive } from './drive.ts';
import { describeOutcome, inJobSpan } from './traced.ts';
import type { RetryPolicy } from './try-again.ts';

/** What jobs need to know of the settings. */
export interface JobSettings {
  instance: string;
  retry: RetryPolicy;
  onLeaseLost?: () => void;
  /** Its end is written down and its lease given back. */
  onEnded?: (job: Job) => void;
}

/** What became of it: one of the three. */
export interface Outcome {
  /** It waits for its next attempt. */
  again?: Versioned;
  ended?: Job;
  error?: BackupError;
}

/** Drives one job; why it was given up is logged and told: whoever finds its lease free goes on. */
export async function runJob(input: DriveInput): Promise<Outcome> {
  return await inJobSpan(input.engine, input.state.job, () => begin(input));
}

async function begin(input: DriveInput): Promise<Outcome> {
  const { engine, state } = input;
  const { attempt, phase, triggered_by } = state.job;
  engine.log.info('job begins', { ...namesOf(state.job), attempt, phase, triggered_by });
  engine.meter.count('jobs_running', 1);
  try {
    const left = await drive(input);
    report(engine, left.job);
    describeOutcome(engine, left.job);
    return left.job.status === 'queued' ? { again: left } : { ended: left.job };
  } catch (thrown) {
    const error = toBackupError(thrown);
    const { code, message } = error;
    engine.log.error('job given up', { ...namesOf(state.job), code, error: message });
    return { error };
  } finally {
    engine.meter.count('jobs_running', -1);
  }
}

/** Whatever a line says of a job, it can be found by these. */
function namesOf({ id, kind, vm }: Job): Record<string, string> {
  return { job_id: id, kind, vm_uuid: vm.uuid, pool: vm.pool };
}

function report(engine: Engine, job: Job): void {
  const { log, meter } = engine;
  const seconds = job.result?.duration_seconds ?? 0;
  const fields = { ...namesOf(job), status: job.status };
  if (job.status === 'queued') {
    const { attempt, next_attempt_at: at, last_error: error } = job;
    const code = error?.code ?? '';
    log.info('job is tried again', { ...fields, attempt, next_attempt_at: at, code });
    meter.count('job_retries_total', 1, { code });
    return;
  }
  log.info('job ended', { ...fields, seconds, ...(job.error ? { code: job.error.code } : {}) });
  if (job.kind !== 'backup' || job.request.dry_run) return;
  meter.count('backups_total', 1, { mode: job.result?.mode ?? 'full', result: job.status });
  if (job.result) meter.observe('backup_duration_seconds', seconds, { pool: job.vm.pool });
}
