/**
 * Reads the files of a raw disk image with real tools and compares them with a fixture's manifest.
 *
 * For tests that must show that what came back from a backup is the machine's file system, not just equal bytes:
 * `debugfs` (e2fsprogs) for ext4, `ntfsls`/`ntfscat` (ntfs-3g) for NTFS, `mcopy` (mtools) for FAT. Where a tool is
 * not installed the reader says so and the test is skipped with that reason. Nothing is mounted; no root needed.
 */

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { FixtureManifest, FixtureVolume } from './fixture.ts';
import { PAGE_BYTES, type SimDisk } from './overlay.ts';

/** The most one tool may print: a directory listing or one file of a fixture. */
const OUTPUT_LIMIT_BYTES = 64 * 1_048_576;

const TOOLS: Readonly<Record<FixtureVolume['kind'], readonly string[]>> = {
  ext4: ['debugfs', 'e2fsck'],
  ntfs: ['ntfsls', 'ntfscat'],
  vfat: ['mcopy', 'fsck.vfat'],
};

const execute = promisify(execFile);

/** Tools live in sbin, which an ordinary user's PATH often leaves out. */
const PATH = `${process.env.PATH ?? ''}:/usr/sbin:/sbin`;

function run(tool: string, args: string[]): Promise<{ stdout: Buffer }> {
  const env = { ...process.env, PATH, LC_ALL: 'C.UTF-8' };
  return execute(tool, args, { env, encoding: 'buffer', maxBuffer: OUTPUT_LIMIT_BYTES });
}

/** Several commands by one shell: to start a program from a process with much memory takes up to 300 ms of CPU. */
async function runAll(script: string, ...args: string[]): Promise<void> {
  await run('sh', ['-ec', script, ...args]);
}

/** Why files of this kind of file system cannot be read here; undefined when they can. */
export function missingTool(kind: FixtureVolume['kind']): string | undefined {
  const isThere = (tool: string) =>
    PATH.split(':').some((folder) => existsSync(join(folder, tool)));
  const missing = TOOLS[kind].find((tool) => !isThere(tool));
  return missing === undefined ? undefined : `${missing} is not installed`;
}

/** Writes a disk (or a range of it) to a sparse raw image file. */
export async function writeRawImage(
  disk: SimDisk,
  path: string,
  range = { offset: 0, length: disk.sizeBytes },
): Promise<void> {
  await using file = await open(path, 'w');
  await file.truncate(range.length);
  const end = range.offset + range.length;
  for (let at = disk.nextData(range.offset); at !== undefined && at < end; ) {
    const bytes = Buffer.alloc(Math.min(PAGE_BYTES - (at % PAGE_BYTES), end - at));
    disk.read(at, bytes);
    await file.write(bytes, 0, bytes.length, at - range.offset);
    at = disk.nextData(at + bytes.length);
  }
}

/** Everything that differs between a volume of a raw image and its manifest, as sentences; [] when nothing does. */
export async function compareVolume(image: string, volume: FixtureVolume): Promise<string[]> {
  return inFolder(async (folder) => {
    const file = volume.offsetBytes === 0 ? image : join(folder, 'volume.img');
    if (file !== image) {
      await copyRange({ image, file, offset: volume.offsetBytes, length: volume.sizeBytes });
    }
    return compareFiles(await READERS[volume.kind](file, folder), volume.files);
  });
}

/**
 * Reads every file on every volume of `disk` and throws an AssertionError naming what differs from the manifest.
 * Returns how many files were compared, and why some volumes were not.
 */
export async function checkDiskFiles(
  disk: SimDisk,
  manifest: FixtureManifest,
): Promise<{ files: number; skipped: string[] }> {
  const result: { files: number; skipped: string[] } = { files: 0, skipped: [] };
  assert.equal(disk.sizeBytes, manifest.sizeBytes, `size of disk ${manifest.name}`);
  for (const volume of manifest.volumes) {
    const missing = missingTool(volume.kind);
    if (missing !== undefined) {
      result.skipped.push(`${volume.kind} of ${manifest.name}: ${missing}`);
      continue;
    }
    const differences = await inFolder(async (folder) => {
      const file = join(folder, 'volume.img');
      await writeRawImage(disk, file, { offset: volume.offsetBytes, length: volume.sizeBytes });
      return compareFiles(await READERS[volume.kind](file, folder), volume.files);
    });
    assert.deepEqual(differences, [], `files on ${manifest.name}`);
    result.files += volume.files.length;
  }
  return result;
}

