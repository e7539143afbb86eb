/**
 * Reads the fixture disks of `test/fixtures/disks/`: real file systems with real files, stored small.
 *
 * Container (`<name>.disk`), integers little endian:
 *
 * | offset | size | field                                                                     |
 * |--------|------|---------------------------------------------------------------------------|
 * | 0      | 8    | magic `XVDISK1\n`                                                         |
 * | 8      | 8    | sizeBytes: virtual size of the disk                                       |
 * | 16     | 4    | n: number of extents                                                      |
 * | 20     | 8·n  | extents: u32 first page, u32 number of pages (64 KiB each), ascending     |
 * | 20+8·n | rest | one zstd frame: the extents' bytes, one after the other (a last page that |
 * |        |      | sticks out of the disk is cut at its end)                                 |
 *
 * Pages outside the extents are holes. Written by `test/fixtures/disks/pack.ts`; beside each disk lies
 * `<name>.json`, the manifest of its partitions and files.
 */

import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { zstdDecompressSync } from 'node:zlib';
import { createDisk, type DiskBase, lowerBound, PAGE_BYTES, type SimDisk } from './overlay.ts';

export const FIXTURE_MAGIC = 'XVDISK1\n';
export const FIXTURE_HEADER_BYTES = 20;
const FIXTURE_FOLDER = join('test', 'fixtures', 'disks');

/** One file system on a fixture disk and every file in it. */
export interface FixtureVolume {
  /** Where the file system begins on the disk; 0 when the disk has no partitions. */
  offsetBytes: number;
  sizeBytes: number;
  kind: 'ext4' | 'ntfs' | 'vfat';
  files: {
    path: string;
    sizeBytes: number;
    sha256: string;
    /** Set for a symbolic link, whose size and digest are then those of its target's text. */
    link?: string;
  }[];
}

/** What is on a fixture disk. */
export interface FixtureManifest {
  name: string;
  description: string;
  sizeBytes: number;
  /** `digestDisk` of the disk as delivered. */
  digest: string;
  volumes: FixtureVolume[];
}

/** What a day's work inside a machine does to its fixture disk: beside `<name>.change`, the pages it writes. */
export interface FixtureChange {
  /** `digestDisk` afterwards. */
  digest: string;
  /** The volume it happens on. */
  offsetBytes: number;
  removed: string[];
  /** New files, and those whose content is new. */
  files: FixtureVolume['files'];
}

/** The names `openFixtureDisk` takes, sorted. */
export function listFixtureDisks(): string[] {
  return readdirSync(fixtureFolder())
    .filter((file) => file.endsWith('.disk'))
    .map((file) => file.slice(0, -'.disk'.length))
    .sort();
}

/** Opens a fixture as a disk of its own; its data are in memory (tens of MiB), writes overlay them. */
export function openFixtureDisk(name: string): SimDisk {
  const file = readFileSync(join(fixtureFolder(), `${name}.disk`));
  return unpackDisk(file);
}

/** The manifest of a fixture: its file systems and every file's size and digest. */
export function readFixtureManifest(name: string): FixtureManifest {
  return JSON.parse(readFileSync(join(fixtureFolder(), `${name}.json`), 'utf8'));
}

/** Files are written, changed and removed on a fixture disk, as by a guest that works on. */
export function changeFixtureDisk(disk: SimDisk, name: string): void {
  writePages(disk, unpackDisk(readFileSync(join(fixtureFolder(), `${name}.change`))));
}

/** The manifest of a fixture after `changeFixtureDisk`. */
export function readChangedManifest(name: string): FixtureManifest {
  const before = readFixtureManifest(name);
  const text = readFileSync(join(fixtureFolder(), `${name}.change.json`), 'utf8');
  const change: FixtureChange = JSON.parse(text);
  const gone = new Set([...change.removed, ...change.files.map(({ path }) => path)]);
  const volumes = before.volumes.map((volume) => {
    if (volume.offsetBytes !== change.offsetBytes) return volume;
    const kept = volume.files.filter(({ path }) => !gone.has(path));
    return { ...volume, files: [...kept, ...change.files] };
  });
  return { ...before, digest: change.digest, volumes };
}

/** Writes every page that `pages` has to the disk. */
export function writePages(disk: SimDisk, pages: SimDisk): void {
  for (let at = pages.nextData(0); at !== undefined; at = pages.nextData(at + PAGE_BYTES)) {
    const bytes = Buffer.alloc(Math.min(PAGE_BYTES, disk.sizeBytes - at));
    pages.read(at, bytes);
    disk.write(at, bytes);
  }
}

/** Opens a container already in memory. */
export function unpackDisk(file: Uint8Array): SimDisk {
  const view = Buffer.from(file.buffer, file.byteOffset, file.byteLength);
  assert.equal(view.toString('latin1', 0, 8), FIXTURE_MAGIC, 'not a fixture disk');
  const sizeBytes = Number(view.readBigUInt64LE(8));
  const count = view.readUInt32LE(16);
  const data = zstdDecompressSync(view.subarray(FIXTURE_HEADER_BYTES + 8 * count));
  const pages = new Map<number, Uint8Array>();
  let at = 0;
  for (let index = 0; index < count; index++) {
    const first = view.readUInt32LE(FIXTURE_HEADER_BYTES + 8 * index);
    const end = first + view.readUInt32LE(FIXTURE_HEADER_BYTES + 8 * index + 4);
    for (let page = first; page < end; page++) {
      const length = Math.min(PAGE_BYTES, sizeBytes - page * PAGE_BYTES);
      pages.set(page, data.subarray(at, at + length));
      at += length;
    }
  }
  assert.equal(at, data.length, 'a fixture holds exactly the bytes of its extents');
  return createDisk(sizeBytes, pagesBase(pages));
}

function pagesBase(pages: ReadonlyMap<number, Uint8Array>): DiskBase {
  const keys = [...pages.keys()].sort((a, b) => a - b);
  return {
    readPage(page, target) {
      const content = pages.get(page);
      if (content !== undefined) target.set(content);
      return content !== undefined;
    },
    nextPage: (page) => keys[lowerBound(keys, page)],
  };
}

/** Found upwards from this file, so that it works from the sources and from `dist/` alike. */
function fixtureFolder(): string {
  for (let folder = dirname(fileURLToPath(import.meta.url)); ; folder = dirname(folder)) {
    const candidate = join(folder, FIXTURE_FOLDER);
    if (existsSync(candidate)) return candidate;
    assert(folder !== dirname(folder), `no ${FIXTURE_FOLDER} above ${import.meta.url}`);
  }
}
