/** What is found beside jobs, in the words of a notice: leftovers, a renewed last good backup, machines without a fresh one. Pure. */
import { createHash } from 'node:crypto';
import type { Holding } from '../catalog/holdings.ts';
import { formatBytes, formatSeconds } from '../commands/format.ts';
import type { Notice } from '../notices.ts';
import type { StatusReport, SweepFinding } from './service.ts';

/** Named in a sentence; the rest is in the table. */
const NAMED = 3;
/** In the data for programs. */
const LISTED = 50;

export type StaleMachine = StatusReport['vms'][number];

/** Of one sweep. */
export function leftoverNotice(findings: readonly SweepFinding[], at: string): Notice {
  const left = findings.filter(({ action }) => action !== 'removed');
  const removed = findings.length - left.length;
  const things = findings.length === 1 ? '1 leftover' : `${findings.length} leftovers`;
  return {
    id: `evt_sweep_${digest(findings.map(({ kind, id }) => `${kind} ${id}`))}_${at}`,
    event: 'sweep.leftover_found',
    at,
    severity: left.length > 0 ? 'warning' : 'info',
    what: `A sweep found ${things} of runs that died: ${removed} removed, ${left.length} kept.`,
    todo:
      left.length > 0
        ? 'Look at what is kept: its reason says what is in the way; `xvault sweep` tries again.'
        : 'Nothing to do.',
    facts: [],
    table: {
      columns: ['What', 'Where', 'Done', 'Because'],
      rows: findings.map(({ kind, name, pool, action, reason }) => [
        `${kind} ${name}`,
        pool === undefined ? 'bucket' : `pool ${pool}`,
        action,
        reason,
      ]),
    },
    data: {
      counts: { removed, kept: left.length },
      findings: findings
        .slice(0, LISTED)
        .map(({ kind, id, name, pool, action, reason, job_id }) => ({
          kind,
          id,
          name: name.slice(0, 200),
          action,
          reason: reason.slice(0, 200),
          ...(pool === undefined ? {} : { pool }),
          ...(job_id === undefined ? {} : { job_id }),
        })),
    },
  };
}

/** A last good backup was copied out of rotation. */
export function renewedNotice(input: {
  holding: Pick<Holding, 'pool' | 'vmUuid' | 'backupId'>;
  vmName: string;
  bytes: number;
  at: string;
}): Notice {
  const { holding, vmName, bytes, at } = input;
  const { pool, vmUuid, backupId } = holding;
  return {
    id: `evt_guard_${backupId}_${at}`,
    event: 'guard.renewed',
    at,
    severity: 'warning',
    what: `The last good backup of ${vmName} was copied out of rotation: the rules were about to delete it, and no newer one is there.`,
    todo: `Find out why ${vmName} has no newer backup, and make one; the copy goes by itself once that lasts.`,
    facts: [
      { name: 'Machine', value: `${vmName} (${vmUuid})` },
      { name: 'Pool', value: pool },
      { name: 'Backup', value: backupId },
      { name: 'Copied in the bucket', value: formatBytes(bytes) },
    ],
    vm: { uuid: vmUuid, name: vmName, pool },
    data: {
      vm: { uuid: vmUuid, name: vmName, pool },
      backup_id: backupId,
      copied_bytes: bytes,
      links: { backup: `/v1/backups/${backupId}` },
    },
  };
}

/** Machines whose newest good backup is too old, or that have none. */
export function freshnessNotice(machines: readonly StaleMachine[], at: string): Notice {
  const [first] = machines;
  const names = machines.slice(0, NAMED).map(({ vm }) => vm.name);
  const more = machines.length - names.length;
  const listed = more > 0 ? `${names.join(', ')} and ${more} more` : names.join(', ');
  const isOne = machines.length === 1 && first !== undefined;
  return {
    id: `evt_freshness_${digest(machines.map(({ vm }) => vm.uuid))}_${at}`,
    event: 'freshness.critical',
    at,
    severity: 'error',
    what: isOne
      ? `${first.vm.name} has no fresh backup: ${first.reason.replace(/\.$/, '')}.`
      : `${machines.length} machines have no fresh backup: ${listed}.`,
    todo: `Look why with \`xvault jobs\`, then make one: \`xvault backup ${isOne ? first.vm.uuid : '<machine>'}\`.`,
    facts: [],
    table: {
      columns: ['Machine', 'Pool', 'Last good backup', 'Why'],
      rows: machines.map(({ vm, age_seconds: age, reason }) => [
        vm.name,
        vm.pool,
        age === undefined ? 'none' : `${formatSeconds(age)} ago`,
        reason,
      ]),
    },
    ...(isOne ? { vm: first.vm } : {}),
    data: {
      vms: machines.slice(0, LISTED).map(({ vm, reason, last_backup_id, last_backup_at }) => ({
        ...vm,
        reason: reason.slice(0, 200),
        ...(last_backup_id === undefined ? {} : { last_backup_id }),
        ...(last_backup_at === undefined ? {} : { last_backup_at }),
      })),
    },
  };
}

/** Short, and the same for the same things. */
function digest(names: readonly string[]): string {
  return createHash('sha256').update(names.toSorted().join('\n')).digest('hex').slice(0, 16);
}
