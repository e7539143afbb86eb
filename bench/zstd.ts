/**
 * How large a group of blocks to compress together, and at which level: the table of docs/xva.md.
 *
 * `node bench/zstd.ts <raw disk image> [blocks]`: reads the image's first stored blocks (runs of 64 of every 192), and
 * compresses them in groups of N. CPU is that of the whole process, thread pool included; ratios are exact.
 */
import { open } from 'node:fs/promises';
import { BLOCK_BYTES, BLOCK_MEMBER_BYTES } from '../src/xva/types.ts';
import { compressFrame, decompressFrame } from '../src/xva/zstd.ts';

const GIB = 1024 ** 3;
const RUN = 64;
const GROUPS = [1, 2, 4, 8, 16];
const LEVELS = [1, 3];

const [path = '', wanted = '512'] = process.argv.slice(2);
const blocks = await readBlocks(path, Number(wanted));
const plainGib = (blocks.length * BLOCK_BYTES) / GIB;
console.log(`${blocks.length} stored blocks, zstd ${process.versions.zstd}`);
console.log('level | blocks | ratio | frame KiB: mean, largest | CPU s/GiB: in, out');
for (const level of LEVELS) for (const size of GROUPS) await measure(level, size);

async function readBlocks(
  file: string,
  count: number,
): Promise<{ number: number; bytes: Buffer }[]> {
  const zeros = Buffer.alloc(BLOCK_BYTES);
  const found: { number: number; bytes: Buffer }[] = [];
  await using handle = await open(file);
  for (let number = 0; found.length < count; number++) {
    if (Math.floor(number / RUN) % 3 !== 0) continue;
    const bytes = Buffer.alloc(BLOCK_MEMBER_BYTES);
    const { bytesRead } = await handle.read(bytes, 512, BLOCK_BYTES, number * BLOCK_BYTES);
    if (bytesRead < BLOCK_BYTES) break;
    if (!bytes.subarray(512, 512 + BLOCK_BYTES).equals(zeros)) found.push({ number, bytes });
  }
  return found;
}

async function measure(level: number, size: number): Promise<void> {
  const groups = Map.groupBy(blocks, ({ number }) => Math.floor(number / size));
  const frames: { frame: Buffer; plainBytes: number }[] = [];
  const inSeconds = await cpuSeconds(async () => {
    for (const members of groups.values()) {
      const plain = Buffer.concat(members.map(({ bytes }) => bytes));
      frames.push({ frame: await compressFrame(plain, level), plainBytes: plain.length });
    }
  });
  const outSeconds = await cpuSeconds(async () => {
    for (const { frame, plainBytes } of frames) await decompressFrame(frame, plainBytes);
  });
  const lengths = frames.map(({ frame }) => frame.length);
  const total = lengths.reduce((sum, length) => sum + length, 0);
  const cells = [
    level,
    size,
    (total / (blocks.length * BLOCK_BYTES)).toFixed(4),
    `${Math.round(total / lengths.length / 1024)}, ${Math.round(Math.max(...lengths) / 1024)}`,
    `${(inSeconds / plainGib).toFixed(2)}, ${(outSeconds / plainGib).toFixed(2)}`,
  ];
  console.log(cells.join(' | '));
}

async function cpuSeconds(run: () => Promise<void>): Promise<number> {
  const before = process.cpuUsage();
  await run();
  const { user, system } = process.cpuUsage(before);
  return (user + system) / 1e6;
}
