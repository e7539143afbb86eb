/**
 * What turns the pieces of an archive, as they come, into parts: growing.ts, and window.ts where ranges of a base are
 * copied. It owns the memory pieces are read into; where its parts go is the sink's business.
 */
import type { Cancellable } from '../ports.ts';
import type { Sum } from './crc32.ts';
import type { Part } from './section.ts';

/** Takes parts in the order of their bytes. */
export interface PartSink {
  /** Says before reading on that there is no place for another part of so many bytes. */
  expect(sizeBytes: number): void;
  /** `isLast`: nothing follows. */
  send(part: Part, options: { isLast: boolean }): void;
  /** A range of the base. */
  copy(range: BaseRange, options: { isLast: boolean }): void;
}

export interface BaseRange {
  offset: number;
  length: number;
  /** Of these bytes, where they went through our hands as one. */
  crc?: number | undefined;
}

/**
 * Bytes the reserved memory begins with. `crc`: 0 where the store verifies none; undefined only where the cutter may find it
 * when the part is whole, and then it sets it.
 */
export interface Piece extends Sum {
  /** Where in the base the very same bytes lie. */
  sameOffset?: number | undefined;
  /** Not new: read back from there to fill a part. */
  origin?: Origin | undefined;
}

export type Origin = 'base' | 'staged';

/** What a stretch ended with that is too short for a part, and not sent. */
export interface Rest {
  /** In the cutter's memory, where it stays. */
  bytes: Buffer;
  /** Behind it. */
  range?: BaseRange;
}

export interface Cutter {
  /** Takes pieces without their CRC. */
  readonly findsCrc: boolean;
  /** As in ObjectUpload. */
  reserve(sizeBytes: number, options: Cancellable): Promise<Buffer>;
  /** The reserved memory's first bytes come next. */
  commit(piece: Piece): void;
  /** Nothing follows: what is left goes out as the last part; `evenEmpty`: also if that is nothing. */
  flush(options: Cancellable & { evenEmpty: boolean }): Promise<void>;
  /** Nothing follows, but what is too short for a part of an object that goes on is kept. */
  settle(): Rest;
  /**
   * After `flush` or `settle`: what follows goes to `sink`. `rest`: what `settle` kept in memory is forgotten or comes
   * first. `whole`: all that comes, which fits, is one part, sent by `flush`.
   */
  begin(sink: PartSink, options: { rest: 'forget' | 'keep'; whole: boolean }): void;
  /** Gives back memory that is not on its way out; nothing may be called any more. */
  close(): void;
}
