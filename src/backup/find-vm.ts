/** Which machine a request means: by uuid or unique name, in one pool or in all. */
import { BackupError, toBackupError } from '../errors.ts';
import type { Cancellable, Pool, VmFacts } from '../ports.ts';
import { type Engine, poolOf } from './context.ts';
import { checkKind } from './preflight.ts';

export interface FoundVm {
  pool: Pool;
  vm: VmFacts;
}

/**
 * The one ordinary machine called `vm`.
 *
 * Errors: `invalid_request` when the name is empty; `not_found`; `vm_ambiguous` with candidates; `vm_not_supported` when only templates, snapshots or control
 * domains are called so; the pool's own error when a pool that might know it does not answer.
 */
export async function findVm(
  engine: Engine,
  input: { vm: string; pool?: string | undefined },
  { signal }: Cancellable,
): Promise<FoundVm> {
  // a variable of a script that is not set must not mean the machine without a name
  if (input.vm === '') {
    const text = 'name the machine: the name is empty; one that has none is found by its uuid';
    throw new BackupError('invalid_request', text);
  }
  const pools =
    input.pool === undefined ? [...engine.pools.values()] : [poolOf(engine, input.pool)];
  const answers = await Promise.allSettled(
    pools.map(async (pool) => {
      const vms = await pool.findVms(input.vm, { signal });
      return vms.map((vm) => ({ pool, vm }));
    }),
  );
  const found = answers.flatMap((answer) => (answer.status === 'fulfilled' ? answer.value : []));
  const exact = found.filter(({ vm }) => vm.uuid === input.vm);
  const machines = (exact.length > 0 ? exact : found).filter(({ vm }) => vm.kind === 'vm');
  const silent = answers.find((answer) => answer.status === 'rejected');
  const [only, ...others] = machines;
  if (only && others.length > 0) throw ambiguous(input.vm, machines);
  // a pool that does not answer may hold another of the same name; a uuid is unique
  if (only && (exact.length > 0 || !silent)) return only;
  if (silent) throw toBackupError(silent.reason);
  for (const { vm } of found) checkKind(vm);
  throw new BackupError('not_found', `find machine ${input.vm}: no machine of that uuid or name`, {
    details: { vm: input.vm, pools: pools.map((pool) => pool.name) },
  });
}

function ambiguous(name: string, machines: readonly FoundVm[]): BackupError {
  const candidates = machines.map(({ pool, vm }) => ({
    uuid: vm.uuid,
    name: vm.nameLabel,
    pool: pool.name,
    power_state: vm.powerState,
  }));
  return new BackupError(
    'vm_ambiguous',
    `find machine ${name}: ${machines.length} machines carry this name, use a uuid`,
    { details: { candidates } },
  );
}
