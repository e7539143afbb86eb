/**
 * What the pool as a whole is at, before a snapshot: an upgrade, a change of HA or of the master, a failover.
 *
 * While HA is switched or the master changes, calls are cut off half-way and hosts may fence themselves; a rolling upgrade
 * refuses snapshots. A protected machine that is down while a host is dead is about to be started by HA: a snapshot now
 * would be in its way, and its disks may not be released yet.
 */
import type { PoolFacts, VmState } from '../ports.ts';
import { notNow } from './preflight-words.ts';

/** XenAPI's pool operations that a snapshot should not meet (xen-api, datamodel_pool.ml). */
const UNSETTLING = new Set(['ha_enable', 'ha_disable', 'designate_new_master', 'cluster_create']);
/** HA decides within minutes, switching it takes one or two. */
const HA_SECONDS = 120;
/** Hosts are upgraded one after another, half an hour each. */
const UPGRADE_SECONDS = 1800;

/** Warnings. Errors: `snapshot_refused`, retry `later`. */
export function checkPool(pool: PoolFacts, vm: VmState): string[] {
  if (pool.upgrading) {
    throw notNow(
      'snapshot machine: the pool is being upgraded and refuses snapshots; try again when all hosts are',
      { pool: pool.uuid, retry_after_seconds: UPGRADE_SECONDS },
    );
  }
  const busy = pool.currentOperations?.filter((operation) => UNSETTLING.has(operation)) ?? [];
  if (busy.length > 0) {
    throw notNow(
      `snapshot machine: the pool is at work on itself (${busy.join(', ')}); try again when that is over`,
      { pool: pool.uuid, current_operations: busy, retry_after_seconds: HA_SECONDS },
    );
  }
  const dead = pool.hosts.filter((host) => !host.live).map((host) => host.nameLabel);
  if (!pool.haEnabled || dead.length === 0) return [];
  const hosts = dead.join(', ');
  if (vm.haRestartPriority === 'restart' && vm.powerState === 'Halted') {
    throw notNow(
      `snapshot machine: HA is on, host ${hosts} is dead and the machine is down, so HA is about to start it; try again when it runs`,
      {
        vm: vm.uuid,
        ha_restart_priority: vm.haRestartPriority,
        power_state: vm.powerState,
        dead_hosts: dead,
        retry_after_seconds: HA_SECONDS,
      },
    );
  }
  return [`HA is on and host ${hosts} is dead: HA may move machines while the snapshot lives`];
}
