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

/** Bytes of a block's keyed digest, and of the key. */
export const DIGEST_BYTES = 16;

/**
 * 128 bits of a block's content under a key that no guest knows. Equal digests under one key: equal
 * content, up to 65,537 in 2^128 (docs/xva.md, "Keyed digest").
 */
export type BlockDigest = (content: Uint8Array) => Buffer;

/** One disk of an archive. */
export interface ArchiveDisk {
  /** Its place in the archive, from 0: the rank of `archiveId`. */
  index: number;
  /** Directory in the normalised archive, such as Ref:000. */
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

/**
 * Which ids disks get, and so in which order they lie in the archive.
 *
 * device: `Ref:` and the device number. A disk keeps its id from backup to backup, whatever comes
 * and goes beside it, so that its blocks can be copied; the disks come in another order, and the
 * driver brings them to their places (`ArchiveDisk.index`).
 * arrival: numbered as they come: nothing needs to be moved, and nothing can be copied later.
 * kept: ova.xml, ids and order stay what they are, for reading an archive of ours. A piece that is
 * not byte for byte what we would write is refused (`data_corrupt`).
 */
export type DiskOrder = 'device' | 'arrival' | 'kept';

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

/** How an archive is to be normalised. */
export interface NormaliserInput {
  /** Without it the machine keeps the names and uuids its ova.xml gives. */
  rewrite?: OvaRewrite;
  order: DiskOrder;
  /** DIGEST_BYTES of `createDigestKey`, or of the index of the archive to be compared with. */
  digestKey: Uint8Array;
}

/** The block that the last `keep` stands for. */
export interface KeptBlock {
  /** `ArchiveDisk.index`. */
  diskIndex: number;
  /** Position on the disk in units of BLOCK_BYTES. */
  number: number;
  /** BLOCK_BYTES, or less for a disk's last one. Its bytes lie at 512 of the kept memory. */
  lengthBytes: number;
  xxh64: bigint;
  /** Of its content, under the normaliser's key. */
  digest: Buffer;
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
  /** Known after ova.xml was accepted; in the order in which they come, not in that of the archive. */
  readonly disks: readonly ArchiveDisk[];
  /** The block of the last `keep`. */
  readonly block: KeptBlock | undefined;
  /** Where the archive stands in the source: bytes consumed by finished steps. */
  readonly sourceOffsetBytes: number;
  /** After `end`: what each disk holds, in the order of the archive. */
  totals(): DiskTotals[];
  /** After `end`: XXH64, in hex, over the XXH64 of every stored block in the order of the archive. */
  contentDigest(): string;
  /** After `end`: the bytes of blocks.idx, with the frames into which the archive was compressed. */
  index(frames?: FrameTable): Uint8Array;
}

/**
 * blocks.idx without its entries: all that is needed to say where a block lies (docs/xva.md).
 *
 * Read by `openIndex`, which asks for two or three ranges of the file; or by `decodeIndex` from the
 * whole of it. Everything here was checked when it was read.
 */
export interface BlocksIndex {
  /** Length of the archive, uncompressed. */
  archiveBytes: number;
  /** ova.xml with header and padding: where the first disk begins. */
  ovaMemberBytes: number;
  contentDigest: bigint;
  /** DIGEST_BYTES; a secret towards guests. */
  digestKey: Buffer;
  /** In the order of the archive. */
  disks: IndexedDisk[];
  /** Only of a compressed archive. */
  frames?: FrameTable;
}

/** A disk of an index: its shape, and where its entries lie. */
export interface IndexedDisk {
  archiveId: string;
  /** Of the live disk. */
  vdiUuid: string;
  virtualSizeBytes: number;
  storedBlocks: number;
  /** Where the disk's first member begins in the (uncompressed) archive. */
  offsetBytes: number;
  /** Which blocks are stored: block n is bit n % 8 (of value 1 << n % 8) of byte n >> 3. */
  presence: Presence;
  /** Where its entries begin in blocks.idx, one for each stored block in ascending order. */
  entriesOffsetBytes: number;
  /** XXH64 of its entries together. */
  entriesDigest: bigint;
}

/** A bitmap with sums, so that both ways of looking are quick. */
export interface Presence {
  /** One bit for each block of the virtual size. */
  readonly bits: Buffer;
  /** How many blocks below `number` are stored: the position of `number` itself, if it is stored. */
  rank(number: number): number;
  has(number: number): boolean;
  /** The number of the `position`-th stored block, from 0. */
  select(position: number): number;
}

/** Where a stored block lies in the (uncompressed) archive. */
export interface IndexedBlock {
  number: number;
  /** Among the disk's stored blocks, from 0: that of its entry. */
  position: number;
  /** Where its tar header begins; the content begins 512 bytes later. */
  offsetBytes: number;
  /** Header, content, padding, checksum member. */
  memberBytes: number;
  lengthBytes: number;
}

/** What the index says of a stored block's content. */
export interface IndexEntry {
  xxh64: bigint;
  /** DIGEST_BYTES, a view. */
  digest: Buffer;
}

/** How an archive was compressed, and where its frames lie. */
export interface FrameTable {
  /** Program, version, level and grouping: frames with other parameters are never the same. */
  parameters: string;
  /** A frame holds the stored ones of this many neighbouring blocks of one disk. */
  groupBlocks: number;
  /** Compressed length of every frame, 4 bytes each: ova.xml, the groups of all disks, the end. */
  lengths: Buffer;
}
