/** What can be said of a request before a job is made of it: told when it starts, not found out by a failed job. */
import type { BackupRequest } from '../catalog/record.ts';
import { BackupError } from '../errors.ts';
import type { Cancellable, Hooks, ObjectStore, Pool, VmState } from '../ports.ts';
import { checkClass } from './choose-class.ts';
import { checkMode } from './delta-mode.ts';
import { checkKind, chooseExcluded } from './preflight.ts';
import { planQuiesce } from './quiesce.ts';

/**
 * Errors: `vm_not_supported` for what is no ordinary machine, or a pool that cannot leave disks out or quiesce;
 * `invalid_request` for a hook that the settings do not allow, and for a mode, compression, class or disk that does not exist.
 */
export async function checkRequest(
  input: {
    pool: Pool;
    vm: VmState;
    request: BackupRequest;
    retentionClasses: readonly string[];
    store: Pick<ObjectStore, 'facts'>;
    hooks?: Hooks | undefined;
  },
  { signal }: Cancellable,
): Promise<void> {
  const { pool, vm, request, retentionClasses } = input;
  checkKind(vm);
  checkMode(request, await input.store.facts({ signal }));
  checkClass(request.retention, retentionClasses);
  await checkHooks(request, input.hooks, { signal });
  if (request.exclude_disks.length === 0 && request.quiesce === 'never') return;
  const facts = await pool.facts({ signal });
  planQuiesce(request, { vm, pool: facts });
  chooseExcluded({ vm, pool: facts, excludeDisks: request.exclude_disks });
}

async function checkHooks(
  { hooks: wanted = {} }: BackupRequest,
  hooks: Hooks | undefined,
  options: Cancellable,
): Promise<void> {
  for (const [name, url] of Object.entries(wanted)) {
    const field = `hooks.${name}`;
    if (hooks === undefined) {
      throw new BackupError(
        'invalid_request',
        `allow ${field}: XVAULT_HOOK_ALLOW is not set, so no guest is called`,
        { details: { field } },
      );
    }
    if (url !== undefined) await hooks.check({ field, url }, options);
  }
}
