/**
 * What a restore that died may have left: machines and disks with its mark, or made by its task.
 *
 * xapi removes what a failed import made, but not when its toolstack or host dies meanwhile; and a machine that came in
 * whole is nobody's failure but ours. Everything is read again before it is removed, and only what still carries the very mark
 * or task is: a person who wants to keep a half restored machine takes the mark away. Disks go first and the machine last,
 * as with snapshots (snapshot.ts): the record is the one thing by which the rest is found. A network that an import made because
 * it found none of that name carries import_task, too, and goes unless somebody uses it.
 * Source: xen-api ocaml/xapi/import.ml (import_task in VM.other_config), xapi_vm.ml (destroy), xapi_vdi.ml (destroy).
 */
import { BackupError } from '../errors.ts';
import { type ImportRemains, RESTORE_MARK } from '../imports.ts';
import type { Cancellable, PowerState, VmRef } from '../ports.ts';
import { isXapiError } from './errors.ts';
import { flag, text, textMap, texts, toRecords, type XapiRecord } from './fields.ts';
import { readOwnDisks, stopVm } from './import-machine.ts';
import { destroyChecked, readIfThere } from './snapshot.ts';
import { dropTask, readTask, resultRefs, runTask, type TaskDeps, type TaskState } from './task.ts';
import { ORDINARY } from './vm.ts';

/** Disks are removed one after another; a storage manager takes seconds for each. */
const CLEANUP_MS = 60_000;

const DISKS = 'field "is_a_snapshot"="false" and field "managed"="true"';

/** In other_config of a machine: the task that imported it, ended or not. */
const TASK_KEY = 'import_task';

/** Machines first; disks that hang on one are not listed by themselves. */
export async function findImported(
  { session }: TaskDeps,
  { mark, tasks = [] }: { mark?: string; tasks?: readonly string[] },
  options: Cancellable,
): Promise<ImportRemains[]> {
  const where = (cls: string, expression: string) =>
    session.call(`${cls}.get_all_records_where`, [expression], options).then(toRecords);
  const [vms, vdis] = await Promise.all([where('VM', ORDINARY), where('VDI', DISKS)]);
  const wanted = ({ mark: found, task }: ImportRemains) =>
    (found !== '' && (mark === undefined ? tasks.length === 0 : found === mark)) ||
    (task !== undefined && tasks.includes(task));
  return [
    ...[...vms].map(([vmRef, record]) => toMachine(vmRef, record)),
    ...[...vdis]
      .filter(([, record]) => texts(record, 'VBDs').length === 0)
      .map(([vdiRef, record]) => toDisk(vdiRef, record)),
  ].filter(wanted);
}

function toMachine(vmRef: string, record: XapiRecord): ImportRemains {
  const operations = Object.values(textMap(record, 'current_operations'));
  return {
    ...toRemains('machine', vmRef, record),
    powerState: text(record, 'power_state') as PowerState,
    importing: operations.includes('import'),
  };
}

function toDisk(vdiRef: string, record: XapiRecord): ImportRemains {
  return { ...toRemains('disk', vdiRef, record), importing: false };
}

function toRemains(kind: ImportRemains['kind'], ref: string, record: XapiRecord) {
  const config = textMap(record, 'other_config');
  const task = config[TASK_KEY];
  return {
    kind,
    ref,
    uuid: text(record, 'uuid'),
    nameLabel: text(record, 'name_label'),
    mark: config[RESTORE_MARK] ?? '',
    ...(task === undefined ? {} : { task }),
  };
}

/**
 * Gives an import up, in its own time: ends its task, and removes the machines if it was done already. Never throws: what
 * cannot be removed now carries its mark or task, for whoever looks later.
 */
