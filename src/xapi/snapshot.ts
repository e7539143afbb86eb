/**
 * Snapshots: make, mark, find and remove, so that nothing of ours ever stays on the pool.
 *
 * Removal destroys the snapshot's disks first and the machine record last. Other tools do it the other way round, and a
 * crash in between leaves disks that nothing names any more. VDI.destroy takes unattached VBDs with it (xen-api
 * ocaml/xapi/xapi_vdi.ml, destroy_and_data_destroy_common), so the record survives as the one mark by which the next
 * sweep finds what is left. A disk is destroyed only if, at that moment, it is_a_snapshot and hangs on a VBD of
 * type Disk: never an ISO (a CD drive of the snapshot points at the very same ISO), never a live disk. snapshot_of is
 * not trusted: xapi 26.1 wrote it on live disks, too (xcp-ng/xcp issue 825).
 */
import { BackupError } from '../errors.ts';
import type { Cancellable, SnapshotFacts, VdiRef, VmRef } from '../ports.ts';
import { isXapiError, translateQuiesce, translateSnapshot } from './errors.ts';
import {
  flag,
  integer,
  ref,
  text,
  textMap,
  texts,
  toRecord,
  toRecords,
  type XapiRecord,
} from './fields.ts';
import { mapParallel } from './parallel.ts';
import { resultRef, runTask, type TaskDeps } from './task.ts';

/** dom0 detaches a disk some moments after an export ended, at times a minute: 63 s in all. */
const DESTROY_ATTEMPTS = 16;
const DESTROY_FIRST_RETRY_MS = 250;
const DESTROY_RETRY_MS = 5_000;

/** Makes a snapshot. Not idempotent. Errors: `snapshot_refused`, `quiesce_failed`, `vm_not_supported`, `pool_*`. */
export async function snapshotVm(
  deps: TaskDeps,
  input: { vm: VmRef; name: string; ignoreVdis: VdiRef[]; quiesce?: boolean },
  options: Cancellable,
): Promise<SnapshotFacts> {
  const { vm, name, ignoreVdis, quiesce = false } = input;
  const params = ignoreVdis.length === 0 ? [vm, name] : [vm, name, ignoreVdis];
  const method = quiesce ? 'VM.snapshot_with_quiesce' : 'VM.snapshot';
  let result: string;
  try {
    result = await runTask(deps, { method, params }, options);
  } catch (error) {
    if (isXapiError(error, 'MESSAGE_PARAMETER_COUNT_MISMATCH') && ignoreVdis.length > 0) {
      throw new BackupError(
        'vm_not_supported',
        'make snapshot: this pool cannot leave disks out (needs xapi 21.4 or newer)',
        { details: { xapi_code: error.code, xapi_params: error.params }, cause: error },
      );
    }
    throw quiesce
      ? translateQuiesce(error, 'make quiesced snapshot')
      : translateSnapshot(error, 'make snapshot');
  }
  const snapshot = resultRef(result);
  const record = toRecord(await deps.session.call('VM.get_record', [snapshot], options));
  return await toSnapshotFacts(deps, { snapshot, record }, options);
}

/** On a disk: its own uuid. Clones and snapshots of a marked disk inherit the marker; they have other uuids. */
export const DISK_KEY = 'xvault:disk';

/** Adds our marker to the snapshot and its disks. Idempotent: a key that is there already is replaced. */
export async function markSnapshot(
  deps: TaskDeps,
  snapshot: VmRef,
  marker: Record<string, string>,
  options: Cancellable,
): Promise<void> {
  await mark(deps, { cls: 'VM', ref: snapshot }, marker, options);
  const vbds = texts({ VBDs: await deps.session.call('VM.get_VBDs', [snapshot], options) }, 'VBDs');
  const disks = await readDisks(deps, vbds, options);
  await mapParallel(disks, async ({ vdiRef, vdiUuid }) => {
    try {
      await mark(deps, { cls: 'VDI', ref: vdiRef }, { [DISK_KEY]: vdiUuid, ...marker }, options);
    } catch (error) {
      if (!isXapiError(error)) throw error;
      // only a sweep after somebody else destroyed the record would miss it: no reason to make no backup
      deps.log.warn('snapshot disk not marked', { vdi: vdiUuid, reason: String(error) });
    }
  });
}

