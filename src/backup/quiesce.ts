/**
 * Quiesced snapshots: the guest's own VSS provider brings its volumes to rest (hosts up to CH 8.0, Windows guests).
 *
 * Newer hosts have none; there guest hooks do it (guest.ts). Whether a host has them is found by asking it (xapi/facts.ts).
 */
import type { BackupRequest } from '../catalog/record.ts';
import { BackupError } from '../errors.ts';
import type { PoolFacts, VmState } from '../ports.ts';

export interface QuiescePlan {
  quiesce: boolean;
  /** Why not, though it was preferred. */
  warnings: string[];
}

/**
 * Whether the snapshot shall be quiesced. A machine that is shut down needs it not: its disks are at rest.
 *
 * Errors, when it is required: `vm_not_supported` on a pool that cannot, `quiesce_failed` for a machine that is suspended.
 */
export function planQuiesce(
  { quiesce: wish }: Pick<BackupRequest, 'quiesce'>,
  { vm, pool }: { vm: Pick<VmState, 'powerState'>; pool: Pick<PoolFacts, 'features'> },
): QuiescePlan {
  if (wish === 'never') return { quiesce: false, warnings: [] };
  if (!pool.features.quiesce) {
    const reason =
      'this pool has no quiesced snapshots (VM.snapshot_with_quiesce, removed in CH 8.1); guest hooks are the way there';
    if (wish === 'require') throw new BackupError('vm_not_supported', `quiesce machine: ${reason}`);
    return { quiesce: false, warnings: [`snapshot not quiesced: ${reason}`] };
  }
  if (vm.powerState === 'Halted') return { quiesce: false, warnings: [] };
  if (vm.powerState === 'Running') return { quiesce: true, warnings: [] };
  const reason = `the machine is ${vm.powerState.toLowerCase()}, so its guest cannot be asked`;
  if (wish === 'require') throw new BackupError('quiesce_failed', `quiesce machine: ${reason}`);
  return { quiesce: false, warnings: [`snapshot not quiesced: ${reason}`] };
}

/** What is told of a quiesced snapshot that failed where a plain one was made instead. */
export function fallbackWarning({ message }: BackupError): string {
  return `snapshot not quiesced, a plain one was made: ${message}`;
}
