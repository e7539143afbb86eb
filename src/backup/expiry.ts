/**
 * Until when the bucket surely keeps an archive: by its own rules, or, where those cannot be read, by the settings.
 *
 * A rule removes nothing before its days are over. The service may lack the right to read rules, and some stores have
 * none; then XVAULT_RETENTION_DAYS says how long backups are meant to last.
 */
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
  return ({ archive: { key } }, { lastModified }) => {
    const days = rules.flatMap(({ enabled, prefix, expirationDays }) =>
      enabled && key.startsWith(prefix) && expirationDays !== undefined ? [expirationDays] : [],
    );
    return lastModified + Math.min(...days) * DAY_MS;
  };
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
