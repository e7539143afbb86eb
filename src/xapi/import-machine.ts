/**
 * A machine that came back: looked at, marked, named, started and stopped.
 *
 * The mark lies on the machine and on each of its disks, since either may be all that a crash leaves. `waitForGuest`
 * believes only what the guest's agent reported after the machine's last start: an archive brings the guest metrics of its
 * original along (VM_guest_metrics is imported, too), which say that the tools run while the machine is still halted.
 * Source: xen-api ocaml/xapi/import.ml (GuestMetrics), xapi_guest_agent.ml.
 */
import { type GuestFacts, type ImportedMachine, RESTORE_MARK } from '../imports.ts';
import type { Cancellable, VdiRef, VmRef } from '../ports.ts';
import { isXapiError } from './errors.ts';
import { date, flag, ref, text, textMap, texts, toRecord, type XapiRecord } from './fields.ts';
import { mapParallel } from './parallel.ts';
import type { Session } from './session.ts';
import { mark, readIfThere } from './snapshot.ts';
import { runTask, type TaskDeps } from './task.ts';
import { inspectVm } from './vm.ts';

const GUEST_POLL_MS = 2_000;

/** All that the check after an import looks at. */
export async function describeMachine(
  { session }: TaskDeps,
  vm: VmRef,
  options: Cancellable,
): Promise<ImportedMachine> {
  const [state, config] = await Promise.all([
    inspectVm(session, vm, options),
    session.call('VM.get_other_config', [vm], options),
  ]);
  const otherConfig = textMap({ config }, 'config');
  const owner = otherConfig[RESTORE_MARK];
  return {
    ...state,
    autoPoweron: otherConfig.auto_poweron === 'true',
    macSeed: otherConfig.mac_seed ?? '',
    ...(owner === undefined ? {} : { mark: owner }),
  };
}

/** Marks a machine and its disks, or takes the mark away. */
export async function markMachine(
  deps: TaskDeps,
  { vm, mark: value }: { vm: VmRef; mark: string | undefined },
  options: Cancellable,
): Promise<void> {
  const disks = await readOwnDisks(deps, vm, options);
  // The machine last when the mark goes: as long as a disk has it, it leads to the machine.
  const disksFirst = value === undefined;
  const setMachine = () => setMark(deps, { cls: 'VM', ref: vm, value }, options);
  if (!disksFirst) await setMachine();
  await mapParallel(disks, ({ vdiRef }) => markDisk(deps, { vdi: vdiRef, mark: value }, options));
  if (disksFirst) await setMachine();
}

/** The same for one disk. */
export async function markDisk(
  deps: TaskDeps,
  { vdi, mark: value }: { vdi: VdiRef; mark: string | undefined },
  options: Cancellable,
): Promise<void> {
  await setMark(deps, { cls: 'VDI', ref: vdi, value }, options);
}

async function setMark(
  deps: TaskDeps,
  input: { cls: 'VM' | 'VDI'; ref: string; value: string | undefined },
  options: Cancellable,
): Promise<void> {
  const { cls, value } = input;
  if (value !== undefined) return await mark(deps, input, { [RESTORE_MARK]: value }, options);
  // A key that is not there is no error.
  const params = [input.ref, RESTORE_MARK];
  await deps.session.call(`${cls}.remove_from_other_config`, params, options);
}

export interface OwnDisk {
  vdiRef: VdiRef;
  vdi: XapiRecord;
}

/**
 * Disks that hang on this machine and on no other; never a CD, a snapshot or what lies in an ISO library. The control
 * domain does not count: it has a disk attached while it writes it, and for a while after it was killed.
 */
export async function readOwnDisks(
  { session }: TaskDeps,
  vm: VmRef,
  options: Cancellable,
): Promise<OwnDisk[]> {
  const vbdRefs = texts({ VBDs: await session.call('VM.get_VBDs', [vm], options) }, 'VBDs');
  const disks = await mapParallel(vbdRefs, async (vbdRef): Promise<OwnDisk[]> => {
    const vbd = await readIfThere(session.call('VBD.get_record', [vbdRef], options));
    if (vbd === undefined || text(vbd, 'type') !== 'Disk' || flag(vbd, 'empty')) return [];
    const vdiRef = ref(vbd, 'VDI');
    if (vdiRef === undefined) return [];
    const vdi = await readIfThere(session.call('VDI.get_record', [vdiRef], options));
    if (vdi === undefined || flag(vdi, 'is_a_snapshot')) return [];
    const others = texts(vdi, 'VBDs').filter((other) => !vbdRefs.includes(other));
    const users = await mapParallel(others, (other) => isOfMachine(session, other, options));
    if (users.includes(true)) return [];
    const content = await session.call('SR.get_content_type', [text(vdi, 'SR')], options);
    return content === 'iso' ? [] : [{ vdiRef: vdiRef as VdiRef, vdi }];
  });
  return disks.flat();
}

