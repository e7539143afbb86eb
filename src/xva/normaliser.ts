/**
 * A host's export in, our archive out: checked, block by block, in the memory it was read into.
 *
 * What comes out depends on the disks' contents and ova.xml alone: folders Ref:000 …, blocks numbered by
 * position, no empty and no all-zero blocks but a disk's first and last, one header form, `.xxhash` checksums.
 * Places follow the importer's rule (xapi `stream_vdi.ml`): numbers skipped count as many lengths of the very
 * first block of the archive, an empty block takes a number and no place.
 *
 * Cost a block: two headers read and written, one XXH64, one comparison; the zero test runs only
 * when the hash says so. Not done: I/O, decompression.
 */
import { BackupError } from '../errors.ts';
import { END_BYTES } from './blocks-index.ts';
import { createEntryTable, type EntryTable } from './entries.ts';
import {
  findHttpTail,
  hostFailure,
  MAX_FAILURE_TEXT_BYTES,
  sourceFault,
  startsWithHttp,
} from './fault.ts';
import { createBlockDigest } from './hash.ts';
import { CHECKSUM_MEMBER_BYTES, judgeChecksum, writeMember } from './member.ts';
import { parseOva } from './ova.ts';
import { keptDisks, rewriteOva } from './rewrite.ts';
import { countDisks, digestDisks, indexOf } from './summary.ts';
import { paddedBytes, readHeader, TAR_BLOCK_BYTES, writeHeader } from './tar.ts';
import {
  type ArchiveDisk,
  BLOCK_BYTES,
  type BlockDigest,
  type Hasher,
  type KeptBlock,
  MAX_OVA_BYTES,
  type Normaliser,
  type NormaliserInput,
  type Step,
} from './types.ts';

const ZEROS = Buffer.alloc(BLOCK_BYTES);
/** XXH64 of 1 MiB of zeros. */
const ZERO_DIGEST = 0x87d2a1b6e1163ef1n;
const END = Buffer.alloc(END_BYTES);
const MORE: Step = { kind: 'more' };
const DROP: Step = { kind: 'drop' };

type Phase = 'ova-header' | 'ova' | 'header' | 'block' | 'end' | 'after' | 'failure';

/** The member whose content is awaited. */
interface Pending {
  name: string;
  /** As the source numbers it. */
  number: number;
  sizeBytes: number;
  positionBytes: number;
}

interface State {
  readonly input: NormaliserInput;
  readonly hash: Hasher;
  readonly digest: BlockDigest;
  phase: Phase;
  wantBytes: number;
  /** Where in the view an HTTP response would begin, or has begun. */
  failureAt: number;
  sourceOffsetBytes: number;
  /** ova.xml as the source has it, and its whole member as we write it. */
  ovaBytes: number;
  ovaMemberBytes: number;
  disks: ArchiveDisk[];
  /** By place in the archive. */
  tables: EntryTable[];
  /** The disk that is being read, in the order of the source. */
  current: number;
  /** Number of the current disk's last member, as the source counts. */
  number: number;
  /** How far the current disk is covered. */
  positionBytes: number;
  /** Length of the source's first block: the unit of its skipped numbers. */
  unitBytes: number | undefined;
  /** The same of our archive. */
  ourUnitBytes: number;
  pending: Pending | undefined;
  kept: KeptBlock | undefined;
  /** Made once, at the first question after the end. */
  contentDigest: bigint | undefined;
}

/** Starts a new archive. */
export function createNormaliser(input: NormaliserInput, hash: Hasher): Normaliser {
  const state: State = {
    input,
    hash,
    digest: createBlockDigest(input.digestKey),
    phase: 'ova-header',
    wantBytes: TAR_BLOCK_BYTES,
    failureAt: 0,
    sourceOffsetBytes: 0,
    ovaBytes: 0,
    ovaMemberBytes: 0,
    disks: [],
    tables: [],
    current: 0,
    number: -1,
    positionBytes: 0,
    unitBytes: undefined,
    ourUnitBytes: BLOCK_BYTES,
    pending: undefined,
    kept: undefined,
    contentDigest: undefined,
  };
  return {
    get wantBytes() {
      return state.wantBytes;
    },
    get disks() {
      return state.disks;
    },
    get block() {
      return state.kept;
    },
    get sourceOffsetBytes() {
      return state.sourceOffsetBytes;
    },
    accept: (view) => accept(state, view.subarray(0, state.wantBytes)),
    truncated: (view, filledBytes) => truncated(state, view.subarray(0, filledBytes)),
    totals: () => {
      requireEnd(state);
      return countDisks(state);
    },
    contentDigest: () => contentDigestOf(state).toString(16).padStart(16, '0'),
    index: (frames) => indexOf({ ...state, contentDigest: contentDigestOf(state), frames }),
  };
}