/** Sets keys in the other_config of an object. Idempotent: a key that is there already is replaced. */
export async function mark(
  { session }: Pick<TaskDeps, 'session'>,
  { cls, ref: marked }: { cls: 'VM' | 'VDI'; ref: string },
  marker: Record<string, string>,
  options: Cancellable,
): Promise<void> {
  for (const [key, value] of Object.entries(marker)) {
    const add = () => session.call(`${cls}.add_to_other_config`, [marked, key, value], options);
    try {
      await add();
    } catch (error) {
      if (!isXapiError(error, 'MAP_DUPLICATE_KEY')) throw error;
      await session.call(`${cls}.remove_from_other_config`, [marked, key], options);
      await add();
    }
  }
}

/** Snapshots of one machine, or of all, whose name begins so. */
export async function findSnapshots(
  deps: TaskDeps,
  { vm, namePrefix }: { vm?: VmRef; namePrefix: string },
  options: Cancellable,
): Promise<SnapshotFacts[]> {
  const ofVm = vm === undefined ? '' : ` and field "snapshot_of"="${vm}"`;
  const expression = `field "is_a_snapshot"="true"${ofVm}`;
  const records = await deps.session.call('VM.get_all_records_where', [expression], options);
  const ours = [...toRecords(records)].filter(
    ([, record]) =>
      flag(record, 'is_a_snapshot') && text(record, 'name_label').startsWith(namePrefix),
  );
  return await mapParallel(ours, ([snapshot, record]) =>
    toSnapshotFacts(deps, { snapshot, record }, options),
  );
}

/** A snapshot's record with the disks it made. */
export async function toSnapshotFacts(
  deps: TaskDeps,
  { snapshot, record }: { snapshot: string; record: XapiRecord },
  options: Cancellable,
): Promise<SnapshotFacts> {
  const disks = await readDisks(deps, texts(record, 'VBDs'), options);
  return {
    ref: snapshot as VmRef,
    uuid: text(record, 'uuid'),
    nameLabel: text(record, 'name_label'),
    disks,
  };
}

/** The disks a snapshot made, and no others. */
async function readDisks(
  { session }: TaskDeps,
  vbdRefs: readonly string[],
  options: Cancellable,
): Promise<SnapshotFacts['disks']> {
  const disks = await mapParallel(vbdRefs, async (vbdRef) => {
    const vbd = await readIfThere(session.call('VBD.get_record', [vbdRef], options));
    if (vbd === undefined || text(vbd, 'type') !== 'Disk' || flag(vbd, 'empty')) return [];
    const vdiRef = ref(vbd, 'VDI');
    if (vdiRef === undefined) return [];
    const vdi = await readIfThere(session.call('VDI.get_record', [vdiRef], options));
    if (vdi === undefined || !flag(vdi, 'is_a_snapshot')) return [];
    const liveRef = ref(vdi, 'snapshot_of');
    const live =
      liveRef === undefined
        ? undefined
        : await readIfThere(session.call('VDI.get_record', [liveRef], options));
    return [
      {
        vdiRef: vdiRef as VdiRef,
        vdiUuid: text(vdi, 'uuid'),
        ...(live === undefined ? {} : { snapshotOfUuid: text(live, 'uuid') }),
        userdevice: text(vbd, 'userdevice'),
        virtualSizeBytes: integer(vdi, 'virtual_size'),
      },
    ];
  });
  return disks.flat().sort((a, b) => Number(a.userdevice) - Number(b.userdevice));
}

