/**
 * Records in the bucket that cannot be read: written by a newer version, or damaged.
 *
 * One of them must not hide the others, so lists go on without it and say so; nothing takes it for a backup that is good.
 * What was met is remembered here, for the status and the metrics, until it is read well again or gone: this process
 * knows of those it looked at, which after one look at the status are all that matter to it.
 */
import { type BackupError, isBackupError } from '../errors.ts';
import type { Log, Meter } from '../ports.ts';

/** A bucket full of foreign objects must not fill the memory. */
const KNOWN_LIMIT = 1000;

export interface UnreadableRecord {
  kind: 'backup' | 'job' | 'run';
  id: string;
  key: string;
  detail: string;
}

export interface Unreadable {
  /** Runs a read of this record and keeps in mind how it went. Errors: the read's. */
  watch<T>(record: Omit<UnreadableRecord, 'detail'>, read: () => Promise<T>): Promise<T>;
  /** Those known now, by key. */
  list(): UnreadableRecord[];
}

/** Knows of none at first. */
export function createUnreadable({ log, meter }: { log: Log; meter: Meter }): Unreadable {
  const known = new Map<string, UnreadableRecord>();
  const tell = (kind: UnreadableRecord['kind']): void => {
    const count = [...known.values()].filter((one) => one.kind === kind).length;
    meter.observe('unreadable_records', count, { kind });
  };
  const note = (record: UnreadableRecord, error: BackupError): void => {
    if (known.has(record.key) || known.size >= KNOWN_LIMIT) return;
    known.set(record.key, record);
    const why = error.cause instanceof Error ? error.cause.message : '';
    log.warn('record cannot be read', { key: record.key, error: error.message, why });
    tell(record.kind);
  };
  return {
    watch: async (record, read) => {
      try {
        const found = await read();
        if (known.delete(record.key)) tell(record.kind);
        return found;
      } catch (error) {
        if (isBackupError(error, 'data_corrupt')) note({ ...record, detail: error.message }, error);
        throw error;
      }
    },
    list: () => [...known.values()].sort((a, b) => (a.key < b.key ? -1 : 1)),
  };
}
