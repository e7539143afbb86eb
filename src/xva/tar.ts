/**
 * Tar headers as XenServer writes them: V7, 512 bytes, no magic (docs/xva.md, "Header").
 *
 *   offset  size  field       written as
 *        0   100  name        latin1, NUL padded
 *      100     8  mode        "0000400\0"
 *      108     8  uid         "0000000\0"
 *      116     8  gid         "0000000\0"
 *      124    12  size        %011o, NUL
 *      136    12  mtime       "00000000000\0"
 *      148     8  checksum    %07o, NUL: sum of all bytes with these eight read as spaces
 *      156     1  type        NUL
 *      157   355  the rest    NUL
 *
 * Read are also ustar and GNU headers of plain files (other writers of .xva use them). Not read:
 * every other type of member, base-256 sizes; an archive of ours never needs them. Source:
 * ocaml-tar 2.6, POSIX 1003.1-1988.
 */

export const TAR_BLOCK_BYTES = 512;

/** Longest name a V7 header holds. */
const MAX_NAME_BYTES = 100;

/** What 512 bytes turned out to be. */
export type TarHeader =
  | { kind: 'member'; name: string; sizeBytes: number }
  | { kind: 'zeros' }
  | { kind: 'bad'; why: string };

const ZERO_BLOCK = Buffer.alloc(TAR_BLOCK_BYTES);
const CHECKSUM_AT = 148;
const CHECKSUM_BYTES = 8;
const SPACE = 0x20;

/**
 * Reads the header at `at`; wrong ones are told, not thrown, since the caller knows where they
 * lie.
 */
export function readHeader(view: Buffer, at: number): TarHeader {
  const stored = readOctal(view, at + CHECKSUM_AT, CHECKSUM_BYTES);
  if (stored === undefined) {
    const zeros = ZERO_BLOCK.compare(view, at, at + TAR_BLOCK_BYTES) === 0;
    return zeros ? { kind: 'zeros' } : { kind: 'bad', why: 'no header checksum' };
  }
  if (stored !== sumHeader(view, at)) return { kind: 'bad', why: 'wrong header checksum' };
  const type = view[at + 156];
  if (type !== 0 && type !== 0x30) return { kind: 'bad', why: 'not a plain file' };
  const sizeBytes = readOctal(view, at + 124, 12);
  if (sizeBytes === undefined) return { kind: 'bad', why: 'no size' };
  return { kind: 'member', name: readName(view, at), sizeBytes };
}

/** Writes the one header form we write; `name` must be latin1 and fit. */
export function writeHeader(view: Buffer, at: number, name: string, sizeBytes: number): void {
  view.fill(0, at, at + TAR_BLOCK_BYTES);
  view.write(name, at, MAX_NAME_BYTES, 'latin1');
  view.write('0000400', at + 100, 7, 'latin1');
  view.write('0000000', at + 108, 7, 'latin1');
  view.write('0000000', at + 116, 7, 'latin1');
  view.write(sizeBytes.toString(8).padStart(11, '0'), at + 124, 11, 'latin1');
  view.write('00000000000', at + 136, 11, 'latin1');
  const sum = sumHeader(view, at).toString(8).padStart(7, '0');
  view.write(sum, at + CHECKSUM_AT, 7, 'latin1');
}

/** Content lies in whole blocks of 512 bytes. */
export function paddedBytes(sizeBytes: number): number {
  return Math.ceil(sizeBytes / TAR_BLOCK_BYTES) * TAR_BLOCK_BYTES;
}

function sumHeader(view: Buffer, at: number): number {
  let sum = CHECKSUM_BYTES * SPACE;
  for (let i = at; i < at + CHECKSUM_AT; i++) sum += view[i] as number;
  const end = at + TAR_BLOCK_BYTES;
  for (let i = at + CHECKSUM_AT + CHECKSUM_BYTES; i < end; i++) sum += view[i] as number;
  return sum;
}

/** Spaces, octal digits, then NUL, space or the field's end; undefined for anything else. */
function readOctal(view: Buffer, at: number, length: number): number | undefined {
  let i = at;
  const end = at + length;
  while (i < end && view[i] === SPACE) i++;
  let value = 0;
  const first = i;
  for (; i < end; i++) {
    const digit = (view[i] as number) - 0x30;
    if (digit < 0 || digit > 7) break;
    value = value * 8 + digit;
  }
  if (i === first) return undefined;
  return i === end || view[i] === 0 || view[i] === SPACE ? value : undefined;
}

function readName(view: Buffer, at: number): string {
  const name = readText(view, at, MAX_NAME_BYTES);
  const isUstar = view.toString('latin1', at + 257, at + 262) === 'ustar' && view[at + 262] === 0;
  const prefix = isUstar ? readText(view, at + 345, 155) : '';
  return prefix === '' ? name : `${prefix}/${name}`;
}

function readText(view: Buffer, at: number, length: number): string {
  const nul = view.indexOf(0, at);
  return view.toString('latin1', at, nul === -1 || nul > at + length ? at + length : nul);
}
