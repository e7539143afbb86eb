/** The memory every byte in flight lies in; part of the ports (ports.ts). */
import type { Cancellable } from './ports.ts';

/** A contiguous piece of the process-wide byte budget. */
export interface Slab {
  /** Uninitialised memory; owned by the taker until `release`. */
  readonly bytes: Buffer;
  /** Gives the memory back; a second call does nothing. */
  release(): void;
}

/**
 * The one byte budget of the process (`XVAULT_MEMORY_MIB`): every byte in flight lies in it.
 *
 * A permit is taken before reading. Waiters are served first come, first served, so nobody starves; a taker
 * holds at most one slab that is not yet on its way out, so nobody waits for himself.
 */
export interface Arena {
  readonly totalBytes: number;
  readonly unitBytes: number;
  readonly usedBytes: number;
  /** Takes one slab of at least `minBytes` and, if that much is free in one piece, up to `wantBytes`. */
  take(minBytes: number, wantBytes: number, options: Cancellable): Promise<Slab>;
  /** Somebody waits for memory. */
  readonly isShort: boolean;
  /** `give` is called whenever somebody begins to wait: to release what is only kept in case it is wanted again. */
  onShort(give: () => void): void;
}
