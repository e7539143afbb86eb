/**
 * What runs that died may have left on a pool: found by our prefix, removed one at a time.
 *
 * A snapshot has the prefix in its name, which VM.snapshot writes together with the snapshot itself. A disk hangs on
 * nothing when somebody destroyed the snapshot's record (VM.destroy deletes no disks): it is known by the marker in its
 * own other_config, and by its uuid in there, because clones and snapshots of a disk inherit the whole map. A task has
 * the prefix in its description, which `task.create` takes: its other_config is not ours to write with the role vm-power-admin, as far as we know.
 * What a restore brought in has its mark (import-remains.ts).
 * Everything is read again before it is removed: between two looks a person may have renamed or attached it.
 */
import { BackupError } from '../errors.ts';
import { type ImportRemains, RESTORE_MARK } from '../imports.ts';
import type { Cancellable, PoolLeftover, VmRef } from '../ports.ts';
import { isXapiError } from './errors.ts';
import { date, flag, text, textMap, texts, toRecords, type XapiRecord } from './fields.ts';
import { findImported, removeImported } from './import-remains.ts';
import { DISK_KEY, destroyDisk, readIfThere, removeSnapshot, toSnapshotFacts } from './snapshot.ts';
import type { TaskDeps } from './task.ts';

const SNAPSHOTS = 'field "is_a_snapshot"="true"';

/** Everything that carries the prefix, of living jobs, too; snapshots first. */
export async function findLeftovers(
  deps: TaskDeps,
  { prefix }: { prefix: string },
  options: Cancellable,
): Promise<PoolLeftover[]> {
  const { session } = deps;
  const read = async (method: string, params: string[]) =>
    [...toRecords(await session.call(method, params, options))].map(([ref, record]) => ({
      ref,
      record,
    }));
  const vms = await read('VM.get_all_records_where', [SNAPSHOTS]);
  const vdis = await read('VDI.get_all_records_where', [SNAPSHOTS]);
  const tasks = await read('task.get_all_records', []);
  const restored = await findImported(deps, {}, options);
  return [
    ...vms
      .filter(({ record }) => flag(record, 'is_a_snapshot'))
      .map((vm) => leftover('snapshot', vm, { prefix, label: 'name_label', at: 'snapshot_time' }))
      .filter(({ label }) => label.startsWith(prefix)),
    ...vdis
      .filter(({ record }) => isOrphan(record))
      .map((vdi) => leftover('snapshot_disk', vdi, { prefix, at: 'snapshot_time' })),
    ...tasks
      .filter(({ record }) => !isGoing(record))
      .map((task) => leftover('task', task, { prefix, label: 'name_description', at: 'created' }))
      .filter(({ label }) => label.startsWith(prefix)),
    ...restored.map(restoredLeftover).filter(({ label }) => label.startsWith(prefix)),
  ];
}

const RESTORED = { machine: 'restored_machine', disk: 'restored_disk' } as const;
/** Of jobs, as in the names of their snapshots. */
const LABEL_PREFIX = 'xvault:';

function restoredLeftover(found: ImportRemains): PoolLeftover {
  const { kind, ref, uuid, nameLabel, mark, powerState } = found;
  return {
    kind: RESTORED[kind],
    ref,
    uuid,
    nameLabel,
    label: `${LABEL_PREFIX}${mark}`,
    marker: { [RESTORE_MARK]: mark },
    running: powerState !== undefined && powerState !== 'Halted',
  };
}

function leftover(
  kind: PoolLeftover['kind'],
  { ref, record }: { ref: string; record: XapiRecord },
  fields: { prefix: string; label?: string; at: string },
): PoolLeftover {
  const marker = Object.entries(textMap(record, 'other_config')).filter(([key]) =>
    key.startsWith(fields.prefix),
  );
  const createdAt = date(record, fields.at);
  return {
    kind,
    ref,
    uuid: text(record, 'uuid'),
    nameLabel: text(record, 'name_label'),
    label: fields.label === undefined ? '' : text(record, fields.label),
    marker: Object.fromEntries(marker),
    ...(createdAt === undefined ? {} : { createdAt }),
  };
}

function isOrphan(vdi: XapiRecord): boolean {
  const own = textMap(vdi, 'other_config')[DISK_KEY] === text(vdi, 'uuid');
  return own && flag(vdi, 'is_a_snapshot') && texts(vdi, 'VBDs').length === 0;
}

/** A pending task that was destroyed stays until its work ends; nobody can do more about it. */
function isGoing(task: XapiRecord): boolean {
  return Object.values(textMap(task, 'current_operations')).includes('destroy');
}

/** Removes one of them if it still is what it was. Errors: `precondition_failed`. */
export async function removeLeftover(
  deps: TaskDeps,
  found: PoolLeftover,
  options: Cancellable,
): Promise<void> {
  const remove = {
    snapshot: removeNamed,
    snapshot_disk: removeOrphan,
    task: removeTask,
    restored_machine: removeRestored,
    restored_disk: removeRestored,
  };
  await remove[found.kind](deps, found, options);
}

async function removeNamed(deps: TaskDeps, found: PoolLeftover, options: Cancellable) {
  const record = await readIfThere(deps.session.call('VM.get_record', [found.ref], options));
  if (record === undefined) return;
  if (text(record, 'name_label') !== found.label || !flag(record, 'is_a_snapshot')) {
    throw changed(found, 'it has another name now');
  }
  const snapshot = await toSnapshotFacts(deps, { snapshot: found.ref as VmRef, record }, options);
  await removeSnapshot(deps, snapshot, options);
}

async function removeOrphan(deps: TaskDeps, found: PoolLeftover, options: Cancellable) {
  const record = await readIfThere(deps.session.call('VDI.get_record', [found.ref], options));
  if (record === undefined) return;
  if (!isOrphan(record)) throw changed(found, 'it is in use again');
  await destroyDisk(deps, found.ref, options);
}

async function removeRestored(deps: TaskDeps, found: PoolLeftover, options: Cancellable) {
  const { ref, uuid, nameLabel, marker } = found;
  const kind = found.kind === RESTORED.machine ? 'machine' : 'disk';
  const mark = marker[RESTORE_MARK] ?? '';
  const remains = { kind, ref, uuid, nameLabel, mark, importing: false } as const;
  await removeImported(deps, remains, options);
}

async function removeTask({ session }: TaskDeps, found: PoolLeftover, options: Cancellable) {
  const read = () => readIfThere(session.call('task.get_record', [found.ref], options));
  const record = await read();
  if (record === undefined) return;
  if (text(record, 'status') === 'pending') {
    await session.call('task.cancel', [found.ref], options).catch(refused);
  }
  await session.call('task.destroy', [found.ref], options).catch(refused);
  const after = await read();
  if (after === undefined || isGoing(after)) return;
  throw new BackupError('pool_refused', `destroy task: it is still there, uuid=${found.uuid}`, {
    retry: 'later',
  });
}

/** Over or gone meanwhile, or not cancellable: the look afterwards tells. */
function refused(error: unknown): void {
  if (!isXapiError(error)) throw error;
}

function changed(found: PoolLeftover, why: string): BackupError {
  return new BackupError('precondition_failed', `remove ${found.kind}: ${why}, uuid=${found.uuid}`);
}
