/**
 * Damaged archives against the codec: `node test/fuzz/xva.ts [cases] [seed]`, or XVAULT_FUZZ_CASES
 * and XVAULT_FUZZ_SEED.
 *
 * Every case damages a good archive once or a few times and reads it. Allowed: a BackupError, or
 * exactly the true content. Not allowed: any other exception, a read that does not end, other
 * content. Damage that builds another valid archive (whole members moved, headers changed with
 * their sum made right) cannot be told by any reader, since block numbers are under no checksum;
 * there the independent importer of foreign-archive.ts says what is true.
 */
import assert from 'node:assert/strict';
import { isBackupError } from '../../src/errors.ts';
import { readArchive } from '../../src/xva/reader.ts';
import type { ArchiveDisk, DiskOrder, KeptBlock } from '../../src/xva/types.ts';
import {
  contentAt,
  type ForeignDisk,
  importDisks,
  MIB,
  setHeaderSum,
  writeForeignArchive,
} from './foreign-archive.ts';
import { disk, hash } from './normalise.ts';

/** Reads in a case, before it counts as hanging: the largest archive has under 100 members. */
const MAX_FILLS = 1000;

interface Base {
  disks: ForeignDisk[];
  archive: Buffer;
  /** Offsets of all tar headers, the zero blocks included. */
  headers: number[];
}

export interface FuzzResult {
  cases: number;
  accepted: number;
  /** Refusals by code. */
  refused: Record<string, number>;
}

type Random = (below: number) => number;

/** Damage that keeps whole members, or makes header sums right again: the importer judges. */
type Damage = (bytes: Buffer, base: Base, random: Random) => { bytes: Buffer; shaped: boolean };

/**
 * Runs until all cases are done or the time is over. Throws at the first wrong one, with its
 * number and seed.
 */
export async function fuzzXva(input: {
  cases: number;
  seed: number;
  isOver?: () => boolean;
}): Promise<FuzzResult> {
  const bases = makeBases();
  for (const base of bases) await assertAccepted(base);
  const result: FuzzResult = { cases: 0, accepted: 0, refused: {} };
  for (; result.cases < input.cases && !input.isOver?.(); result.cases++) {
    const random = createRandom(input.seed + result.cases * 7919);
    const base = bases[random(bases.length)] as Base;
    try {
      const code = await runCase(base, random);
      if (code === 'accepted') result.accepted++;
      else result.refused[code] = (result.refused[code] ?? 0) + 1;
    } catch (error) {
      throw new Error(`fuzz case ${result.cases} of seed ${input.seed}`, { cause: error });
    }
  }
  return result;
}

/** A reader that refuses everything would pass all cases. */
async function assertAccepted(base: Base): Promise<void> {
  const seen = await read(base.archive);
  assert.ok(typeof seen !== 'string', `refuses a good archive: ${seen}`);
  assertTrue(seen, base.disks);
}

async function runCase(base: Base, random: Random): Promise<string> {
  let { archive } = base;
  let isShaped = false;
  for (let times = random(8) === 0 ? 3 : 1; times > 0; times--) {
    const damage = DAMAGES[random(DAMAGES.length)] as Damage;
    const damaged = damage(archive, base, random);
    archive = damaged.bytes;
    isShaped ||= damaged.shaped;
  }
  const seen = await read(archive, random(2) === 0 ? 'device' : 'arrival');
  if (typeof seen === 'string') return seen;
  if (isShaped && !base.archive.equals(archive)) assertAsImported(seen, archive, base);
  else assertTrue(seen, base.disks);
  return 'accepted';
}

interface Seen {
  disks: readonly ArchiveDisk[];
  /** Content that is not zero, by position. */
  blocks: Map<number, Buffer>[];
}

async function read(archive: Buffer, order: DiskOrder = 'arrival'): Promise<Seen | string> {
  const seen: Seen = { disks: [], blocks: [] };
  const visitor = {
    disks: (disks: readonly ArchiveDisk[]) => {
      seen.disks = disks;
      seen.blocks = disks.map(() => new Map());
    },
    block: (block: KeptBlock, content: Buffer) => {
      // Memory is reused for the next block.
      if (!content.equals(ZEROS.subarray(0, content.length))) {
        const arrival = seen.disks.findIndex(({ index }) => index === block.diskIndex);
        seen.blocks[arrival]?.set(block.number, Buffer.from(content));
      }
    },
  };
  let at = 0;
  let fills = 0;
  const fill = async (target: Uint8Array) => {
    assert.ok(++fills < MAX_FILLS, 'reads without end');
    const count = archive.copy(target, 0, at);
    at += count;
    return count;
  };
  try {
    await readArchive(fill, { hash, order, visitor }, { signal: NEVER });
    return seen;
  } catch (error) {
    if (isBackupError(error) && error.code !== 'internal') return error.code;
    throw error;
  }
}

