/** Records for tests: valid ones, with what a test cares about put over them. */
import type { Backup, Job } from '../src/catalog/record.ts';
import { systemIds } from '../src/clock.ts';

let lastMs = 1_767_574_800_000;

/** A UUIDv7 a millisecond younger than the one before: real ones of one millisecond do not sort. */
export function nextId(): string {
  const time = (++lastMs).toString(16).padStart(12, '0');
  return `${time.slice(0, 8)}-${time.slice(8)}${systemIds.uuid().slice(13)}`;
}

export const VM_UUID = '9f0f4b1e-7a43-4b5c-9d11-111111111111';

/** A job that waits. */
export function sampleJob(over: Partial<Job> = {}): Job {
  const id = over.id ?? nextId();
  return {
    version: 1,
    id,
    kind: 'backup',
    status: 'queued',
    phase: 'preparing',
    vm: { uuid: VM_UUID, name: 'web', pool: 'dc1' },
    request: {
      mode: 'auto',
      retention: 'daily',
      exclude_disks: [],
      compression: 'none',
      dry_run: false,
      quiesce: 'never',
    },
    progress: { read_bytes: 0, sent_bytes: 0, copied_bytes: 0 },
    attempt: 1,
    created_at: '2026-01-05T01:00:00.000Z',
    updated_at: '2026-01-05T01:00:00.000Z',
    cancel_requested: false,
    triggered_by: 'test',
    checkpoint: { backup_id: systemIds.uuid(), excluded_disks: [], warnings: [] },
    ...over,
  };
}

/** A backup of a machine without disks. */
export function sampleBackup(over: Partial<Backup> = {}): Backup {
  const id = over.id ?? nextId();
  return {
    version: 1,
    id,
    job_id: systemIds.uuid(),
    vm: { uuid: VM_UUID, name: 'web', pool: 'dc1' },
    retention: 'daily',
    mode: 'full',
    mode_reason: 'full was asked for',
    compression: 'none',
    created_at: '2026-01-05T01:00:00.000Z',
    finished_at: '2026-01-05T01:00:09.000Z',
    archive: { key: 'k', size_bytes: 1, etag: '"e"', content_digest: '0' },
    index_key: 'i',
    disks: [],
    excluded_disks: [],
    power_state: 'Running',
    read_bytes: 1,
    sent_bytes: 1,
    copied_bytes: 0,
    duration_seconds: 9,
    export_seconds: 8,
    host: { address: '10.0.0.1', product_version: '8.3.0', xapi_version: '26.1.4' },
    triggered_by: 'test',
    warnings: [],
    ...over,
  };
}
