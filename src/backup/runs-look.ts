/** What a run asks of pools and catalogue: the disks of its machines, and how old their last good backups are. */
import type { Run, RunMachine, RunRequest } from '../catalog/run.ts';
import { toBackupError } from '../errors.ts';
import type { Cancellable } from '../ports.ts';
import type { Engine } from './context.ts';
import { findVm } from './find-vm.ts';
import { uuidTimeMs } from './ids.ts';
import { lookAtDisks, orderMachines } from './runs-plan.ts';
import { newestGoodOf } from './verified-backups.ts';

/** Machines looked at at once: each is some calls to one master, which backs up meanwhile. */
const LOOK_PARALLEL = 4;

/** The machine with its disks as they are now, and the disks its job leaves out. Errors: the pool's, `not_found`. */
export async function lookAtMachine(
  engine: Engine,
  { machine, request }: { machine: RunMachine; request: RunRequest },
  options: Cancellable,
): Promise<{ machine: RunMachine; exclude: string[] }> {
  const { uuid, pool: poolName } = machine.vm;
  const { pool, vm } = await findVm(engine, { vm: uuid, pool: poolName }, options);
  const [state, { features }] = await Promise.all([
    pool.inspectVm(vm.ref, options),
    pool.facts(options),
  ]);
  const excludeDisks = request.exclude_disks;
  const look = lookAtDisks({ vm: state, features, excludeDisks });
  return {
    exclude: look.excludeDisks,
    machine: {
      ...machine,
      virtual_size_bytes: look.virtualSizeBytes,
      left_out: look.leftOut,
      srs: [...look.srs],
      warnings: [...new Set([...machine.warnings, ...look.warnings])],
    },
  };
}

/** The run with sizes and storages, its machines in the order they are to begin. */
export async function planRun(engine: Engine, run: Run, options: Cancellable): Promise<Run> {
  const machines: RunMachine[] = [...run.machines];
  const open = machines.map((_, index) => index);
  const away = new Set<string>();
  const look = async (): Promise<void> => {
    for (let at = open.shift(); at !== undefined; at = open.shift()) {
      const machine = machines[at] as RunMachine;
      if (away.has(machine.vm.pool)) continue;
      machines[at] = await seen(engine, { machine, run, away }, options);
    }
  };
  await Promise.all(Array.from({ length: LOOK_PARALLEL }, look));
  const lastGoodMs = await lastGood(engine, options);
  const nowMs = engine.clock.now();
  return { ...run, planned: true, machines: orderMachines(machines, { lastGoodMs, nowMs }) };
}

/** When each machine's last good backup was made, by machine key. */
async function lastGood(engine: Engine, options: Cancellable): Promise<Map<string, number>> {
  const goods = await newestGoodOf(await engine.catalog.newestReadable(options), engine, options);
  return new Map(
    [...goods].flatMap(([key, { good }]): [string, number][] =>
      good === undefined ? [] : [[key, uuidTimeMs(good.backup.id)]],
    ),
  );
}

async function seen(
  engine: Engine,
  { machine, run, away }: { machine: RunMachine; run: Run; away: Set<string> },
  options: Cancellable,
): Promise<RunMachine> {
  try {
    return (await lookAtMachine(engine, { machine, request: run.request }, options)).machine;
  } catch (error) {
    options.signal.throwIfAborted();
    // it only loses its place in the order: when its turn comes it is looked at again, and that answer counts
    const { message, code } = toBackupError(error);
    if (code === 'pool_unavailable') away.add(machine.vm.pool);
    engine.log.warn('machine of a run not looked at', { vm_uuid: machine.vm.uuid, error: message });
    return machine;
  }
}