function accept(state: State, view: Buffer): Step {
  const step = STEPS[state.phase](state, view);
  if (step.kind === 'more') return step;
  state.sourceOffsetBytes += state.wantBytes;
  state.wantBytes = step.kind === 'end' ? MAX_FAILURE_TEXT_BYTES : TAR_BLOCK_BYTES;
  state.failureAt = 0;
  state.phase = step.kind === 'end' ? 'after' : 'header';
  return step;
}

const STEPS: Readonly<Record<Phase, (state: State, view: Buffer) => Step>> = {
  'ova-header': acceptOvaHeader,
  ova: acceptOva,
  header: acceptHeader,
  block: acceptBlock,
  end: acceptEnd,
  after: (state) => {
    throw corrupt(state, 'end archive: bytes follow its end');
  },
  failure: (state, view) => {
    throw hostFailure(view.toString('latin1', state.failureAt), placeOf(state));
  },
};

function acceptOvaHeader(state: State, view: Buffer): Step {
  if (startsWithHttp(view, 0)) return awaitFailureText(state);
  if (isCompressed(view)) throw corrupt(state, 'read archive: it is compressed');
  const header = readHeader(view, 0);
  if (header.kind !== 'member' || header.name !== 'ova.xml') {
    throw corrupt(state, 'find ova.xml as the first member: this is no XVA archive');
  }
  if (header.sizeBytes > MAX_OVA_BYTES) {
    throw corrupt(state, `read ova.xml: larger than ${MAX_OVA_BYTES}, size=${header.sizeBytes}`);
  }
  state.ovaBytes = header.sizeBytes;
  return more(state, 'ova', TAR_BLOCK_BYTES + paddedBytes(header.sizeBytes));
}

function acceptOva(state: State, view: Buffer): Step {
  const ova = parseOva(view.subarray(TAR_BLOCK_BYTES, TAR_BLOCK_BYTES + state.ovaBytes));
  const { order, rewrite } = state.input;
  const { xml, disks } =
    order === 'kept'
      ? {
          xml: view.subarray(TAR_BLOCK_BYTES, TAR_BLOCK_BYTES + state.ovaBytes),
          disks: keptDisks(ova),
        }
      : rewriteOva(ova, { rewrite, order });
  state.disks = disks;
  state.tables = disks.map(() => createEntryTable());
  const first = disks.find(({ index }) => index === 0);
  state.ourUnitBytes = Math.min(BLOCK_BYTES, first?.virtualSizeBytes ?? BLOCK_BYTES);
  const bytes = Buffer.alloc(TAR_BLOCK_BYTES + paddedBytes(xml.length));
  writeHeader(bytes, 0, 'ova.xml', xml.length);
  xml.copy(bytes, TAR_BLOCK_BYTES);
  if (order === 'kept' && !bytes.equals(view)) throw notOurs(state);
  state.ovaMemberBytes = bytes.length;
  return { kind: 'replace', bytes };
}

function acceptHeader(state: State, view: Buffer): Step {
  if (startsWithHttp(view, 0)) return awaitFailureText(state);
  const header = readHeader(view, 0);
  if (header.kind === 'bad') throw corrupt(state, `read header: ${header.why}`);
  if (header.kind === 'zeros') {
    state.failureAt = TAR_BLOCK_BYTES;
    return more(state, 'end', END_BYTES);
  }
  const slash = header.name.lastIndexOf('/');
  enterDisk(state, header.name, header.name.slice(0, Math.max(0, slash)));
  const digits = header.name.slice(slash + 1);
  if (!/^\d{8,12}$/.test(digits)) throw corrupt(state, `expect a block: ${quote(header.name)}`);
  state.pending = {
    name: header.name,
    number: Number(digits),
    sizeBytes: header.sizeBytes,
    positionBytes: placeBlock(state, Number(digits), header.sizeBytes),
  };
  state.failureAt = TAR_BLOCK_BYTES + paddedBytes(header.sizeBytes);
  return more(state, 'block', state.failureAt + CHECKSUM_MEMBER_BYTES);
}

