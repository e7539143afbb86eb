/** Is the newest good backup of every machine young enough? Pure: facts in, verdict out. */
import type { UnreadableRecord } from '../catalog/unreadable.ts';
import { formatTime } from '../time.ts';
import type { StatusReport, Verdict } from './service.ts';

export interface StatusInput {
  nowMs: number;
  maxAgeSeconds: number;
  unreachablePools: string[];
  unreadable?: UnreadableRecord[];
  vms: {
    uuid: string;
    name: string;
    pool: string;
    skipped: boolean;
    lastBackup?: { id: string; createdAtMs: number };
    lastJob?: { id: string; status: string; finishedAt?: string; errorCode?: string };
  }[];
}

const RANK: Record<Verdict, number> = { ok: 0, warning: 1, critical: 2 };

/** critical: no good backup, or too old. warning: the newest is good, but the last try failed, a pool is silent, or a record cannot be read. */
export function statusOf(input: StatusInput): StatusReport {
  const vms = input.vms.filter((vm) => !vm.skipped).map((vm) => judge(vm, input));
  vms.sort((a, b) => RANK[b.status] - RANK[a.status] || a.vm.name.localeCompare(b.vm.name));
  const { unreachablePools, unreadable = [] } = input;
  const doubts: Verdict[] = unreachablePools.length + unreadable.length > 0 ? ['warning'] : [];
  const verdicts = [...doubts, ...vms.map((vm) => vm.status)];
  return {
    status: verdicts.reduce((worst, one) => (RANK[one] > RANK[worst] ? one : worst), 'ok'),
    checked_at: formatTime(input.nowMs),
    max_age_seconds: input.maxAgeSeconds,
    vms,
    unreachable_pools: unreachablePools,
    ...(unreadable.length === 0 ? {} : { unreadable_records: unreadable }),
  };
}

function judge(vm: StatusInput['vms'][number], input: StatusInput): StatusReport['vms'][number] {
  const base = {
    vm: { uuid: vm.uuid, name: vm.name, pool: vm.pool },
    ...(vm.lastJob
      ? {
          last_job: {
            id: vm.lastJob.id,
            status: vm.lastJob.status,
            ...(vm.lastJob.finishedAt ? { finished_at: vm.lastJob.finishedAt } : {}),
            ...(vm.lastJob.errorCode ? { error_code: vm.lastJob.errorCode } : {}),
          },
        }
      : {}),
  };
  const failure =
    vm.lastJob?.status === 'failed'
      ? `the last try failed (${vm.lastJob.errorCode ?? 'unknown'})`
      : undefined;
  if (vm.lastBackup === undefined) {
    const reason = failure === undefined ? 'no backup' : `no backup, ${failure}`;
    return { ...base, status: 'critical', reason };
  }
  const ageSeconds = Math.max(0, Math.round((input.nowMs - vm.lastBackup.createdAtMs) / 1000));
  const dated = {
    ...base,
    last_backup_id: vm.lastBackup.id,
    last_backup_at: formatTime(vm.lastBackup.createdAtMs),
    age_seconds: ageSeconds,
  };
  if (ageSeconds > input.maxAgeSeconds) {
    return {
      ...dated,
      status: 'critical',
      reason: `last backup is older than ${Math.round(input.maxAgeSeconds / 360) / 10} hours`,
    };
  }
  if (failure !== undefined) return { ...dated, status: 'warning', reason: failure };
  return { ...dated, status: 'ok', reason: 'last backup is young enough' };
}