/** The record of a `get_record`; undefined when the object is gone. */
export async function readIfThere(call: Promise<unknown>): Promise<XapiRecord | undefined> {
  try {
    return toRecord((await call) as XapiRecord);
  } catch (error) {
    if (isXapiError(error, 'HANDLE_INVALID')) return undefined;
    throw error;
  }
}

/** Removes a snapshot and the disks it made. Gone already is success; what fails is told after all was tried. */
export async function removeSnapshot(
  deps: TaskDeps,
  snapshot: SnapshotFacts,
  options: Cancellable,
): Promise<void> {
  const { session } = deps;
  const record = await readIfThere(session.call('VM.get_record', [snapshot.ref], options));
  if (record !== undefined && !flag(record, 'is_a_snapshot')) {
    throw new BackupError('internal', `remove snapshot: it is none, uuid=${snapshot.uuid}`);
  }
  const now = await readDisks(deps, record === undefined ? [] : texts(record, 'VBDs'), options);
  const disks = new Set<string>([...snapshot.disks, ...now].map((disk) => disk.vdiRef));
  const failures: unknown[] = [];
  // One after another: the storage manager locks the SR for each anyway.
  for (const vdi of disks) {
    try {
      await destroyDisk(deps, vdi, options);
    } catch (error) {
      options.signal.throwIfAborted();
      failures.push(error);
    }
  }
  const [failure] = failures;
  if (failure !== undefined) throw failure;
  if (record !== undefined) await destroyRecord(deps, snapshot.ref, record, options);
}

/** Destroys a snapshot's disk; retries one that is in use, gone already is success. */
export async function destroyDisk(
  deps: TaskDeps,
  vdiRef: string,
  options: Cancellable,
): Promise<void> {
  const check = (vdi: XapiRecord) => {
    if (flag(vdi, 'is_a_snapshot')) return;
    throw new BackupError(
      'internal',
      `remove snapshot: a disk of it is no snapshot, uuid=${text(vdi, 'uuid')}`,
    );
  };
  await destroyChecked(deps, { vdiRef, check }, options);
}

/** Destroys a disk that `check` does not throw at, before each try. Retries one in use, gone already is success. */
export async function destroyChecked(
  deps: TaskDeps,
  { vdiRef, check }: { vdiRef: string; check(vdi: XapiRecord): void },
  options: Cancellable,
): Promise<void> {
  for (let attempt = 1; ; attempt += 1) {
    const vdi = await readIfThere(deps.session.call('VDI.get_record', [vdiRef], options));
    if (vdi === undefined) return;
    check(vdi);
    try {
      await runTask(deps, { method: 'VDI.destroy', params: [vdiRef] }, options);
      return;
    } catch (error) {
      if (isXapiError(error, 'HANDLE_INVALID')) return;
      const busy = isXapiError(error, 'VDI_IN_USE', 'OTHER_OPERATION_IN_PROGRESS');
      if (!busy || attempt >= DESTROY_ATTEMPTS) throw error;
      deps.log.debug('disk still in use', { vdi: text(vdi, 'uuid'), attempt });
      const waitMs = Math.min(DESTROY_RETRY_MS, DESTROY_FIRST_RETRY_MS * 2 ** (attempt - 1));
      await deps.clock.sleep(waitMs, options);
    }
  }
}

async function destroyRecord(
  deps: TaskDeps,
  snapshot: VmRef,
  record: XapiRecord,
  options: Cancellable,
): Promise<void> {
  // A checkpoint has a memory image that only it uses; xvault makes none, a tool under our name might.
  const image = ref(record, 'suspend_VDI');
  if (image !== undefined && textMap(record, 'other_config')['xvault:job'] !== undefined) {
    await runTask(deps, { method: 'VDI.destroy', params: [image] }, options).catch((error) => {
      if (!isXapiError(error, 'HANDLE_INVALID')) throw error;
    });
  }
  try {
    await runTask(deps, { method: 'VM.destroy', params: [snapshot] }, options);
  } catch (error) {
    if (!isXapiError(error, 'HANDLE_INVALID')) throw error;
  }
}
