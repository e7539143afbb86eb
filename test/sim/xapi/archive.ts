/**
 * The bytes of an export: ova.xml, the disks' blocks with their checksums, two zero blocks.
 *
 * Sources: xen-api `ocaml/xapi/export.ml`, `stream_vdi.ml`; ocaml-tar's V7 headers. Two styles by persona: 'zeros'
 * sends every block that is not all zero and, when nothing was sent for a while, an empty block that uses up a number;
 * 'allocated' sends the blocks that touch allocated clusters, zeros included. First and last block always come.
 *
 *   offset  size  field (V7 header, xapi's way)
 *        0   100  name
 *      100     8  mode "0000400\0" (older: "0000000\0")
 *      108    16  uid, gid "0000000\0"
 *      124    12  size, 11 octal digits and NUL
 *      136    12  mtime, likewise
 *      148     8  checksum, 7 octal digits and NUL
 *      156   356  zero
 */
import type { Persona } from './persona.ts';
import { BLOCK_BYTES, checksumText, type TrackedDisk } from './tracked-disk.ts';

/** A block member with its checksum member: 512 + 1 MiB + 512 + 512. */
export const SLAB_BYTES = 1_050_112;

const HEADER_BYTES = 512;

/** Allocation of VHD disks is known in clusters of so many bytes. */
const CLUSTER_BYTES = 2_097_152;

/** How often the broken persona repeats a QCOW2 block. */
const BROKEN_EVERY = 10;

/** Where the archive goes; `slab` waits until one of few buffers is free, which is the back-pressure. */
export interface Sink {
  slab(): Promise<Buffer>;
  /** Sends the first bytes of a slab; it comes back by itself. */
  send(slab: Buffer, length: number): Promise<void>;
  write(bytes: Uint8Array): Promise<void>;
}

export interface BlockFaults {
  wrongChecksum(disk: number, block: number): boolean;
  duplicate(disk: number, block: number): boolean;
  missing(disk: number, block: number): boolean;
}

export interface ArchiveInput {
  persona: Persona;
  ova: Buffer;
  nowMs: number;
  disks: { id: string; disk: TrackedDisk; qcow2: boolean; open(): void; close(): void }[];
  keepAliveBlockMs: number;
  zeroBlockMs: number;
  faults: BlockFaults;
  /** Called after each block and gap with the bytes of virtual disk done; throws to stop. */
  progress(doneBytes: number): void;
}

const CHECKSUM_FIELD = '        ';

/** Writes a V7 header into `target` (512 bytes). */
export function writeHeader(
  target: Buffer,
  input: { name: string; sizeBytes: number; mode: string; mtimeSeconds: number },
): void {
  target.fill(0, 0, HEADER_BYTES);
  target.write(input.name, 0, 'latin1');
  target.write(`${input.mode}\0`, 100, 'latin1');
  target.write('0000000\x000000000\0', 108, 'latin1');
  target.write(`${input.sizeBytes.toString(8).padStart(11, '0')}\0`, 124, 'latin1');
  target.write(`${input.mtimeSeconds.toString(8).padStart(11, '0')}\0`, 136, 'latin1');
  target.write(CHECKSUM_FIELD, 148, 'latin1');
  let sum = 0;
  for (let at = 0; at < 157; at += 1) sum += target[at] ?? 0;
  target.write(`${sum.toString(8).padStart(7, '0')}\0`, 148, 'latin1');
}

/** Blocks that may hold something, ascending, first and last always among them. */
function* candidates(disk: TrackedDisk, style: Persona['blocks']): Generator<number> {
  const last = Math.max(0, Math.ceil(disk.sizeBytes / BLOCK_BYTES) - 1);
  const unit = style === 'zeros' ? BLOCK_BYTES : CLUSTER_BYTES;
  yield 0;
  let next = 1;
  while (next < last) {
    const from = Math.floor((next * BLOCK_BYTES) / unit) * unit;
    const data = disk.nextData(Math.max(from, 0));
    if (data === undefined) break;
    const start = Math.max(next, Math.floor(data / unit) * (unit / BLOCK_BYTES));
    const end = Math.floor(data / unit + 1) * (unit / BLOCK_BYTES);
    for (next = start; next < end && next < last; next += 1) yield next;
    next = Math.max(next, end);
  }
  if (last > 0) yield last;
}

interface DiskRun {
  input: ArchiveInput;
  sink: Sink;
  diskIndex: number;
  id: string;
  disk: TrackedDisk;
  last: number;
  /** Numbers used up by empty blocks so far. */
  empties: number;
  /** How long nothing was sent, by `zeroBlockMs`. */
  silentMs: number;
}

function memberName(run: DiskRun, number: number): string {
  return `${run.id}/${String(number).padStart(8, '0')}`;
}

/** Lays header, content (already at 512 in the slab) and checksum member out, and returns the total length. */
function seal(
  run: DiskRun,
  slab: Buffer,
  block: { number: number; sizeBytes: number; sum: string },
): number {
  const { tarMode: mode, checksum } = run.input.persona;
  const { number, sizeBytes, sum } = block;
  const name = memberName(run, number);
  writeHeader(slab, { name, sizeBytes, mode, mtimeSeconds: 0 });
  const padded = Math.ceil(sizeBytes / 512) * 512;
  slab.fill(0, HEADER_BYTES + sizeBytes, HEADER_BYTES + padded);
  const at = HEADER_BYTES + padded;
  const suffix = checksum === 'sha1' ? 'checksum' : 'xxhash';
  const sumHeader = slab.subarray(at, at + HEADER_BYTES);
  writeHeader(sumHeader, {
    name: `${name}.${suffix}`,
    sizeBytes: sum.length,
    mode,
    mtimeSeconds: 0,
  });
  slab.fill(0, at + HEADER_BYTES, at + HEADER_BYTES * 2);
  slab.write(sum, at + HEADER_BYTES, 'latin1');
  return at + HEADER_BYTES * 2;
}

