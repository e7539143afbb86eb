/**
 * What turns the pieces of an archive, as they come, into parts: growing.ts, and window.ts where ranges of a base are
 * copied. It owns the memory pieces are read into; where its parts go is the sink's business.
 */
import type { Cancellable } from '../ports.ts';
import type { Part } from './section.ts';

/** Takes parts in the order of their bytes. */
export interface PartSink {
  /** Says before reading on that there is no place for another part of so many bytes. */
  expect(sizeBytes: number): void;
  /** `isLast`: nothing follows. */
  send(part: Part, options: { isLast: boolean }): void;
}

/** One piece of the reserved memory that belongs to the archive. */
export interface Piece {
  sizeBytes: number;
  /** 0 where the store verifies none. */
  crc: number;
}

export interface Cutter {
  /** As in ObjectUpload. */
  reserve(sizeBytes: number, options: Cancellable): Promise<Buffer>;
  /** The reserved memory's first bytes come next. */
  commit(piece: Piece): void;
  /** Nothing follows: what is left goes out as the last part; `evenEmpty`: also if that is nothing. */
  flush(options: Cancellable & { evenEmpty: boolean }): Promise<void>;
  /** Gives back memory that is not on its way out; nothing may be called any more. */
  close(): void;
}