/** Goes on to the next disk when `folder` is its; any other folder is out of place. */
function enterDisk(state: State, name: string, folder: string): void {
  if (state.disks[state.current]?.sourceId === folder) return;
  if (state.disks[state.current + 1]?.sourceId !== folder) {
    const known = state.disks.some((disk) => disk.sourceId === folder);
    const what = known ? 'expect disks in order' : 'expect only blocks of known disks';
    throw corrupt(state, `${what}: ${quote(name)}`);
  }
  leaveDisk(state);
  state.current++;
  state.number = -1;
  state.positionBytes = 0;
}

function leaveDisk(state: State): void {
  const size = state.disks[state.current]?.virtualSizeBytes ?? 0;
  if (state.positionBytes !== size) {
    const what = state.number === -1 ? 'find any block of disk' : 'find last block of disk';
    throw corrupt(state, `${what}, covered=${state.positionBytes} virtual_size=${size}`);
  }
}

/**
 * Where block `number` lies on the current disk, by the importer's rule; refuses what an importer
 * would misplace.
 */
function placeBlock(state: State, number: number, sizeBytes: number): number {
  const size = (state.disks[state.current] as ArchiveDisk).virtualSizeBytes;
  if (number <= state.number) {
    throw corrupt(state, `expect increasing block numbers, last=${state.number}`, number);
  }
  const skipped = number - state.number - 1;
  if (skipped > 0 && state.positionBytes === 0) {
    throw corrupt(state, 'find first block of disk', number);
  }
  if (skipped > 0 && !canSkip(state)) throw gapWithoutUnit(state, number);
  const positionBytes = state.positionBytes + skipped * BLOCK_BYTES;
  const expected = Math.min(BLOCK_BYTES, size - positionBytes);
  if (expected <= 0) throw corrupt(state, `expect no block beyond the end of disk`, number);
  const isEmpty = sizeBytes === 0 && state.unitBytes !== undefined;
  if (sizeBytes !== expected && !isEmpty) {
    throw corrupt(state, `expect block of ${expected} bytes, size=${sizeBytes}`, number);
  }
  return positionBytes;
}

function acceptBlock(state: State, view: Buffer): Step {
  const { name, number, sizeBytes, positionBytes } = state.pending as Pending;
  if (startsWithHttp(view, state.failureAt)) {
    throw hostFailure(view.toString('latin1', state.failureAt), placeOf(state, number));
  }
  const data = view.subarray(TAR_BLOCK_BYTES, TAR_BLOCK_BYTES + sizeBytes);
  const xxh64 = state.hash.xxh64(data);
  const fault = judgeChecksum(view, { name, sizeBytes, xxh64 });
  if (fault !== undefined) throw corrupt(state, fault, number);
  const isFirst = positionBytes === 0;
  state.number = number;
  state.positionBytes = positionBytes + sizeBytes;
  state.unitBytes ??= sizeBytes;
  if (sizeBytes === 0 || (!isFirst && isDroppable(state, data, xxh64))) {
    if (state.input.order === 'kept') throw notOurs(state, number);
    return DROP;
  }
  const digest = state.digest(data);
  return keepBlock(state, view, { positionBytes, sizeBytes, xxh64, digest });
}

/**
 * Numbers may be left out where they count as 1 MiB each, in the source and in our archive alike;
 * a first disk below 1 MiB is one block itself, and has no gaps.
 */
function canSkip(state: State): boolean {
  return state.unitBytes === BLOCK_BYTES && state.ourUnitBytes === BLOCK_BYTES;
}