async function sendEmpty(run: DiskRun, index: number): Promise<void> {
  const slab = await run.sink.slab();
  const sum = checksumText(run.input.persona.checksum, new Uint8Array(0));
  const length = seal(run, slab, { number: index + run.empties, sizeBytes: 0, sum });
  run.empties += 1;
  run.silentMs = 0;
  await run.sink.send(slab, length);
}

/** Blocks [from, to) hold nothing: only time passes, and now and then an empty block is due. */
async function skip(run: DiskRun, from: number, to: number): Promise<void> {
  const { zeroBlockMs, keepAliveBlockMs, persona } = run.input;
  if (persona.blocks !== 'zeros' || zeroBlockMs <= 0) return;
  let at = from;
  while (at < to) {
    const due = Math.max(1, Math.ceil((keepAliveBlockMs - run.silentMs) / zeroBlockMs));
    if (due > to - at) {
      run.silentMs += (to - at) * zeroBlockMs;
      return;
    }
    at += due;
    await sendEmpty(run, at - 1);
    run.input.progress(at * BLOCK_BYTES);
  }
}

function wrongSum(sum: string): string {
  return (sum.startsWith('0') ? '1' : '0') + sum.slice(1);
}

async function sendBlock(run: DiskRun, index: number, number: number): Promise<boolean> {
  const { input, disk, diskIndex } = run;
  const { persona, faults } = input;
  const edge = index === 0 || index === run.last;
  if (!edge && persona.blocks === 'zeros' && disk.isZero(index) === true) return false;
  const slab = await run.sink.slab();
  const sizeBytes = Math.min(BLOCK_BYTES, disk.sizeBytes - index * BLOCK_BYTES);
  const content = slab.subarray(HEADER_BYTES, HEADER_BYTES + sizeBytes);
  disk.read(index * BLOCK_BYTES, content);
  if (!edge && persona.blocks === 'zeros' && disk.isZero(index) === undefined) {
    const zero = content.equals(ZEROS);
    disk.markZero(index, zero);
    if (zero) {
      await run.sink.send(slab, 0);
      return false;
    }
  }
  const right = disk.checksum(index, persona.checksum, content);
  const sum = faults.wrongChecksum(diskIndex, index) ? wrongSum(right) : right;
  await run.sink.send(slab, seal(run, slab, { number, sizeBytes, sum }));
  run.silentMs = 0;
  return true;
}

const ZEROS = Buffer.alloc(BLOCK_BYTES);

async function writeDisk(run: DiskRun, qcow2: boolean): Promise<void> {
  const { input, disk, diskIndex } = run;
  const { faults, persona } = input;
  const oddSize = disk.sizeBytes % BLOCK_BYTES !== 0;
  let next = 0;
  let early = -1;
  for (const index of candidates(disk, persona.blocks)) {
    await skip(run, next, index);
    next = index + 1;
    if (faults.missing(diskIndex, index) || index === early) continue;
    if (persona.brokenExport && oddSize && index > 0 && early < 0) {
      // As xapi 26.0 to 26.1.3 did: the short last block comes out of order.
      early = run.last;
      await sendBlock(run, run.last, run.last);
      if (index === run.last) continue;
    }
    const sent = await sendBlock(run, index, index + run.empties);
    if (!sent) await skip(run, index, next);
    const twice = persona.brokenExport && qcow2 && index % BROKEN_EVERY === 1;
    if (twice || faults.duplicate(diskIndex, index)) {
      await sendBlock(run, index, index + run.empties);
    }
    input.progress(Math.min(next * BLOCK_BYTES, disk.sizeBytes));
  }
}

/** The metadata member, padded. */
export function ovaMember(persona: Persona, ova: Buffer, nowMs: number): Buffer {
  const padded = Math.ceil(ova.length / 512) * 512;
  const member = Buffer.alloc(HEADER_BYTES + padded);
  writeHeader(member, {
    name: 'ova.xml',
    sizeBytes: ova.length,
    mode: persona.tarMode,
    mtimeSeconds: persona.stampedOva ? Math.floor(nowMs / 1000) : 0,
  });
  ova.copy(member, HEADER_BYTES);
  return member;
}

/** Writes a whole archive into `sink`. */
export async function writeArchive(input: ArchiveInput, sink: Sink): Promise<void> {
  await sink.write(ovaMember(input.persona, input.ova, input.nowMs));
  let before = 0;
  for (const [diskIndex, { id, disk, qcow2, open, close }] of input.disks.entries()) {
    const doneBefore = before;
    const run: DiskRun = {
      input: { ...input, progress: (done) => input.progress(doneBefore + done) },
      sink,
      diskIndex,
      id,
      disk,
      last: Math.max(0, Math.ceil(disk.sizeBytes / BLOCK_BYTES) - 1),
      empties: 0,
      silentMs: 0,
    };
    open();
    try {
      await writeDisk(run, qcow2);
    } finally {
      close();
    }
    before += disk.sizeBytes;
  }
  await sink.write(new Uint8Array(1024));
}