const ZEROS = Buffer.alloc(MIB);
const NEVER = new AbortController().signal;

function assertTrue(seen: Seen, disks: ForeignDisk[]): void {
  assert.deepEqual(
    seen.disks.map((found) => [found.sourceId, found.virtualSizeBytes]),
    disks.map((truth) => [truth.id, truth.sizeBytes]),
  );
  for (const [i, truth] of disks.entries()) {
    assertSameBlocks(seen.blocks[i], new Map([...truth.blocks]));
  }
}

function assertAsImported(seen: Seen, archive: Buffer, base: Base): void {
  const disks = seen.disks.map((found) => ({
    id: found.sourceId,
    sizeBytes: found.virtualSizeBytes,
  }));
  assert.equal(disks.length, base.disks.length);
  const imported = importDisks(archive, disks);
  for (const [i, blocks] of imported.entries()) assertSameBlocks(seen.blocks[i], blocks);
}

function assertSameBlocks(seen: Map<number, Buffer> | undefined, truth: Map<number, Buffer>): void {
  assert.deepEqual(
    [...(seen?.keys() ?? [])],
    [...truth.keys()].sort((a, b) => a - b),
  );
  for (const [number, content] of truth) assert.ok(seen?.get(number)?.equals(content));
}

/**
 * Small, so that a case costs little, but with every shape: gaps, empty blocks, odd sizes, two
 * disks, SHA-1.
 */
function makeBases(): Base[] {
  const odd = disk(0, 3 * MIB + 700, [0, 2, 3]);
  const even = disk(0, 2 * MIB, [1]);
  const gaps = disk(0, 7 * MIB, [0, 3, 6]);
  const small = disk(0, 5000, [0]);
  const second = disk(1, 900, [0]);
  return [
    { disks: [small], options: {} },
    { disks: [small], options: { checksum: 'sha1' as const } },
    { disks: [small, second], options: { header: 'ustar' as const } },
    { disks: [small, second], options: {} },
    { disks: [odd], options: { emptyBefore: new Set([2]) } },
    { disks: [even, second], options: { header: 'v7-old' as const } },
    { disks: [gaps], options: {} },
    { disks: [], options: {} },
  ].map(({ disks, options }) => {
    const archive = writeForeignArchive(disks, options);
    for (const { sizeBytes, blocks } of disks) {
      assert.ok(
        [...blocks.keys()].every((n) => contentAt({ sizeBytes, blocks } as ForeignDisk, n)),
      );
    }
    return { disks, archive, headers: findHeaders(archive) };
  });
}

function findHeaders(archive: Buffer): number[] {
  const headers: number[] = [];
  for (let at = 0; at < archive.length; ) {
    headers.push(at);
    const size = Number.parseInt(archive.toString('latin1', at + 124, at + 135), 8) || 0;
    at += 512 + Math.ceil(size / 512) * 512;
  }
  return headers;
}

