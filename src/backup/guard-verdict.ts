/** What the guard has to say in the status: when the last good backup ends, and whether that is a reason to act. Pure. */
import { DAY_MS } from '../catalog/forecast.ts';
import type { Backup } from '../catalog/record.ts';
import { formatTime } from '../time.ts';
import { endFields, type MachineGuard } from './endings.ts';
import type { StatusReport, Verdict } from './service.ts';

type MachineStatus = StatusReport['vms'][number];

/** A look a day is the least anybody plans: what ends sooner may be gone before the next one. */
const LAST_MOMENT_MS = DAY_MS;
const RANK: Record<Verdict, number> = { ok: 0, warning: 1, critical: 2 };

/** The verdict with what the guard says of the machine; the worse of both counts. */
export function withGuard(
  judged: MachineStatus,
  guard: MachineGuard | undefined,
  nowMs: number,
): MachineStatus {
  if (guard === undefined || guard.state === 'none') return judged;
  const told = { ...judged, ...endFields(guard.end), guard: guard.state };
  const doubt = doubtOf(guard, nowMs);
  if (doubt === undefined) return told;
  const reason = judged.status === 'ok' ? doubt.text : `${judged.reason}; ${doubt.text}`;
  const status = RANK[doubt.verdict] > RANK[judged.status] ? doubt.verdict : judged.status;
  return { ...told, status, reason };
}

/** Why somebody should look, if somebody should: the bucket is about to delete it, and nothing keeps it. */
export function doubtOf(
  { state, end, failure }: MachineGuard,
  nowMs: number,
): { verdict: Exclude<Verdict, 'ok'>; text: string } | undefined {
  if (state !== 'due' || end === undefined) return undefined;
  const verdict = end.sureUntil - nowMs < LAST_MOMENT_MS ? 'critical' : 'warning';
  const when = Number.isFinite(end.expiresAt)
    ? `rules of the bucket delete its last good backup on ${formatTime(end.expiresAt).slice(0, 10)}`
    : 'rules of the bucket move its last good backup where it cannot be copied from';
  const why =
    failure === undefined
      ? 'and it is not copied out of rotation yet (xvault lifecycle renew)'
      : `and copying it out of rotation failed (${failure.code})`;
  return { verdict, text: `${when}, ${why}` };
}

/** Those among all machines that no pool has any more, and whose last good backup is about to go. */
export function goneAtRisk(
  guards: ReadonlyMap<string, MachineGuard>,
  known: {
    seen: readonly { pool: string; uuid: string }[];
    /** By `pool/vm uuid`, for their names. */
    newest: ReadonlyMap<string, Pick<Backup, 'vm'>>;
    /** Only of this pool. */
    pool: string | undefined;
  },
  nowMs: number,
): NonNullable<StatusReport['gone_at_risk']> {
  const seen = new Set(known.seen.map(({ pool, uuid }) => `${pool}/${uuid}`));
  return [...guards].flatMap(([machine, guard]) => {
    const doubt = seen.has(machine) ? undefined : doubtOf(guard, nowMs);
    if (doubt === undefined || guard.good === undefined) return [];
    const { pool, vmUuid: uuid, backupId } = guard.good;
    if (known.pool !== undefined && known.pool !== pool) return [];
    const name = known.newest.get(machine)?.vm.name ?? uuid;
    const { verdict: status, text: reason } = doubt;
    return [{ vm: { uuid, name, pool }, status, reason, last_backup_id: backupId }];
  });
}
