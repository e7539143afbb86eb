/** What verifications say of listed backups: which is the newest good one of each machine, and what is wrong with a newer one. */
import type { Backup } from '../catalog/record.ts';
import { isDamaged, type Verification } from '../catalog/verified.ts';
import type { Cancellable } from '../ports.ts';
import type { Engine } from './context.ts';
import type { ListedBackup } from './service.ts';

type Parts = Pick<Engine, 'catalog' | 'verifications'>;

/** The newest backup of one machine that is not known to be damaged, and a newer one that is. */
export interface NewestGood {
  good?: { backup: Backup; verified?: Verification };
  damaged?: { backup: Backup; verified: Verification };
}

/** The backups, each with the verification that counts. */
export async function withVerified(
  backups: readonly Backup[],
  { verifications }: Parts,
  options: Cancellable,
): Promise<ListedBackup[]> {
  const found = await verifications.of(
    backups.map(({ id }) => id),
    options,
  );
  return backups.map((backup) => {
    const verified = found.get(backup.id);
    return verified === undefined ? backup : { ...backup, verified };
  });
}

/** Of each machine of `newest`, which is keyed `pool/vm uuid`. Looks further back only where the newest is damaged. */
export async function newestGoodOf(
  newest: ReadonlyMap<string, Backup>,
  parts: Parts,
  options: Cancellable,
): Promise<Map<string, NewestGood>> {
  const ids = [...newest.values()].map(({ id }) => id);
  const found = await parts.verifications.of(ids, options);
  const good = new Map<string, NewestGood>();
  for (const [machine, backup] of newest) {
    const verified = found.get(backup.id);
    if (verified === undefined) good.set(machine, { good: { backup } });
    else if (!isDamaged(verified)) good.set(machine, { good: { backup, verified } });
    else {
      const before = await goodBefore(backup, parts, options);
      good.set(machine, { ...(before && { good: before }), damaged: { backup, verified } });
    }
  }
  return good;
}

async function goodBefore(
  { id, vm }: Backup,
  { catalog, verifications }: Parts,
  options: Cancellable,
): Promise<NewestGood['good']> {
  const older = (await catalog.entries({ vmUuid: vm.uuid, pool: vm.pool })).filter(
    (entry) => entry.backupId < id,
  );
  const found = await verifications.of(
    older.map((entry) => entry.backupId),
    options,
  );
  for (const entry of older) {
    const verified = found.get(entry.backupId);
    if (isDamaged(verified)) continue;
    const [backup] = await catalog.records([entry], options);
    if (backup) return { backup, ...(verified && { verified }) };
  }
  return undefined;
}