export async function abandonImport(
  deps: TaskDeps,
  { task, end }: { task: string; end?: TaskState | undefined },
): Promise<void> {
  const options = { signal: AbortSignal.timeout(CLEANUP_MS) };
  const state =
    (await dropTask(deps, { task, over: end !== undefined, patienceMs: CLEANUP_MS })) ?? end;
  if (state?.status !== 'success') return;
  for (const ref of resultRefs(state.result)) {
    const found = {
      kind: 'machine',
      ref,
      uuid: '',
      nameLabel: '',
      mark: '',
      importing: false,
    } as const;
    await removeImported(deps, { ...found, task }, options).catch((error) => {
      deps.log.warn('import not cleaned up', { machine: ref, task, reason: String(error) });
    });
  }
}

/** Removes one of them, if it still is what it was. */
export async function removeImported(
  deps: TaskDeps,
  found: ImportRemains,
  options: Cancellable,
): Promise<void> {
  await (found.kind === 'machine' ? removeMachine : removeDisk)(deps, found, options);
}

async function removeMachine(deps: TaskDeps, found: ImportRemains, options: Cancellable) {
  const vm = found.ref as VmRef;
  const read = () => readIfThere(deps.session.call('VM.get_record', [vm], options));
  let record = await read();
  if (record === undefined) return;
  check(found, toMachine(vm, record));
  if (await endTask(deps, found, options)) record = await read();
  if (record === undefined) return; // the host removed it with the task
  check(found, toMachine(vm, record));
  if (text(record, 'power_state') !== 'Halted') await stopVm(deps, vm, options);
  for (const { vdiRef } of await readOwnDisks(deps, vm, options)) {
    const still = (vdi: XapiRecord) => {
      if (flag(vdi, 'is_a_snapshot')) throw changed(found, 'a disk of it is a snapshot');
    };
    await destroyChecked(deps, { vdiRef, check: still }, options);
  }
  const { task } = toMachine(vm, record);
  try {
    await runTask(deps, { method: 'VM.destroy', params: [vm] }, options);
  } catch (error) {
    if (!isXapiError(error, 'HANDLE_INVALID')) throw error;
  }
  if (task !== undefined) await removeNetworks(deps, task, options);
}

async function removeNetworks({ session, log }: TaskDeps, task: string, options: Cancellable) {
  const networks = toRecords(await session.call('network.get_all_records', [], options));
  for (const [network, record] of networks) {
    const made = textMap(record, 'other_config')[TASK_KEY] === task;
    if (!made || texts(record, 'VIFs').length > 0) continue;
    await session.call('network.destroy', [network], options).catch((error) => {
      if (!isXapiError(error)) throw error;
      // the machine is gone, and a network without cards harms nobody
      log.warn('network of the import not removed', { network, reason: String(error) });
    });
  }
}

/** True when there was a task to end. */
async function endTask(
  deps: TaskDeps,
  { task }: ImportRemains,
  options: Cancellable,
): Promise<boolean> {
  if (task === undefined) return false;
  const state = await readTask(deps, task, options);
  if (state === undefined) return false;
  const over = state.status !== 'pending';
  await dropTask(deps, { task, over, patienceMs: CLEANUP_MS });
  return !over;
}

async function removeDisk(deps: TaskDeps, found: ImportRemains, options: Cancellable) {
  const still = (vdi: XapiRecord) => {
    check(found, toDisk(found.ref, vdi));
    if (texts(vdi, 'VBDs').length > 0) throw changed(found, 'a machine uses it');
    if (flag(vdi, 'is_a_snapshot')) throw changed(found, 'it is a snapshot');
  };
  await destroyChecked(deps, { vdiRef: found.ref, check: still }, options);
}

function check(found: ImportRemains, now: ImportRemains): void {
  const known = found.mark === '' ? found.task === now.task : found.mark === now.mark;
  if (!known) throw changed(found, 'its mark is gone or another');
}

function changed(found: ImportRemains, why: string): BackupError {
  return new BackupError('precondition_failed', `remove ${found.kind}: ${why}, uuid=${found.uuid}`);
}
