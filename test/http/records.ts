/** Records for tests of the HTTP front: the examples of the description, turned back into what the bucket holds. */
import type { Backup, Job } from '../../src/catalog/record.ts';
import { BACKUP_EXAMPLE, JOB_EXAMPLE } from '../../src/http/examples.ts';

/** A finished backup of web-1. */
export function exampleBackup(): Backup {
  const { links: _, ...backup } = BACKUP_EXAMPLE;
  return backup;
}

/** A running job for web-1. */
export function exampleJob(): Job {
  const { links: _, checkpoint: _none, result: _result, ...job } = JOB_EXAMPLE;
  const { percent: _percent, ...progress } = job.progress;
  return {
    ...job,
    request: job.request as Job['request'],
    progress,
    checkpoint: { backup_id: BACKUP_EXAMPLE.id, excluded_disks: [], warnings: ['engine only'] },
  };
}

/** The same job, done. */
export function endedJob(): Job {
  return {
    ...exampleJob(),
    status: 'succeeded',
    phase: 'cleaning',
    finished_at: '2026-11-23T02:01:45.002Z',
    result: exampleBackup(),
  };
}
