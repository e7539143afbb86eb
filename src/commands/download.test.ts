import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { type TestContext, test } from 'node:test';
import { crc32 } from 'node:zlib';
import { createTestTerminal } from '../../test/commands/terminal.ts';
import { MIB, writeForeignArchive } from '../../test/fuzz/foreign-archive.ts';
import { exampleBackup } from '../../test/http/records.ts';
import { BackupError, isBackupError } from '../errors.ts';
import { backupView } from '../http/views.ts';
import { encodeCrc32 } from '../s3/crc32.ts';
import { NEVER } from '../signals.ts';
import { loadHasher } from '../xva/hash.ts';
import { fillFrom, readArchive } from '../xva/reader.ts';
import type { ArchiveClient } from './archive-client.ts';
import { runCli } from './cli.ts';
import { download } from './download.ts';

const options = { signal: NEVER };
const ARCHIVE: Buffer[] = [];
const { contentDigest } = await readArchive(
  fillFrom(
    (async function* () {
      const blocks = new Map([1, 2, 4].map((at) => [at, Buffer.alloc(MIB, at)]));
      yield writeForeignArchive([
        { id: 'Ref:5', uuid: 'u', name: 'd', sizeBytes: 5 * MIB, blocks },
      ]);
    })(),
  ),
  {
    hash: await loadHasher(),
    visitor: { bytes: (bytes) => void ARCHIVE.push(Buffer.from(bytes)) },
  },
  options,
);
const BYTES = Buffer.concat(ARCHIVE);

/** A folder, and a client whose archive is given out piece by piece; `cuts`: bytes after which it breaks off. */
function setUp(t: TestContext, { bytes = BYTES, cuts = [] as number[] } = {}) {
  const folder = mkdtempSync(join(tmpdir(), 'xvault-download-'));
  t.after(() => rmSync(folder, { recursive: true }));
  const offsets: number[] = [];
  const backup = exampleBackup();
  const archive = {
    ...backup.archive,
    size_bytes: BYTES.length,
    content_digest: contentDigest,
    checksum: { algorithm: 'crc32' as const, value: encodeCrc32(crc32(BYTES)) },
  };
  const client: ArchiveClient = {
    getBackup: async () => backupView({ ...backup, compression: 'none', archive }),
    readArchive: async function* ({ offset, etag }) {
      assert.equal(etag, archive.etag);
      offsets.push(offset);
      const cut = cuts.shift();
      const end = cut === undefined ? bytes.length : offset + cut;
      for (let at = offset; at < end; at += 100_000)
        yield bytes.subarray(at, Math.min(end, at + 100_000));
      if (cut !== undefined) throw new BackupError('service_unavailable', 'connection ended');
    },
  };
  const said: string[] = [];
  const terminal = {
    err: (text: string) => void said.push(text),
    errIsTty: false,
    columns: () => 80,
  };
  const clock = { sleep: () => Promise.resolve() };
  const file = join(folder, 'web.xva');
  const fetch = (to = file, over = {}) =>
    download({ client, backupId: backup.id, to, terminal, clock, ...options, ...over });
  return { folder, file, offsets, said, fetch };
}

const corrupt = (error: unknown) => isBackupError(error, 'data_corrupt');

test('an archive gets its name when it was proved, in a file or in a folder', async (t) => {
  const { fetch, file, folder } = setUp(t);
  const { size_bytes: size, file: where } = await fetch();
  assert.deepEqual([size, where], [BYTES.length, file]);
  assert.ok(readFileSync(file).equals(BYTES));
  assert.equal(existsSync(`${file}.part`), false);
  await assert.rejects(fetch(), /it is there already/);
  assert.equal((await fetch(folder)).file, join(folder, 'web-1.xva'));
});

test('a connection that ends is made again where it stopped, until nothing comes any more', async (t) => {
  const { fetch, offsets, file } = setUp(t, { cuts: [150_000, 0, 0, 1_000_000] });
  await fetch();
  assert.deepEqual(offsets, [0, 150_000, 150_000, 150_000, 1_150_000]);
  assert.ok(readFileSync(file).equals(BYTES));
  const gone = setUp(t, { cuts: [70_000, ...Array(20).fill(0)] });
  await assert.rejects(gone.fetch(), (error) => isBackupError(error, 'service_unavailable'));
  assert.equal(gone.offsets.length, 11);
  assert.equal(readFileSync(`${gone.file}.part`).length, 70_000);
});

test('the next run goes on with what lies there, and proves it along', async (t) => {
  const { fetch, offsets, file } = setUp(t);
  writeFileSync(`${file}.part`, BYTES.subarray(0, 1_234_567));
  assert.equal((await fetch()).resumed_bytes, 1_234_567);
  assert.deepEqual(offsets, [1_234_567]);
  assert.ok(readFileSync(file).equals(BYTES));
});

test('what lies there and belongs to another backup is fetched anew', async (t) => {
  for (const old of [Buffer.alloc(BYTES.length + 1), Buffer.alloc(3 * MIB, 7)]) {
    const { fetch, file, offsets } = setUp(t);
    writeFileSync(`${file}.part`, old);
    assert.equal((await fetch()).resumed_bytes, 0);
    assert.equal(offsets.at(-1), 0);
    assert.ok(readFileSync(file).equals(BYTES));
  }
});

test('all that was there already is proved without asking for more', async (t) => {
  const { fetch, file, offsets } = setUp(t);
  writeFileSync(`${file}.part`, BYTES);
  await fetch();
  assert.deepEqual(offsets, []);
  assert.ok(readFileSync(file).equals(BYTES));
});

test('wrong bytes get no name, wherever they are', async (t) => {
  const places = [10, 700, 2 * MIB, BYTES.length - 1500];
  for (const at of places) {
    const bytes = Buffer.from(BYTES);
    bytes[at] = (bytes[at] ?? 0) ^ 1;
    const { fetch, file } = setUp(t, { bytes });
    await assert.rejects(fetch(), corrupt, `at ${at}`);
    assert.equal(existsSync(file) || existsSync(`${file}.part`), false);
  }
});

test('with --to nothing else is asked of a restore', async () => {
  const terminal = createTestTerminal();
  const args = ['restore', exampleBackup().id, '--to', 'x.xva', '--name', 'copy'];
  assert.equal(await runCli({ args, terminal, ...options, version: '0' }), 2);
  assert.match(terminal.text.err, /use --to alone/);
});

test('with - the archive goes to standard output', async (t) => {
  const stdout = new PassThrough();
  const [, bytes] = await Promise.all([
    setUp(t)
      .fetch('-', { stdout })
      .finally(() => stdout.end()),
    buffer(stdout),
  ]);
  assert.ok(bytes.equals(BYTES));
  await assert.rejects(setUp(t).fetch('-', { stdout: { isTTY: true } }), /no text/);
});
