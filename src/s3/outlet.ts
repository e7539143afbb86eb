/**
 * The final object: gives each of its parts a number, in order, and puts into staging objects what outgrows them.
 *
 * How many parts go where is decided in layout.ts; staging objects are joined at the end (joiner.ts).
 */
import { BackupError } from '../errors.ts';
import { countPieces, type Layout } from './layout.ts';
import { type Delivery, openStaged, type Section, type Slot, takeSlot } from './section.ts';

export interface Outlet {
  /** The final upload's own parts. */
  readonly direct: Section;
  /** What comes behind them, in order. */
  readonly overflow: readonly Section[];
  /** Where in the object each staging object begins. */
  borders(): number[];
  /** The place of the object's next part; `isLast`: nothing follows it. */
  next(sizeBytes: number, options: { isLast: boolean }): Slot;
  /** Says before reading on that there is no place left for a part of `wantBytes`. Errors: `store_refused`. */
  expect(wantBytes: number): void;
}

/** Makes the outlet of an upload that was begun. */
export function createOutlet(delivery: Delivery, layout: Layout, direct: Section): Outlet {
  const overflow: Section[] = [];
  return {
    direct,
    overflow,
    borders: () => {
      let at = direct.bytes;
      return overflow.flatMap(({ bytes }) => {
        const begin = at;
        at += bytes;
        return begin === 0 ? [] : [begin];
      });
    },
    next: (sizeBytes, { isLast }) => {
      const last = overflow.at(-1);
      // All there is fits one part: no need to stage it.
      const isOnly = isLast && last === undefined && direct.parts === 0;
      if (isOnly || (last === undefined && direct.parts < layout.directParts)) {
        return takeSlot(direct, sizeBytes);
      }
      if (last !== undefined && last.parts < layout.stagedParts) return takeSlot(last, sizeBytes);
      const section = openStaged(delivery);
      overflow.push(section);
      return takeSlot(section, sizeBytes);
    },
    expect: (wantBytes) => refuseOutgrown({ delivery, layout, direct, overflow }, wantBytes),
  };
}

interface Filled {
  delivery: Delivery;
  layout: Layout;
  direct: Section;
  overflow: Section[];
}

function refuseOutgrown({ delivery, layout, direct, overflow }: Filled, wantBytes: number): void {
  const { counters, context } = delivery;
  const { maxParts, maxObjectBytes, name } = context.quirks;
  const last = overflow.at(-1);
  const isLastFull = last === undefined || last.parts >= layout.stagedParts;
  const next = isLastFull
    ? [...overflow, { bytes: wantBytes }]
    : [...overflow.slice(0, -1), { bytes: last.bytes + wantBytes }];
  const fits =
    direct.parts < layout.directParts ||
    (layout.stagedParts > 0 && countPieces(layout, next) <= layout.pieces);
  if (fits && counters.acceptedBytes < maxObjectBytes) return;
  const limits = `provider=${name} max_parts=${maxParts} sent_bytes=${counters.acceptedBytes}`;
  throw new BackupError(
    'store_refused',
    `store an archive of this size: raise XVAULT_MEMORY_MIB for larger parts, ${limits}`,
    { details: { max_parts: maxParts, max_object_bytes: maxObjectBytes }, retry: 'after-fix' },
  );
}
