/**
 * What the bucket holds of each backup, object by object with its time: the facts the forecast and the guard work on.
 *
 * Unlike the catalogue this never remembers anything, and tells of halves too: an archive whose record a rule has deleted,
 * a copy under `pinned/` that was begun. Of one machine it asks once for each retention class that is in the bucket, and once
 * for its copies; of all machines it lists everything below `backups/` and `pinned/`, a page of 1000 keys a request.
 */
import type { Cancellable, ObjectFacts, ObjectStore } from '../ports.ts';
import type { Keys } from './keys.ts';
import { PIN_FILE } from './pin.ts';

/** Listings of classes in flight; a bucket has a handful. */
const LIST_PARALLEL = 4;

/** The files of one backup in one place. */
export interface HeldCopy {
  archive?: ObjectFacts;
  index?: ObjectFacts;
  record?: ObjectFacts;
  /** pin.json; never beside an original. */
  pin?: ObjectFacts;
}

export interface Holding {
  pool: string;
  vmUuid: string;
  backupId: string;
  /** The class of the original; absent when nothing of it is left. */
  retention?: string;
  /** Below `backups/`. */
  original: HeldCopy;
  /** Below `pinned/`. */
  pinned: HeldCopy;
}

export interface MachineKey {
  pool: string;
  vmUuid: string;
}

/** All backups there is anything of, of one machine or of all, keyed `pool/vm uuid`, each list newest first. */
export async function readHoldings(
  { store, keys }: { store: ObjectStore; keys: Keys },
  machine: MachineKey | undefined,
  options: Cancellable,
): Promise<Map<string, Holding[]>> {
  const prefixes =
    machine === undefined
      ? [keys.backupsPrefix, keys.pinnedPrefix]
      : await prefixesOf({ store, keys }, machine, options);
  const found = new Map<string, Holding>();
  const pending = [...prefixes];
  const lister = async (): Promise<void> => {
    for (let prefix = pending.shift(); prefix !== undefined; prefix = pending.shift()) {
      for await (const object of listObjects(store, prefix, options)) sortIn(found, keys, object);
    }
  };
  await Promise.all(Array.from({ length: LIST_PARALLEL }, lister));
  const newestFirst = [...found.values()].sort((a, b) => (a.backupId < b.backupId ? 1 : -1));
  return Map.groupBy(newestFirst, machineName);
}

/** Archive and record are both there: that is what makes a backup. */
export function isWhole(
  copy: HeldCopy,
): copy is HeldCopy & Required<Pick<HeldCopy, 'archive' | 'record'>> {
  return copy.archive !== undefined && copy.record !== undefined;
}

/** Everything of a copy that is there. */
export function objectsOf({ archive, index, record, pin }: HeldCopy): ObjectFacts[] {
  return [archive, index, record, pin].filter((one) => one !== undefined);
}

/** The name machines are kept under in maps. */
export function machineName({ pool, vmUuid }: MachineKey): string {
  return `${pool}/${vmUuid}`;
}

async function prefixesOf(
  { store, keys }: { store: ObjectStore; keys: Keys },
  { pool, vmUuid }: MachineKey,
  options: Cancellable,
): Promise<string[]> {
  const classes: string[] = [];
  let startAfter: string | undefined;
  do {
    const from = startAfter === undefined ? {} : { startAfter };
    const input = { prefix: keys.backupsPrefix, delimiter: '/', ...from };
    const page = await store.list(input, options);
    classes.push(...page.prefixes);
    startAfter = page.next;
  } while (startAfter !== undefined);
  return [
    ...classes.map((folder) =>
      keys.vmPrefix(folder.slice(keys.backupsPrefix.length, -1), pool, vmUuid),
    ),
    keys.pinnedVmPrefix(pool, vmUuid),
  ];
}

async function* listObjects(
  store: ObjectStore,
  prefix: string,
  options: Cancellable,
): AsyncGenerator<ObjectFacts> {
  let startAfter: string | undefined;
  do {
    const from = startAfter === undefined ? {} : { startAfter };
    const page = await store.list({ prefix, ...from }, options);
    yield* page.objects;
    startAfter = page.next;
  } while (startAfter !== undefined);
}

/** Keys that are none of ours are left alone. */
function sortIn(found: Map<string, Holding>, keys: Keys, object: ObjectFacts): void {
  const pinned = keys.parsePinned(object.key);
  const original = pinned === undefined ? keys.parseBackup(object.key) : undefined;
  const parts = pinned ?? original;
  if (parts === undefined) return;
  const { pool, vmUuid, backupId, name } = parts;
  const id = `${pool}/${vmUuid}/${backupId}`;
  const holding = found.get(id) ?? { pool, vmUuid, backupId, original: {}, pinned: {} };
  found.set(id, holding);
  if (original !== undefined) holding.retention = original.retention;
  const copy = original === undefined ? holding.pinned : holding.original;
  if (name === 'backup.json') copy.record = object;
  else if (name === 'blocks.idx') copy.index = object;
  else if (name.endsWith('.xva')) copy.archive = object;
  else if (name === PIN_FILE && pinned !== undefined) copy.pin = object;
}