async function isOfMachine(
  session: Session,
  vbdRef: string,
  options: Cancellable,
): Promise<boolean> {
  const vbd = await readIfThere(session.call('VBD.get_record', [vbdRef], options));
  if (vbd === undefined) return false;
  const vm = await readIfThere(session.call('VM.get_record', [text(vbd, 'VM')], options));
  return vm !== undefined && !flag(vm, 'is_control_domain');
}

/** Gives it another name. */
export async function renameMachine(
  { session }: TaskDeps,
  { vm, nameLabel }: { vm: VmRef; nameLabel: string },
  options: Cancellable,
): Promise<void> {
  await session.call('VM.set_name_label', [vm, nameLabel], options);
}

/** Starts it, wherever the pool finds room. */
export async function startVm(deps: TaskDeps, vm: VmRef, options: Cancellable): Promise<void> {
  await runTask(deps, { method: 'VM.start', params: [vm, false, false] }, options);
}

/** Pulls its plug. */
export async function stopVm(deps: TaskDeps, vm: VmRef, options: Cancellable): Promise<void> {
  try {
    await runTask(deps, { method: 'VM.hard_shutdown', params: [vm] }, options);
  } catch (error) {
    if (!isXapiError(error, 'VM_BAD_POWER_STATE')) throw error;
    const state = await deps.session.call('VM.get_power_state', [vm], options);
    if (state !== 'Halted') throw error;
  }
}

/** Waits for the guest's agent; undefined when it says nothing in time. */
export async function waitForGuest(
  deps: TaskDeps,
  { vm, timeoutMs }: { vm: VmRef; timeoutMs: number },
  options: Cancellable,
): Promise<GuestFacts | undefined> {
  const { clock } = deps;
  const startedAt = clock.elapsed();
  for (;;) {
    const facts = await readGuest(deps, vm, options);
    if (facts !== undefined) return facts;
    if (clock.elapsed() - startedAt >= timeoutMs) return undefined;
    await clock.sleep(GUEST_POLL_MS, options);
  }
}

async function readGuest(
  { session }: TaskDeps,
  vm: VmRef,
  options: Cancellable,
): Promise<GuestFacts | undefined> {
  const record = toRecord(await session.call('VM.get_record', [vm], options));
  const guestRef = ref(record, 'guest_metrics');
  if (guestRef === undefined || text(record, 'power_state') !== 'Running') return undefined;
  const read = (cls: string, of: string) =>
    readIfThere(session.call(`${cls}.get_record`, [of], options));
  const guest = await read('VM_guest_metrics', guestRef);
  const metricsRef = ref(record, 'metrics');
  const metrics = metricsRef === undefined ? undefined : await read('VM_metrics', metricsRef);
  if (guest === undefined || !isReport(guest, metrics)) return undefined;
  const version = textMap(guest, 'PV_drivers_version');
  return {
    toolsVersion: [version.major, version.minor, version.micro].filter(Boolean).join('.'),
    osName: textMap(guest, 'os_version').name ?? '',
    addresses: [...new Set(Object.values(textMap(guest, 'networks')))].filter((ip) => ip !== ''),
  };
}

/** The agent is there, and spoke after the start. Both times are the pool's own. */
function isReport(guest: XapiRecord, metrics: XapiRecord = {}): boolean {
  const tools = Object.keys(textMap(guest, 'PV_drivers_version')).length > 0;
  const os = Object.keys(textMap(guest, 'os_version')).length > 0;
  if (!tools && !os && !flag(guest, 'PV_drivers_detected')) return false;
  const startedAt = date(metrics, 'start_time');
  const saidAt = date(guest, 'last_updated');
  return startedAt === undefined || (saidAt !== undefined && saidAt >= startedAt);
}
