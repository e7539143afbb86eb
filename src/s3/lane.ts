/**
 * A section that comes before its place in the object: what is new of it goes into staging objects of its own, what
 * lies in the base is only remembered. When its place is reached, both are copied there (assembly.ts).
 */
import { BackupError } from '../errors.ts';
import type { Cancellable } from '../ports.ts';
import type { Stretch } from './compose.ts';
import type { PartSink } from './cutter.ts';
import { differs } from './proof.ts';
import { getObject } from './read.ts';
import {
  addSend,
  type Delivery,
  openStaged,
  patientCall,
  type Section,
  takeSlot,
} from './section.ts';

/** Where bytes of the object lie meanwhile. */
export type Place = Buffer | Section | 'base';

export interface Lane {
  readonly sink: PartSink;
  /** All of the lane, in order; a staging object is as many parts as one upload may have. */
  readonly stretches: readonly Stretch<Place>[];
}

/** Makes an empty lane; `expect` says that the whole object would be too large. */
export function createLane(delivery: Delivery, expect: PartSink['expect']): Lane {
  const { maxParts } = delivery.context.quirks;
  const stretches: Stretch<Place>[] = [];
  let section: Section | undefined;
  const add = (from: Place, offset: number, length: number) => {
    const last = stretches.at(-1);
    const goesOn = last?.from === from && last.offset + last.length === offset;
    if (goesOn) last.length += length;
    else stretches.push({ from, offset, length, canCopy: true });
  };
  const sink: PartSink = {
    expect,
    send: (part) => {
      if (section === undefined || section.parts >= maxParts) section = openStaged(delivery);
      const offset = section.bytes;
      const { length } = part.body;
      addSend(delivery, takeSlot(section, length), part);
      add(section, offset, length);
    },
    copy: ({ offset, length }) => add('base', offset, length),
  };
  return { sink, stretches };
}

/** The bytes of a stretch, wherever they lie. */
export async function readStretch(
  delivery: Delivery,
  { from, offset, length }: Stretch<Place>,
  { signal }: Cancellable,
): Promise<Uint8Array> {
  if (Buffer.isBuffer(from)) return from.subarray(offset, offset + length);
  const range = { offset, length };
  const { context, guard } = delivery;
  const call = patientCall(delivery, signal);
  const bytes =
    from === 'base'
      ? await guard?.read(range, call)
      : (await getObject(context, from.key, { ...call, range }))?.bytes;
  const key = from === 'base' ? guard?.base.key : from.key;
  if (bytes === undefined) {
    const text = `find the staging object: somebody else removed it, key=${key}`;
    throw new BackupError('store_refused', text, { details: { key }, retry: 'later' });
  }
  if (bytes.length !== length) {
    throw differs('range', { key, asked_bytes: length, read_bytes: bytes.length });
  }
  return bytes;
}
