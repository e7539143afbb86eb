/**
 * The tar headers a host's importer reads: V7 (what hosts write) and ustar.
 *
 * | offset | size | field                                                            |
 * |--------|------|------------------------------------------------------------------|
 * | 0      | 100  | name, ends at the first NUL                                      |
 * | 124    | 12   | size: octal digits, then NUL or blank                            |
 * | 148    | 8    | checksum: octal; sum of all bytes with this field as blanks      |
 * | 156    | 1    | type: NUL or `0` a file, `x` attributes of the next member (pax) |
 * | 257    | 6    | all NUL (V7), `ustar` + NUL, or `ustar ` (GNU)                   |
 * | 345    | 155  | prefix of the name in ustar: never used here, so refused         |
 */

import { refuse } from './refusal.ts';

export const BLOCK_BYTES = 512;

export interface TarHeader {
  name: string;
  sizeBytes: number;
  kind: 'file' | 'attributes';
}

/** Reads one header block; refuses whatever a host would stumble over. */
export function parseHeader(block: Buffer): TarHeader {
  if (block.length < BLOCK_BYTES) refuse('the archive ends inside a tar header');
  const name = text(block, 0, 100);
  if (name === '') refuse('a tar header has no name');
  if (octal(block, 148, 8, 'checksum') !== sumOf(block)) {
    refuse(`the tar header of ${JSON.stringify(name)} has a wrong checksum`);
  }
  const magic = block.toString('latin1', 257, 262);
  if (magic !== 'ustar' && magic !== '\0\0\0\0\0') refuse(`the tar header of ${name} is no tar`);
  if (magic === 'ustar' && block[345] !== 0) refuse(`the name of ${name} has a prefix`);
  const type = block[156];
  if (type !== 0 && type !== 0x30 && type !== 0x78) {
    refuse(`${name} is no file: type ${JSON.stringify(String.fromCharCode(type as number))}`);
  }
  const kind = type === 0x78 ? 'attributes' : 'file';
  return { name, sizeBytes: octal(block, 124, 12, 'size'), kind };
}

/** How many zero bytes follow content of this length. */
export function paddingOf(sizeBytes: number): number {
  return (BLOCK_BYTES - (sizeBytes % BLOCK_BYTES)) % BLOCK_BYTES;
}

function text(block: Buffer, offset: number, length: number): string {
  const field = block.subarray(offset, offset + length);
  const end = field.indexOf(0);
  return field.toString('utf8', 0, end < 0 ? length : end);
}

function octal(block: Buffer, offset: number, length: number, what: string): number {
  const digits = /^ *([0-7]+)[\0 ]*$/.exec(block.toString('latin1', offset, offset + length))?.[1];
  if (digits === undefined) return refuse(`a tar header has no ${what}`);
  return Number.parseInt(digits, 8);
}

function sumOf(block: Buffer): number {
  let sum = 8 * 0x20;
  for (let at = 0; at < BLOCK_BYTES; at++) {
    if (at < 148 || at >= 156) sum += block[at] as number;
  }
  return sum;
}
