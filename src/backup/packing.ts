/**
 * How the pieces of an archive become the object's bytes: as they are, or each in a zstd frame of its own.
 *
 * With the frames' lengths in the index any block is found without reading the others, and a frame of an unchanged
 * block is the same bytes again (one program, version and level: `COMPRESSION`), so it can be copied like a plain one.
 * The block is compressed out of the memory it was read into, and the frame put back there.
 *
 * So nobody who holds memory of the budget waits for more of it. A job compresses one block at a time, in Node's
 * thread pool, while the host goes on filling the socket; jobs do so side by side. Beside the budget there are, for
 * each job, one frame and what zstd works in, and what of these is not collected yet (docs/delta.md has figures). Frames that are
 * going to be copied are made, too: the plan may send them, and their length and checksum are proofs.
 */
import assert from 'node:assert/strict';
import type { Backup } from '../catalog/record.ts';
import type { Cancellable, ObjectUpload } from '../ports.ts';
import { COMPRESSION, createFrameLog } from '../xva/frames.ts';
import { digestOva } from '../xva/hash.ts';
import type { ArchiveDisk, FrameTable, KeptBlock } from '../xva/types.ts';
import { compressFrame } from '../xva/zstd.ts';
import type { BaseBlocks } from './delta-blocks.ts';

// a frame holds one block: groups of several would have to be gathered first
assert.equal(COMPRESSION.groupBlocks, 1);

export interface Packing {
  /** ova.xml's member. */
  head(bytes: Uint8Array, options: Cancellable): Promise<void>;
  /** A block's member, which is the first `memberBytes` of the memory last reserved. */
  block(input: PackedBlock, options: Cancellable): Promise<void>;
  end(bytes: Uint8Array, options: Cancellable): Promise<void>;
  /** After the end: what the index must know of a compressed archive. */
  frames(): FrameTable | undefined;
  /** After the head: SHA-256 of ova.xml's member, before compression. */
  readonly ovaSha256: string;
  /** Of a compressed archive: how long what was packed so far is without compression. */
  readonly plainBytes: number | undefined;
}

export interface PackedBlock {
  memory: Buffer;
  memberBytes: number;
  disk: ArchiveDisk;
  block: KeptBlock;
}

interface PackingInput {
  upload: ObjectUpload;
  /** Of a delta: finds what need not be sent. */
  blocks?: Pick<BaseBlocks, 'find'> | undefined;
}

/** Packs for one upload. */
export function createPacking(input: PackingInput, compression: Backup['compression']): Packing {
  return compression === 'zstd' ? createZstdPacking(input) : createPlainPacking(input);
}

function createPlainPacking({ upload, blocks }: PackingInput): Packing {
  let ovaSha256 = '';
  return {
    head: (bytes, options) => {
      ovaSha256 = digestOva(bytes);
      return upload.write(bytes, options);
    },
    block: async ({ memberBytes, disk, block }, options) => {
      const same = await blocks?.find(disk, block, options);
      const isSame = same?.lengthBytes === memberBytes;
      upload.commit(memberBytes, isSame ? same.offsetBytes : undefined);
    },
    end: (bytes, options) => upload.write(bytes, options),
    frames: () => undefined,
    plainBytes: undefined,
    get ovaSha256() {
      return ovaSha256;
    },
  };
}

function createZstdPacking({ upload, blocks }: PackingInput): Packing {
  const log = createFrameLog();
  let plainBytes = 0;
  let ovaSha256 = '';
  const compress = (bytes: Uint8Array) => {
    plainBytes += bytes.length;
    return compressFrame(bytes, COMPRESSION.level);
  };
  return {
    head: async (bytes, options) => {
      ovaSha256 = digestOva(bytes);
      const frame = await compress(bytes);
      log.head(frame.length);
      await upload.write(frame, options);
    },
    block: async ({ memory, memberBytes, disk, block }, options) => {
      const frame = await compress(memory.subarray(0, memberBytes));
      log.add(disk.index, frame.length);
      const found = await blocks?.find(disk, block, options);
      // of one length, or something of the program has changed after all
      const same = found?.lengthBytes === frame.length ? found.offsetBytes : undefined;
      const first = Math.min(frame.length, memory.length);
      frame.copy(memory, 0, 0, first);
      upload.commit(first, same);
      if (first === frame.length) return;
      // what cannot be compressed becomes some bytes longer than the memory of a member
      const rest = await upload.reserve(frame.length - first, options);
      frame.copy(rest, 0, first);
      upload.commit(rest.length, same === undefined ? undefined : same + first);
    },
    end: async (bytes, options) => {
      const frame = await compress(bytes);
      log.end(frame.length);
      await upload.write(frame, options);
    },
    frames: log.table,
    get ovaSha256() {
      return ovaSha256;
    },
    get plainBytes() {
      return plainBytes;
    },
  };
}
