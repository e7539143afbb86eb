/**
 * What the codec and the engine say to each other.
 *
 * The byte format itself is in docs/xva.md; this file holds only the shapes that cross the border
 * of `xva/`.
 */

/** One block of a disk: every one but a disk's last has exactly this length. */
export const BLOCK_BYTES = 1_048_576;

/** A block and its checksum member on the wire: 512 + 1 MiB + 512 + 512. */
export const BLOCK_MEMBER_BYTES = 1_050_112;

/**
 * Largest ova.xml taken: a machine of 255 disks needs under 1 MiB, and it is held in memory whole.
 */
export const MAX_OVA_BYTES = 16 * 1024 * 1024;

/** 64-bit hashes of bytes; made by `loadHasher`. */
export interface Hasher {
  /** XXH64, seed 0. */
  xxh64(bytes: Uint8Array): bigint;
  /** XXH64, seed 0, of bytes that come piece by piece. */
  stream(): HashStream;
}

export interface HashStream {
  update(bytes: Uint8Array): void;
  digest(): bigint;
}

/** One disk of an archive, in archive order. */
export interface ArchiveDisk {
  index: number;
  /** Directory in the normalised archive: Ref:000, Ref:001 … */
  archiveId: string;
  /** Directory in the archive as read. */
  sourceId: string;
  /** VDI.uuid in ova.xml: the snapshot's own disk when a snapshot was exported. */
  vdiUuid: string;
  /** VDI.snapshot_of's uuid where the rewrite was told it, else vdiUuid. */
  liveVdiUuid: string;
  nameLabel: string;
  userdevice: string;
  virtualSizeBytes: number;
}

/** What must become true of the archive, whatever the host wrote. */
export interface OvaRewrite {
  /** name_label of the machine: the original's, not the snapshot's. */
  nameLabel: string;
  nameDescription: string;
  /** uuid of the original machine, for a true replacement on restore. */
  vmUuid: string;
  /** Snapshot disk uuid → uuid and name of the live disk. */
  disks: ReadonlyMap<string, { uuid: string; nameLabel: string }>;
}

/**
 * What to do with the memory just filled.
 *
 * more: fill the same memory further, up to the new `wantBytes`, and ask again.
 * keep: the first `bytes` of it, changed in place, are the archive's next bytes. Begin with fresh
 * memory. drop: nothing of it belongs to the archive. Begin anew.
 * replace: write `bytes` instead of it (ova.xml rewritten).
 * end: write `bytes` (the end of the archive); the source must now be at its end.
 */
export type Step =
  | { kind: 'more' }
  | { kind: 'keep'; bytes: number }
  | { kind: 'drop' }
  | { kind: 'replace'; bytes: Uint8Array }
  | { kind: 'end'; bytes: Uint8Array };

export interface DiskTotals {
  disk: ArchiveDisk;
  storedBlocks: number;
  /** Content only, without headers, padding and checksum members. */
  storedBytes: number;
}

/** The block that the last `keep` stands for. */
export interface KeptBlock {
  diskIndex: number;
  /** Position on the disk in units of BLOCK_BYTES. */
  number: number;
  /** BLOCK_BYTES, or less for a disk's last one. Its bytes lie at 512 of the kept memory. */
  lengthBytes: number;
  xxh64: bigint;
}

/**
 * Reads what a host exports and turns it, block by block and in place, into our normalised archive.
 *
 * The driver owns all memory and all I/O:
 *   loop: view = memory of `wantBytes`; fill it; step = accept(view);
 *   on `more`: fill on up to the grown `wantBytes`;
 *   after `end`: fill `wantBytes` once more; 0 bytes is the good end, with any others throw
 *   `truncated(view, filled)`.
 * `wantBytes` is at most BLOCK_MEMBER_BYTES, except for ova.xml itself (at most MAX_OVA_BYTES, then
 * the driver uses memory of its own). A short fill goes to `truncated`, which says what was missing
 * and whether an HTTP error was in its place.
 *
 * Errors: `data_corrupt` (wrong checksum, structure, coverage …) naming disk and block;
 * `source_truncated`; `source_failed` when the host's HTTP 500 text follows instead of the archive.
 */
export interface Normaliser {
  readonly wantBytes: number;
  accept(view: Buffer): Step;
  /** The error for a source that ended with only `filledBytes` of the wanted bytes. */
  truncated(view: Buffer, filledBytes: number): Error;
  /** Known after ova.xml was accepted. */
  readonly disks: readonly ArchiveDisk[];
  /** The block of the last `keep`. */
  readonly block: KeptBlock | undefined;
  /** Where the archive stands in the source: bytes consumed by finished steps. */
  readonly sourceOffsetBytes: number;
  /** After `end`: what each disk holds. */
  totals(): DiskTotals[];
  /** After `end`: XXH64, in hex, over the XXH64 of every stored block in order. */
  contentDigest(): string;
  /** After `end`: the bytes of blocks.idx. */
  index(): Uint8Array;
}