/** Zeros need not be stored, unless the block is a disk's last or no gap could be read back. */
function isDroppable(state: State, data: Buffer, xxh64: bigint): boolean {
  const { virtualSizeBytes } = state.disks[state.current] as ArchiveDisk;
  if (state.positionBytes === virtualSizeBytes || state.ourUnitBytes !== BLOCK_BYTES) return false;
  return xxh64 === ZERO_DIGEST && data.equals(ZEROS);
}

function keepBlock(
  state: State,
  view: Buffer,
  block: { positionBytes: number; sizeBytes: number; xxh64: bigint; digest: Buffer },
): Step {
  const { positionBytes, sizeBytes, xxh64, digest } = block;
  const number = positionBytes / BLOCK_BYTES;
  const { archiveId, index } = state.disks[state.current] as ArchiveDisk;
  const name = `${archiveId}/${String(number).padStart(8, '0')}`;
  const wasOurs = writeMember(view, { name, sizeBytes, xxh64 });
  if (state.input.order === 'kept' && !wasOurs) throw notOurs(state, number);
  tableOf(state, index).add({ number, xxh64, digest });
  state.kept = { diskIndex: index, number, lengthBytes: sizeBytes, xxh64, digest };
  return { kind: 'keep', bytes: view.length };
}

function acceptEnd(state: State, view: Buffer): Step {
  if (startsWithHttp(view, state.failureAt)) return awaitFailureText(state);
  if (!view.equals(END)) throw corrupt(state, 'read end of archive: one zero block alone');
  leaveDisk(state);
  const missing = state.disks[state.current + 1];
  if (missing !== undefined) {
    const place = { offsetBytes: state.sourceOffsetBytes, disk: missing };
    throw sourceFault('data_corrupt', 'find any block of disk', place);
  }
  return { kind: 'end', bytes: END };
}

/** Asks for the rest of the host's text, which as a rule ends before that much is there. */
function awaitFailureText(state: State): Step {
  return more(state, 'failure', MAX_FAILURE_TEXT_BYTES);
}

function more(state: State, phase: Phase, wantBytes: number): Step {
  state.phase = phase;
  state.wantBytes = wantBytes;
  return MORE;
}

function truncated(state: State, filled: Buffer): BackupError {
  const place = placeOf(state, state.phase === 'block' ? state.pending?.number : undefined);
  const text = startsWithHttp(filled, state.failureAt)
    ? filled.toString('latin1', state.failureAt)
    : findHttpTail(filled);
  if (text !== '') return hostFailure(text, place);
  if (state.phase === 'after') return corrupt(state, 'end archive: bytes follow its end');
  const what = `read export: it ended early, got=${filled.length} wanted=${state.wantBytes}`;
  return sourceFault('source_truncated', what, place);
}

function gapWithoutUnit(state: State, number: number): BackupError {
  const what =
    'place block: the first disk is smaller than 1 MiB, so importers misread gaps in later ones;' +
    ' enlarge or exclude it';
  return sourceFault('vm_not_supported', what, placeOf(state, number));
}

/** An archive of ours that is not what we write: nobody may take its bytes for ours. */
function notOurs(state: State, number?: number): BackupError {
  return corrupt(state, 'read archive: it is not as we write it', number);
}

function isCompressed(view: Buffer): boolean {
  return view.readUInt16BE(0) === 0x1f8b || view.readUInt32BE(0) === 0x28b52ffd;
}

function contentDigestOf(state: State): bigint {
  requireEnd(state);
  state.contentDigest ??= digestDisks(state);
  return state.contentDigest;
}

function tableOf(state: State, index: number): EntryTable {
  return state.tables[index] as EntryTable;
}

/**
 * Nothing may be published from a half-read archive: asking before the end is a bug of the caller.
 */
function requireEnd(state: State): void {
  if (state.phase !== 'after') throw new BackupError('internal', 'ask for totals before the end');
}

function corrupt(state: State, what: string, block?: number): BackupError {
  return sourceFault('data_corrupt', what, placeOf(state, block));
}

function placeOf(state: State, block?: number) {
  const disk = state.disks[state.current];
  return { offsetBytes: state.sourceOffsetBytes, disk, block };
}

/** Names come from outside: never raw in a message. */
function quote(name: string): string {
  return JSON.stringify(name.slice(0, 100));
}
