/**
 * In which order a run begins its machines, which one comes next, and which disks stay out. Pure.
 *
 * Order: machines without a good backup first, then by whole days since the last good one, oldest first, so that what the
 * deadline of one night cut off comes first in the next; of one day the largest first, since a long backup that begins last
 * is what everybody waits for. A machine whose storage or pool is busy lets those behind it pass. One whose disks lie on
 * several storages could be passed for ever: after some passes they are kept free for it, as in the queue.
 */
import type { RunMachine } from '../catalog/run.ts';
import type { PoolFacts, VmState } from '../ports.ts';
import type { QueuePlace } from '../queue-port.ts';

/** A disk whose name contains it, in any case, stays out of every run. */
const DISK_MARK = '[nobackup]';
const DAY_MS = 86_400_000;

/** What was seen of a machine. */
export interface MachineLook {
  /** For the job's request. */
  excludeDisks: string[];
  leftOut: string[];
  virtualSizeBytes: number;
  srs: QueuePlace['srs'];
  warnings: string[];
}

/** The disks of a machine, and which of them stay out: named by the request where it has such a one, or marked. */
export function lookAtDisks(input: {
  vm: Pick<VmState, 'disks'>;
  features: Pick<PoolFacts['features'], 'ignoreVdis'>;
  excludeDisks: readonly string[];
}): MachineLook {
  const look: MachineLook = {
    excludeDisks: [],
    leftOut: [],
    virtualSizeBytes: 0,
    srs: [],
    warnings: [],
  };
  const srs = new Map<string, string>();
  for (const disk of input.vm.disks) {
    const { vdiUuid, nameLabel, userdevice, sr, virtualSizeBytes } = disk;
    srs.set(sr.uuid, sr.nameLabel);
    const names = [userdevice, vdiUuid, nameLabel];
    const asked = input.excludeDisks.find((wanted) => names.includes(wanted));
    const isMarked = nameLabel.toLowerCase().includes(DISK_MARK);
    const shown = `disk ${userdevice} (${nameLabel === '' ? vdiUuid : nameLabel})`;
    // what was asked for by name fails where it cannot be done; a mark only cannot be followed there
    if (asked === undefined && isMarked && !input.features.ignoreVdis) {
      look.warnings.push(
        `${shown} is marked ${DISK_MARK}, and this pool cannot leave disks out: it is in the backup`,
      );
    }
    if (asked !== undefined || (isMarked && input.features.ignoreVdis)) {
      look.excludeDisks.push(vdiUuid);
      look.leftOut.push(`${shown}: ${asked === undefined ? `marked ${DISK_MARK}` : 'asked for'}`);
    } else {
      look.virtualSizeBytes += virtualSizeBytes;
    }
  }
  return { ...look, srs: [...srs].map(([uuid, name]) => ({ uuid, name })) };
}

/** `pool/vm uuid`, as the catalogue has it. */
export function machineKey({ vm }: Pick<RunMachine, 'vm'>): string {
  return `${vm.pool}/${vm.uuid}`;
}

/** The machines in the order they are to begin. `lastGoodMs`: by machine key. */
export function orderMachines(
  machines: readonly RunMachine[],
  { lastGoodMs, nowMs }: { lastGoodMs: ReadonlyMap<string, number>; nowMs: number },
): RunMachine[] {
  const ageDays = (machine: RunMachine): number => {
    const last = lastGoodMs.get(machineKey(machine));
    return last === undefined ? Number.MAX_SAFE_INTEGER : Math.floor((nowMs - last) / DAY_MS);
  };
  return machines.toSorted(
    (a, b) =>
      ageDays(b) - ageDays(a) ||
      (b.virtual_size_bytes ?? 0) - (a.virtual_size_bytes ?? 0) ||
      compare(a.vm.name, b.vm.name) ||
      compare(machineKey(a), machineKey(b)),
  );
}

export interface Next {
  machine: RunMachine;
  /** Earlier ones with disks on several storages, one of them this one's. */
  passed: RunMachine[];
}

/** The machine to begin now; undefined when none may. */
export function nextMachine(
  machines: readonly RunMachine[],
  may: {
    /** What one like this would wait for. */
    reason(place: QueuePlace): string | undefined;
    isPausing(machine: RunMachine): boolean;
    /** Was passed often enough: its storages are kept free for it. */
    isDue(machine: RunMachine): boolean;
  },
): Next | undefined {
  const needSeveral: RunMachine[] = [];
  for (const machine of machines) {
    if (machine.status !== 'waiting' || may.isPausing(machine)) continue;
    const passed = needSeveral.filter((earlier) => sharesSr(earlier, machine));
    if (passed.some(may.isDue)) continue;
    const { vm, srs } = machine;
    if (may.reason({ pool: vm.pool, srs }) === undefined) return { machine, passed };
    if (srs.length > 1) needSeveral.push(machine);
  }
  return undefined;
}

function sharesSr(a: RunMachine, b: RunMachine): boolean {
  const isShared = ({ uuid }: { uuid: string }) => b.srs.some((other) => other.uuid === uuid);
  return a.vm.pool === b.vm.pool && a.srs.some(isShared);
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
