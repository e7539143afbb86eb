/**
 * How the pieces of an object become parts of an upload over a base: what the engine decides, and within which limits.
 *
 * Part of the ports (ports.ts); pure. Sizes and offsets are bytes.
 */

export interface PlanLimits {
  /** Every part but the object's last has at least this. */
  minPartBytes: number;
  /** The longest range one copy may take. */
  maxCopyBytes: number;
  /** Bytes that may be held back, the next piece (MAX_RESERVE_BYTES) included. */
  windowBytes: number;
  /** Every part but the last has exactly this size. */
  cellBytes?: number;
}

/**
 * Decides, piece by piece in the order of the object, what is sent and what is copied from the base. Pure.
 *
 * The bytes of pieces not yet decided lie in a window of memory. A step always speaks of the window's oldest bytes.
 * After each `push` the window holds at most `windowBytes` less MAX_RESERVE_BYTES.
 */
export interface PartPlan {
  /** `sameOffset`: where in the base these very bytes lie. */
  push(piece: { sizeBytes: number; sameOffset?: number }): PlanStep[];
  /** Nothing follows: everything is decided, and only the last part may be short. */
  end(): PlanStep[];
}

export type PlanStep =
  /** The window's oldest bytes are the next part. */
  | { kind: 'send'; sizeBytes: number }
  /** The window's oldest bytes lie in the copy that is said next: they need not be kept. */
  | { kind: 'drop'; sizeBytes: number }
  /** A range of the base is the next part. */
  | { kind: 'copy'; offset: number; sizeBytes: number };
