/** Is the newest good backup of every machine young enough? Pure: facts in, verdict out. */
import type { UnreadableRecord } from '../catalog/unreadable.ts';
import type { Verification } from '../catalog/verified.ts';
import { count } from '../commands/format.ts';
import { formatTime, parseTime } from '../time.ts';
import type { MachineGuard } from './endings.ts';
import { withGuard } from './guard-verdict.ts';
import type { OwnMaxAge } from './max-age.ts';
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
    /** What its tags say; the setting counts where they say nothing. */
    maxAge?: OwnMaxAge;
    /** The newest that is not known to be damaged. */
    lastBackup?: { id: string; createdAtMs: number; verified?: Verification };
    /** A newer one that is. */
    damaged?: { id: string; verified: Verification };
    lastJob?: { id: string; status: string; finishedAt?: string; errorCode?: string };
    /** How its last good backup is kept. */
    guard?: MachineGuard;
  }[];
  /** Machines on no pool whose last good backup is about to be deleted, with the reason. */
  atRisk?: NonNullable<StatusReport['gone_at_risk']>;
  /** No pool was asked. */
  fromBucket?: boolean;
}

const RANK: Record<Verdict, number> = { ok: 0, warning: 1, critical: 2 };

/**
 * critical: no good backup, or too old, or the bucket deletes it today and nothing keeps it. warning: there is a good one, but a
 * newer one is damaged, a verification found fault with it, the last try failed, the bucket deletes it soon and nothing keeps it
 * yet, a pool is silent, a record or the tag that says how old it may be cannot be read.
 */
export function statusOf(input: StatusInput): StatusReport {
  const vms = input.vms
    .filter((vm) => !vm.skipped)
    .map((vm) => withGuard(judge(vm, input), vm.guard, input.nowMs));
  vms.sort((a, b) => RANK[b.status] - RANK[a.status] || a.vm.name.localeCompare(b.vm.name));
  const { unreachablePools, unreadable = [], atRisk = [] } = input;
  // a bucket that knows of no machine is no proof that all is well
  const nobody = input.fromBucket === true && vms.length === 0;
  const hasDoubts = nobody || unreachablePools.length + unreadable.length > 0;
  const doubts: Verdict[] = hasDoubts ? ['warning'] : [];
  const verdicts = [...doubts, ...vms.map((vm) => vm.status), ...atRisk.map((vm) => vm.status)];
  return {
    status: verdicts.reduce((worst, one) => (RANK[one] > RANK[worst] ? one : worst), 'ok'),
    checked_at: formatTime(input.nowMs),
    max_age_seconds: input.maxAgeSeconds,
    vms,
    unreachable_pools: unreachablePools,
    ...(input.fromBucket ? { machines_from: 'bucket' } : {}),
    ...(unreadable.length === 0 ? {} : { unreadable_records: unreadable }),
    ...(atRisk.length === 0 ? {} : { gone_at_risk: atRisk }),
  };
}

function judge(vm: StatusInput['vms'][number], input: StatusInput): StatusReport['vms'][number] {
  const base = {
    vm: { uuid: vm.uuid, name: vm.name, pool: vm.pool },
    ...(vm.maxAge?.seconds === undefined ? {} : { max_age_seconds: vm.maxAge.seconds }),
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
  const { lastBackup: last, damaged } = vm;
  const damage =
    damaged && `backup ${damaged.id} is damaged (${damaged.verified.problem?.detail ?? 'unknown'})`;
  const found = { ...base, ...(damaged && { damaged_backup_id: damaged.id }) };
  if (last === undefined) {
    const none = damage === undefined ? 'no backup' : `no good backup: ${damage}`;
    const reason = failure === undefined ? none : `${none}, ${failure}`;
    return { ...found, status: 'critical', reason };
  }
  const ageSeconds = ageOf(last.createdAtMs, input);
  const dated = {
    ...found,
    last_backup_id: last.id,
    last_backup_at: formatTime(last.createdAtMs),
    age_seconds: ageSeconds,
    ...(last.verified && { verified: last.verified }),
  };
  const maxAgeSeconds = vm.maxAge?.seconds ?? input.maxAgeSeconds;
  if (ageSeconds > maxAgeSeconds) {
    const old = `last backup is older than ${count(Math.round(maxAgeSeconds / 360) / 10, 'hour')}`;
    const reason = damage === undefined ? old : `last good backup is too old: ${damage}`;
    return { ...dated, status: 'critical', reason };
  }
  const fault = last.verified?.ok === false ? last.verified.problem?.detail : undefined;
  const wrong = vm.maxAge?.wrong.map((tag) => `its tag ${tag} is no time such as 26h or 8d`) ?? [];
  const doubts = [damage, fault, failure, ...wrong].filter((doubt) => doubt !== undefined);
  if (doubts.length > 0) return { ...dated, status: 'warning', reason: doubts.join('; ') };
  const reason = ['last backup is young enough', verifiedText(last.verified, input)];
  return { ...dated, status: 'ok', reason: reason.filter(Boolean).join(', ') };
}

/** When it was looked at last, and how; '' if it never was. */
function verifiedText(verified: Verification | undefined, { nowMs }: StatusInput): string {
  if (verified === undefined) return '';
  const hours = ageOf(parseTime(verified.at), { nowMs }) / 3600;
  const days = Math.floor(hours / 24);
  const ago = hours < 1 ? 'just now' : days < 2 ? `${Math.floor(hours)} h ago` : `${days} days ago`;
  if (verified.kind === 'restored') return `restored as a test ${ago}`;
  return verified.kind === 'whole' ? `verified ${ago}` : `${verified.percent} % verified ${ago}`;
}

function ageOf(ms: number, { nowMs }: Pick<StatusInput, 'nowMs'>): number {
  return Math.max(0, Math.round((nowMs - ms) / 1000));
}
