/**
 * What the codec costs: CPU seconds per GiB of normalising an export that lies in memory.
 *
 * `node bench/xva.ts [rounds]`. Every way reads the same archive into one block's memory, as an
 * upload would; the copy alone is the floor, since a real source writes straight into that memory.
 * Medians of interleaved rounds; believe ratios of one run, not absolute figures of two.
 */
import { randomFillSync } from 'node:crypto';
import { createDigestKey, loadHasher } from '../src/xva/hash.ts';
import { createNormaliser } from '../src/xva/normaliser.ts';
import { BLOCK_BYTES, BLOCK_MEMBER_BYTES } from '../src/xva/types.ts';
import { type ForeignOptions, MIB, writeForeignArchive } from '../test/fuzz/foreign-archive.ts';

const BLOCKS = 96;
const PASSES = 4;
const GIB = 1024 * MIB;

const hash = await loadHasher();
const memory = Buffer.alloc(BLOCK_MEMBER_BYTES);
const random = makeArchive({}, () => randomFillSync(Buffer.allocUnsafe(MIB)));
const sha1 = makeArchive({ checksum: 'sha1' }, () => randomFillSync(Buffer.allocUnsafe(MIB)));
const zeros = makeArchive({ sendZeros: true }, () => Buffer.alloc(MIB));

const WAYS: Record<string, () => void> = {
  'copy alone': () => copy(random),
  'copy and XXH64': () => copy(random, (view) => hash.xxh64(view.subarray(512, 512 + BLOCK_BYTES))),
  'copy and normalise': () => normalise(random),
  'copy and normalise, SHA-1': () => normalise(sha1),
  'copy and normalise, allocated zeros': () => normalise(zeros),
};

function makeArchive(options: ForeignOptions, content: () => Buffer): Buffer {
  const blocks = new Map(Array.from({ length: BLOCKS }, (_, i) => [i, content()]));
  const disk = { id: 'Ref:1', uuid: 'u', name: 'd', sizeBytes: BLOCKS * MIB, blocks };
  return writeForeignArchive([disk], options);
}

function copy(archive: Buffer, use?: (view: Buffer) => void): void {
  for (let at = 0; at < archive.length; at += BLOCK_MEMBER_BYTES) {
    archive.copy(memory, 0, at, at + BLOCK_MEMBER_BYTES);
    use?.(memory);
  }
}

function normalise(archive: Buffer): void {
  const normaliser = createNormaliser({ order: 'arrival', digestKey: createDigestKey() }, hash);
  let at = 0;
  for (let filled = 0; ; ) {
    const want = normaliser.wantBytes;
    filled += archive.copy(memory, filled, at, at + want - filled);
    at = normaliser.sourceOffsetBytes + filled;
    const step = normaliser.accept(memory);
    if (step.kind === 'end') return;
    if (step.kind !== 'more') filled = 0;
  }
}

function cpuSeconds(run: () => void): number {
  const before = process.cpuUsage();
  for (let pass = 0; pass < PASSES; pass++) run();
  const { user, system } = process.cpuUsage(before);
  return (user + system) / 1e6;
}

function median(values: number[]): number {
  return values.sort((a, b) => a - b)[values.length >> 1] ?? Number.NaN;
}

const rounds = Number(process.argv[2] ?? 5);
const samples = new Map(Object.keys(WAYS).map((name) => [name, [] as number[]]));
for (const run of Object.values(WAYS)) run();
for (let round = 0; round < rounds; round++) {
  for (const [name, run] of Object.entries(WAYS)) samples.get(name)?.push(cpuSeconds(run));
}
const scale = GIB / (BLOCKS * MIB * PASSES);
console.table(
  Object.fromEntries(
    [...samples].map(([name, values]) => [
      name,
      { 'CPU s/GiB': Number((median(values) * scale).toFixed(3)) },
    ]),
  ),
);
