/**
 * Until when the bucket surely keeps an archive: by its own rules, or, where those cannot be read, by the settings.
 *
 * A rule removes nothing before its days are over (catalog/forecast.ts). The service may lack the right to read rules, and
 * some stores have none; then XVAULT_RETENTION_DAYS says how long backups are meant to last.
 */
import { endOfObject } from '../catalog/forecast.ts';
import type { Keys } from '../catalog/keys.ts';
import type { Backup } from '../catalog/record.ts';
import { isBackupError } from '../errors.ts';
import type { Cancellable, LifecycleRule, ObjectFacts, ObjectStore } from '../ports.ts';
import { parseTime } from '../time.ts';

const DAY_MS = 86_400_000;

/** Says of a backup and its archive until when it surely lasts, in milliseconds since 1970; Infinity where nothing ends it. */
export type Expiry = (backup: Backup, archive: Pick<ObjectFacts, 'lastModified'>) => number;

/** Reads the rules once. Errors: the store's, but for those that say that it cannot or must not tell. */
export async function readExpiry(
  store: ObjectStore,
  retentionDays: Readonly<Record<string, number>>,
  options: Cancellable,
): Promise<Expiry> {
  const rules = await readRules(store, options);
  if (rules === undefined) {
    return ({ created_at: createdAt, retention }) =>
      parseTime(createdAt) + (retentionDays[retention] ?? Infinity) * DAY_MS;
  }
  return ({ archive: { key, size_bytes: sizeBytes } }, { lastModified }) =>
    endOfObject({ key, sizeBytes, lastModified }, rules).sureUntil;
}

/** What deletes backups: the bucket's rules, or what the settings say they are. */
export interface RulesInForce {
  rules: LifecycleRule[];
  from: 'bucket' | 'settings';
}

/** The rules of the bucket; where they cannot be read those the settings mean. Errors: as of `readExpiry`. */
export async function readRulesInForce(
  { store, keys }: { store: ObjectStore; keys: Keys },
  retentionDays: Readonly<Record<string, number>>,
  options: Cancellable,
): Promise<RulesInForce> {
  const found = await readRules(store, options);
  if (found !== undefined) return { rules: found, from: 'bucket' };
  const rules = Object.entries(retentionDays).map(([retention, expirationDays]) => ({
    id: `XVAULT_RETENTION_DAYS ${retention}`,
    enabled: true,
    prefix: keys.classPrefix(retention),
    narrowed: false,
    expirationDays,
  }));
  return { rules, from: 'settings' };
}

async function readRules(
  store: ObjectStore,
  options: Cancellable,
): Promise<LifecycleRule[] | undefined> {
  try {
    return await store.lifecycle(options);
  } catch (error) {
    // a base that is removed after all is survived: everything is sent
    if (isBackupError(error, 'store_refused', 'store_credentials')) return undefined;
    throw error;
  }
}
