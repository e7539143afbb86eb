/** `retention: auto` becomes a class when the job starts, by the calendar and by what is listed of the machine then. */
import { AUTO, CALENDAR_CLASSES, chooseClass } from '../catalog/classes.ts';
import type { Job } from '../catalog/record.ts';
import { BackupError } from '../errors.ts';
import type { StepContext } from './context.ts';
import { uuidTimeMs } from './ids.ts';

/** Refuses a class that no rule of the bucket would ever empty, such as a misspelt one. Errors: `invalid_request`. */
export function checkClass(retention: string, classes: readonly string[]): void {
  const known = retention === AUTO ? CALENDAR_CLASSES : [retention];
  if (known.some((name) => classes.includes(name))) return;
  const there = `there are ${classes.join(', ')}`;
  const text =
    retention === AUTO
      ? `choose retention: auto needs one of ${CALENDAR_CLASSES.join(', ')} in XVAULT_RETENTION_DAYS, ${there}`
      : `choose retention: no class ${retention} in XVAULT_RETENTION_DAYS, ${there}`;
  throw new BackupError('invalid_request', text, { details: { field: 'retention', classes } });
}

/** The job with its class, decided once: an attempt that is made again has it already. Errors: the store's. */
export async function withClass(job: Job, { engine }: StepContext): Promise<Job> {
  if (job.request.retention !== AUTO) return job;
  const entries = await engine.catalog.entries({ vmUuid: job.vm.uuid, pool: job.vm.pool });
  const choice = chooseClass({
    listed: entries.map(({ retention, backupId }) => ({
      retention,
      createdAtMs: uuidTimeMs(backupId),
    })),
    createdAtMs: uuidTimeMs(job.checkpoint.backup_id),
    timeZone: engine.rotation.timeZone,
    classes: engine.retentionClasses,
  });
  // of a job that another instance began, under other settings
  if (choice === undefined) {
    checkClass(AUTO, engine.retentionClasses);
    return job;
  }
  return {
    ...job,
    request: { ...job.request, retention: choice.retention },
    checkpoint: { ...job.checkpoint, retention_reason: choice.reason },
  };
}
