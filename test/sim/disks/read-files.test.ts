import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { digestDisk, PAGE_BYTES, type SimDisk } from '../disk.ts';
import {
  changeFixtureDisk,
  listFixtureDisks,
  openFixtureDisk,
  readChangedManifest,
  readFixtureManifest,
} from './fixture.ts';
import { checkDiskFiles, compareVolume, missingTool, writeRawImage } from './read-files.ts';

const LONG = process.env.XVAULT_TEST_LONG === '1';

test('the fixtures hold what the pool needs: ext4, odd-sized, several disks, NTFS, an ESP', () => {
  assert.deepEqual(listFixtureDisks(), [
    'db-data',
    'db-log',
    'linux-root',
    'mail-store',
    'odd-size',
    'windows',
  ]);
});

test('the odd-sized disk ends inside a page, and its last sector is the backup GPT', () => {
  const odd = openFixtureDisk('odd-size');
  assert.notEqual(odd.sizeBytes % PAGE_BYTES, 0);
  assert.equal(textAt(odd, odd.sizeBytes - 512), 'EFI PART');
});

test('partition tables are where firmware looks for them', () => {
  assert.equal(textAt(openFixtureDisk('linux-root'), 512), 'EFI PART');
  const mbr = Buffer.alloc(512);
  openFixtureDisk('windows').read(0, mbr);
  assert.equal(mbr.readUInt16BE(510), 0x55aa);
  assert.equal(mbr[446 + 4], 7);
});

function textAt(disk: SimDisk, offset: number): string {
  const bytes = Buffer.alloc(8);
  disk.read(offset, bytes);
  return bytes.toString('latin1');
}

for (const name of listFixtureDisks()) {
  test(`fixture ${name} has the content its manifest says`, () => {
    assert.equal(digestDisk(openFixtureDisk(name)), readFixtureManifest(name).digest);
  });

  test(`every file on fixture ${name} is read back by real tools`, async (t) => {
    // Out of backups they all are: test/e2e/backup.test.ts.
    if (!LONG && name !== 'odd-size') return t.skip('in the long form');
    const manifest = readFixtureManifest(name);
    const { files, skipped } = await checkDiskFiles(openFixtureDisk(name), manifest);
    for (const reason of skipped) t.diagnostic(`skipped: ${reason}`);
    if (files === 0) t.skip(skipped.join('; '));
  });
}

test('after a day of work in the machine, real tools read the new files and miss the removed', async (t) => {
  const disk = openFixtureDisk('linux-root');
  changeFixtureDisk(disk, 'linux-root');
  const manifest = readChangedManifest('linux-root');
  assert.equal(digestDisk(disk), manifest.digest);
  const before = readFixtureManifest('linux-root');
  assert.notDeepEqual(manifest.volumes[1]?.files.length, before.volumes[1]?.files.length);
  const { files, skipped } = await checkDiskFiles(disk, manifest);
  for (const reason of skipped) t.diagnostic(`skipped: ${reason}`);
  if (files === 0) t.skip(skipped.join('; '));
});

test('a file that was changed on the disk is found', async (t) => {
  const missing = missingTool('ext4');
  if (missing !== undefined) return t.skip(missing);
  const disk = openFixtureDisk('odd-size');
  const page = Buffer.alloc(65_536);
  let at = disk.nextData(0);
  for (; at !== undefined; at = disk.nextData(at + page.length)) {
    disk.read(at, page);
    const found = page.indexOf('The size of this disk');
    if (found >= 0) disk.write(at + found, Buffer.from('Das'));
    if (found >= 0) break;
  }
  assert.notEqual(at, undefined);
  const manifest = readFixtureManifest('odd-size');
  await assert.rejects(checkDiskFiles(disk, manifest), /readme.txt has other content/);
});

test('a raw image file is compared in the same way, partition by partition', async (t) => {
  const missing = missingTool('vfat');
  if (missing !== undefined) return t.skip(missing);
  const folder = mkdtempSync(join(tmpdir(), 'xvault-raw-'));
  t.after(() => rmSync(folder, { recursive: true }));
  const image = join(folder, 'disk.img');
  await writeRawImage(openFixtureDisk('linux-root'), image);
  const volume = readFixtureManifest('linux-root').volumes[0];
  assert.ok(volume !== undefined);
  const [first, ...others] = volume.files;
  assert.ok(first !== undefined);
  const expected = [...others, { ...first, path: 'other' }];
  const differences = await compareVolume(image, { ...volume, files: expected });
  assert.deepEqual(differences, ['other is missing', `${first.path} was not expected`]);
});