/** Runs `work` with a temporary folder that is gone afterwards. */
async function inFolder<T>(work: (folder: string) => Promise<T>): Promise<T> {
  const folder = mkdtempSync(join(tmpdir(), 'xvault-files-'));
  try {
    return await work(folder);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

type Files = FixtureVolume['files'];

function compareFiles(found: Files, wanted: Files): string[] {
  const left = new Map(found.map((file) => [file.path, file]));
  const differences: string[] = [];
  for (const file of wanted) {
    const other = left.get(file.path);
    left.delete(file.path);
    if (other === undefined) differences.push(`${file.path} is missing`);
    else if (other.link !== file.link) differences.push(`${file.path} links elsewhere`);
    else if (other.sizeBytes !== file.sizeBytes) differences.push(`${file.path} has another size`);
    else if (other.sha256 !== file.sha256) differences.push(`${file.path} has other content`);
  }
  for (const path of left.keys()) differences.push(`${path} was not expected`);
  return differences;
}

// ------------------------------------------------------------------------------------------------ one reader a kind

type Reader = (volume: string, folder: string) => Promise<Files>;

const READERS: Readonly<Record<FixtureVolume['kind'], Reader>> = {
  ext4: readExt4,
  ntfs: readNtfs,
  vfat: readVfat,
};

async function readExt4(volume: string, folder: string): Promise<Files> {
  const target = join(folder, 'files');
  mkdirSync(target);
  await runAll('e2fsck -f -n "$0"; debugfs -R "rdump / $1" "$0"', volume, target);
  return listFolder(target, '').filter(({ path }) => !path.startsWith('lost+found/'));
}

async function readVfat(volume: string, folder: string): Promise<Files> {
  const target = join(folder, 'files');
  mkdirSync(target);
  await runAll('fsck.vfat -n "$0"; mcopy -s -n -Q -i "$0" "::*" "$1"', volume, target);
  return listFolder(target, '');
}

/** Reads the paths in file $2 out of volume $0, each into a file of folder $1 that is named by its number. */
const CAT_ALL =
  'n=0; while IFS= read -r path; do ntfscat "$0" "/$path" >"$1/$n" || exit; n=$((n+1)); done <"$2"';

/** `ntfsls -R -F -p` prints `/path/:` before a folder's names; names of folders end with `/`. */
async function readNtfs(volume: string, folder: string): Promise<Files> {
  const { stdout } = await run('ntfsls', ['-R', '-F', '-p', '/', volume]);
  const paths: string[] = [];
  let below = '';
  for (const line of stdout.toString('utf8').split('\n')) {
    if (line.startsWith('/') && line.endsWith('/:')) below = line.slice(1, -2);
    else if (line !== '' && !line.endsWith('/')) {
      paths.push(below === '' ? line : `${below}/${line}`);
    }
  }
  const target = join(folder, 'files');
  mkdirSync(target);
  const list = join(folder, 'paths');
  writeFileSync(list, paths.map((path) => `${path}\n`).join(''));
  await runAll(CAT_ALL, volume, target, list);
  return paths.map((path, n) => ({ path, ...describe(readFileSync(join(target, String(n)))) }));
}

function listFolder(root: string, below: string): Files {
  return readdirSync(join(root, below), { withFileTypes: true }).flatMap((entry) => {
    const path = below === '' ? entry.name : `${below}/${entry.name}`;
    if (entry.isDirectory()) return listFolder(root, path);
    if (!entry.isSymbolicLink()) return [{ path, ...describe(readFileSync(join(root, path))) }];
    const link = readlinkSync(join(root, path));
    return [{ path, ...describe(Buffer.from(link)), link }];
  });
}

function describe(content: Buffer): { sizeBytes: number; sha256: string } {
  return {
    sizeBytes: content.length,
    sha256: createHash('sha256').update(content).digest('hex'),
  };
}

/** Copies a range of a raw image to a file of its own, leaving zero pages out. */
async function copyRange(input: {
  image: string;
  file: string;
  offset: number;
  length: number;
}): Promise<void> {
  await using from = await open(input.image, 'r');
  await using to = await open(input.file, 'w');
  await to.truncate(input.length);
  const buffer = Buffer.alloc(16 * PAGE_BYTES);
  for (let at = 0; at < input.length; ) {
    const wanted = Math.min(buffer.length, input.length - at);
    const { bytesRead } = await from.read(buffer, 0, wanted, input.offset + at);
    assert.equal(bytesRead, wanted, `image too short: ${input.image}`);
    await writePages(to, buffer.subarray(0, bytesRead), at);
    at += bytesRead;
  }
}

const ZERO_PAGE = Buffer.alloc(PAGE_BYTES);

async function writePages(file: FileHandle, bytes: Buffer, offset: number): Promise<void> {
  for (let at = 0; at < bytes.length; at += PAGE_BYTES) {
    const page = bytes.subarray(at, at + PAGE_BYTES);
    if (page.equals(ZERO_PAGE.subarray(0, page.length))) continue;
    await file.write(page, 0, page.length, offset + at);
  }
}
