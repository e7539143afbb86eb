/** What the guard must read beside the listing: which backup is good, and why a copy lies out of rotation. */
import { type Holding, isWhole } from '../catalog/holdings.ts';
import { type Pin, pinSchema } from '../catalog/pin.ts';
import { backupSchema } from '../catalog/record.ts';
import { isDamaged } from '../catalog/verified.ts';
import type { Cancellable } from '../ports.ts';
import type { Engine } from './context.ts';

type Facts = Pick<Engine, 'store' | 'verifications'>;

/**
 * The newest of these that can be restored as far as anybody knows: archive and record are there, the record can be read
 * and says this archive's size, and no verification found the archive damaged. Errors: the store's.
 */
export async function findGood(
  engine: Facts,
  holdings: readonly Holding[],
  options: Cancellable,
): Promise<Holding | undefined> {
  return (await findNamedGood(engine, holdings, options))?.holding;
}

/** The same, with the name its record gives the machine. */
export async function findNamedGood(
  engine: Facts,
  holdings: readonly Holding[],
  options: Cancellable,
): Promise<{ holding: Holding; vmName: string } | undefined> {
  for (const holding of holdings) {
    const vmName = await nameIfGood(engine, holding, options);
    if (vmName !== undefined) return { holding, vmName };
  }
  return undefined;
}

/** What its record calls the machine; undefined when it is no good backup. */
async function nameIfGood(
  { store, verifications }: Facts,
  { backupId, original, pinned }: Holding,
  options: Cancellable,
): Promise<string | undefined> {
  for (const copy of [original, pinned]) {
    if (!isWhole(copy)) continue;
    const found = await store.get(copy.record.key, options);
    const record = found && backupSchema.safeParse(parseJson(found.bytes));
    if (!record?.success) continue; // gone meanwhile, damaged, or of a newer version
    const { id, archive, vm } = record.data;
    if (id !== backupId || archive.size_bytes !== copy.archive.sizeBytes) continue;
    const verified = (await verifications.of([id], options)).get(id);
    return isDamaged(verified) ? undefined : vm.name;
  }
  return undefined;
}

/** The marks below `pinned/`, by backup id; one that cannot be read is nobody's to remove, as if it were a wish. */
export async function readPins(
  { store }: Pick<Engine, 'store'>,
  holdings: readonly Holding[],
  options: Cancellable,
): Promise<Map<string, Pin>> {
  const pins = new Map<string, Pin>();
  for (const { backupId, pinned } of holdings) {
    if (pinned.pin === undefined) continue;
    const found = await store.get(pinned.pin.key, options);
    const pin = found && pinSchema.safeParse(parseJson(found.bytes));
    if (pin?.success) pins.set(backupId, pin.data);
  }
  return pins;
}

function parseJson(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(Buffer.from(bytes).toString('utf8'));
  } catch {
    return undefined; // the schema check says so
  }
}