const DAMAGES: Damage[] = [
  /** Some bytes become others, anywhere. */
  (bytes, base, random) => {
    const out = Buffer.from(bytes);
    for (let times = 1 + random(4); times > 0; times--) {
      const at = anyPlace(out, base, random);
      if (at < out.length) out[at] = random(256);
    }
    return { bytes: out, shaped: false };
  },
  /** One bit flips. */
  (bytes, base, random) => {
    const out = Buffer.from(bytes);
    const at = anyPlace(out, base, random);
    if (at < out.length) out[at] = (out[at] as number) ^ (1 << random(8));
    return { bytes: out, shaped: false };
  },
  /** The end is missing. */
  (bytes, base, random) => ({
    bytes: bytes.subarray(0, anyPlace(bytes, base, random)),
    shaped: false,
  }),
  /** Bytes are missing, by any count or by 512s. */
  (bytes, base, random) => {
    const { at, length } = anyRange(bytes, base, random);
    return splice(bytes, base, { at, length }, Buffer.alloc(0));
  },
  /** A range comes twice. */
  (bytes, base, random) => {
    const { at, length } = anyRange(bytes, base, random);
    return splice(bytes, base, { at, length: 0 }, bytes.subarray(at, at + length));
  },
  /** A range is written over another place. */
  (bytes, base, random) => {
    const { at, length } = anyRange(bytes, base, random);
    const from = anyPlace(bytes, base, random);
    return splice(bytes, base, { at, length }, bytes.subarray(from, from + length));
  },
  /** Noise, zeros or a host's failure come in between. */
  (bytes, base, random) => {
    const texts = [
      Buffer.alloc(random(3000)),
      Buffer.from(Array.from({ length: random(2000) }, () => random(256))),
      Buffer.from('HTTP/1.1 500 Internal Error\r\n\r\n<html>VDI_IO_ERROR: [ x; y ]</html>'),
    ];
    const insert = texts[random(texts.length)] as Buffer;
    return splice(bytes, base, { at: anyPlace(bytes, base, random), length: 0 }, insert);
  },
  /** The end is missing and a host's failure stands there. */
  (bytes, base, random) => ({
    bytes: Buffer.concat([
      bytes.subarray(0, anyPlace(bytes, base, random)),
      Buffer.from('HTTP/1.0 500 Internal Error\r\n\r\n<html>SR_BACKEND_FAILURE_46: [ ; x ]</html>'),
    ]),
    shaped: false,
  }),
  /** A header says something else, and its sum agrees or not. */
  (bytes, base, random) => {
    const out = Buffer.from(bytes);
    const at = anyHeader(base, random);
    const isSumRight = random(2) === 0;
    if (at + 512 > out.length) return { bytes: out, shaped: true };
    const fields = [0, 4, 8, 13, 14, 14, 14, 15, 100, 124, 130, 134, 135, 136, 156, 257, 345];
    const field = fields[random(fields.length)] as number;
    out[at + field] = random(4) ? 0x30 + random(8) : random(256);
    if (isSumRight) setHeaderSum(out, at);
    return { bytes: out, shaped: isSumRight };
  },
  /** ova.xml says something else. */
  (bytes, _base, random) => {
    const out = Buffer.from(bytes);
    const size = Number.parseInt(out.toString('latin1', 124, 135), 8);
    if (size > 0 && out.length > 512 + size) out[512 + random(size)] = 0x20 + random(0x5f);
    return { bytes: out, shaped: true };
  },
  /** Whole members move, vanish or come twice, as a rule a block with its checksum. */
  (bytes, base, random) => {
    const { headers } = base;
    const isPair = random(3) > 0;
    const from = isPair ? 1 + 2 * random(headers.length >> 1) : random(headers.length);
    const count = isPair ? 2 : 1 + random(3);
    const start = headers[from] ?? bytes.length;
    const end = headers[from + count] ?? bytes.length;
    const rest = random(2) ? Buffer.concat([bytes.subarray(0, start), bytes.subarray(end)]) : bytes;
    const at = Math.min(random(2) ? start : anyHeader(base, random), rest.length);
    const insert = random(3) ? [bytes.subarray(start, end)] : [];
    return {
      bytes: Buffer.concat([rest.subarray(0, at), ...insert, rest.subarray(at)]),
      shaped: true,
    };
  },
];

/** Damage that happens to begin and end at headers has moved whole members. */
function splice(
  bytes: Buffer,
  base: Base,
  { at, length }: { at: number; length: number },
  insert: Buffer,
) {
  const shaped = base.headers.includes(at);
  return {
    bytes: Buffer.concat([bytes.subarray(0, at), insert, bytes.subarray(at + length)]),
    shaped,
  };
}

function anyHeader(base: Base, random: Random): number {
  return base.headers[random(base.headers.length)] as number;
}

/** Half of the places lie in or near headers, where most of the meaning is. */
function anyPlace(bytes: Buffer, base: Base, random: Random): number {
  if (random(2)) return random(bytes.length + 1);
  return Math.min(bytes.length, anyHeader(base, random) + random(700));
}

function anyRange(bytes: Buffer, base: Base, random: Random) {
  const unit = random(2) ? 512 : 1;
  const at = Math.floor(anyPlace(bytes, base, random) / unit) * unit;
  const reach = random(3) === 0 ? bytes.length : 2000;
  return { at, length: Math.ceil((1 + random(reach)) / unit) * unit };
}

/** mulberry32: small, seeded, good enough to choose places. */
function createRandom(seed: number): Random {
  let state = seed >>> 0;
  return (below) => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) % below;
  };
}

if (import.meta.main) {
  const cases = Number(process.argv[2] ?? process.env.XVAULT_FUZZ_CASES ?? 100_000);
  const seed = Number(process.argv[3] ?? process.env.XVAULT_FUZZ_SEED ?? Date.now() % 1_000_000);
  console.log(`xva fuzz: cases=${cases} seed=${seed}`);
  console.log(await fuzzXva({ cases, seed }));
}
