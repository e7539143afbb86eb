/**
 * Disks and archives of backups read over HTTP, from plain and compressed archives: every byte right or none at all, few
 * requests, and all memory given back. What programs of others make of it is in one-file.test.ts.
 */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import type { Backup } from '../../src/catalog/record.ts';
import { systemClock } from '../../src/clock.ts';
import { createDirectArchives } from '../../src/commands/archive-client.ts';
import { download } from '../../src/commands/download.ts';
import { createHttpClient } from '../../src/commands/http-client.ts';
import { isBackupError } from '../../src/errors.ts';
import { createSecret } from '../../src/secret.ts';
import { NEVER } from '../../src/signals.ts';
import { openIndex } from '../../src/xva/blocks-index.ts';
import { createFrameMap } from '../../src/xva/frames.ts';
import { loadHasher } from '../../src/xva/hash.ts';
import { importXva } from '../importer.ts';
import { createGeneratedDisk } from '../sim/disk.ts';
import type { MachineSpec, SimMachine } from '../sim/pool.ts';
import { type HttpWorld, READ_TOKEN, startHttpWorld } from './app.ts';
import { createDraw } from './delta-world.ts';
import { BUCKET, contentDigest, readObject } from './world.ts';

const MIB = 1_048_576;
const options = { signal: NEVER };

/** Holes between blocks, ends that are no whole block, and a second disk behind the first. */
const MACHINE: MachineSpec = {
  name: 'files',
  power: 'Running',
  disks: [
    {
      name: 'root',
      storage: 'nfs',
      open: () => createGeneratedDisk({ sizeBytes: 40 * MIB + 1536, seed: 3, density: 0.4 }),
    },
    {
      name: 'data',
      storage: 'nfs',
      open: () => createGeneratedDisk({ sizeBytes: 12 * MIB + 512, seed: 4, density: 0.9 }),
    },
  ],
};

let world: HttpWorld;
let machine: SimMachine;
let backups: Record<'none' | 'zstd', Backup>;
before(async () => {
  world = await startHttpWorld({ pool: { machines: [MACHINE], seed: 9 } });
  machine = world.sim.machine('files');
  const mode = 'full';
  backups = {
    none: await backUp({ mode }),
    zstd: await backUp({ mode, compression: 'zstd' }),
  };
});
after(async () => await world[Symbol.asyncDispose]());

async function backUp(body: object = {}): Promise<Backup> {
  const { result, error } = await world.run('files', body);
  assert.ok(result, JSON.stringify(error));
  return result;
}

function requestsOf(): number {
  return Object.values(world.s3?.stats.requests ?? {}).reduce((sum, count) => sum + count, 0);
}

function contentOf(disk: number, offset: number, length: number): Buffer {
  const bytes = Buffer.alloc(length);
  machine.disks[disk]?.disk.read(offset, bytes);
  return bytes;
}

async function read(path: string, headers: Record<string, string> = {}) {
  const response = await world.fetch(
    new Request(`http://xvault${path}`, {
      headers: { authorization: 'Bearer token-of-the-monitoring', ...headers },
    }),
  );
  return { response, bytes: Buffer.from(await response.arrayBuffer()) };
}

const rangeOf = (offset: number, length: number) => `bytes=${offset}-${offset + length - 1}`;

for (const compression of ['none', 'zstd'] as const) {
  test(`of a backup with compression ${compression} every range of every disk is the machine's`, async () => {
    const { id, disks } = backups[compression];
    const draw = createDraw(5);
    for (const { index, virtual_size_bytes: size } of disks) {
      const path = `/v1/backups/${id}/disks/${index}`;
      const whole = await read(path);
      assert.equal(whole.response.status, 200);
      assert.ok(whole.bytes.equals(contentOf(index, 0, size)), `disk ${index}`);
      const ranges = Array.from({ length: 24 }, (): [number, number] => {
        const offset = draw(size);
        return [offset, 1 + draw(Math.min(size - offset, draw(2) === 0 ? 5000 : 3 * MIB))];
      });
      await Promise.all(
        ranges.map(async ([offset, length]) => {
          const { response, bytes } = await read(path, { range: rangeOf(offset, length) });
          assert.equal(response.status, 206);
          assert.ok(bytes.equals(contentOf(index, offset, length)), `disk ${index} at ${offset}`);
        }),
      );
    }
    const none = await world.call('GET', `/v1/backups/${id}/disks/${disks.length}`);
    assert.equal(none.status, 404);
    assert.deepEqual(none.problem().details, {
      disks: disks.map(({ index, name }) => ({ disk: index, name })),
    });
  });

  test(`the first byte of a random read takes two requests to the bucket at most, of compression ${compression}`, async () => {
    const service = world.secondService();
    const view = await service.openDisk({ backupId: backups[compression].id, disk: 0 }, options);
    const read = async (offset: number) => {
      const before = requestsOf();
      for await (const piece of view?.read({ offset, length: 4096 }, options) ?? []) {
        assert.ok(Buffer.from(piece).equals(contentOf(0, offset, 4096)), `at ${offset}`);
      }
      return requestsOf() - before;
    };
    const stored = [5, 20, 34].map((mib) => machine.disks[0]?.disk.nextData(mib * MIB) ?? 0);
    const counts: number[] = [];
    for (const offset of [0, ...stored]) counts.push(await read(offset));
    assert.deepEqual(counts, [2, 1, 1, 1], 'the first one reads entries of the index, too');
    for (const offset of stored) assert.equal(await read(offset + 8192), 0, 'still there');
    await service.drain({ drainMs: 0 });
  });
}

test('so many readers at once, and no more; who leaves makes room', async () => {
  const view = await world.service.openDisk({ backupId: backups.none.id, disk: 0 }, options);
  assert.ok(view);
  const open = () => view.read({ offset: 0, length: view.sizeBytes }, options);
  const readers = Array.from({ length: 64 }, open);
  await Promise.all(readers.map((reader) => reader.next()));
  await assert.rejects(open().next(), (error) => isBackupError(error, 'limit_reached'));
  for (const reader of readers) await reader.return();
  const again = open();
  assert.equal((await again.next()).done, false);
  await again.return();
});

test('an archive through the service is the one in the bucket, with its entity tag', async () => {
  const { id, archive } = backups.zstd;
  const pieces: Uint8Array[] = [];
  for await (const piece of readObject(world.store, archive.key)) pieces.push(piece);
  const path = `/v1/backups/${id}/xva?direct=1`;
  const whole = await read(path);
  assert.ok(whole.bytes.equals(Buffer.concat(pieces)));
  const link = await read(`/v1/backups/${id}/xva`);
  const there = await fetch(link.response.headers.get('location') ?? '', {
    headers: { range: 'bytes=5-' },
  });
  await there.body?.cancel();
  assert.equal(whole.response.headers.get('etag'), there.headers.get('etag'));
  assert.match(whole.response.headers.get('content-disposition') ?? '', /filename="files\.xva"/);
  const rest = await read(path, {
    range: 'bytes=1050100-',
    'if-match': there.headers.get('etag') ?? '',
  });
  assert.ok(rest.bytes.equals(whole.bytes.subarray(1_050_100)));
});

test('an engine in the same process gives an archive to a command as it is', async () => {
  const archives = createDirectArchives(world.service);
  const { id } = backups.none;
  const { archive } = await archives.getBackup(id, options);
  const [from, rest] = [3_000_000, [] as Uint8Array[]];
  const wish = { backupId: id, etag: archive.etag, offset: from };
  for await (const piece of archives.readArchive(wish, options)) rest.push(piece);
  const whole = (await world.store.get(archive.key, options))?.bytes ?? Buffer.alloc(0);
  assert.ok(Buffer.concat(rest).equals(whole.subarray(from)));
  const other = archives.readArchive({ ...wish, etag: '"other"' }, options);
  await assert.rejects(other.next(), (error) => isBackupError(error, 'precondition_failed'));
});

for (const [way, isNear] of [
  ['a link to the store', true],
  ['the service, where the store is out of reach', false],
] as const) {
  test(`a file is fetched through ${way}, and the importer takes it`, async (t) => {
    const folder = mkdtempSync(join(tmpdir(), 'xvault-fetch-'));
    t.after(() => rmSync(folder, { recursive: true }));
    const asked: string[] = [];
    const near = async (url: string | URL | Request, init?: RequestInit) => {
      const request = new Request(url, init);
      const { pathname, search, hostname } = new URL(request.url);
      const isService = hostname === 'xvault';
      asked.push(isService ? `${pathname.split('/').at(-1)}${search}` : 'store');
      if (isService) return await world.fetch(request);
      if (!isNear) throw new TypeError('fetch failed');
      return await fetch(request);
    };
    const settings = { url: 'http://xvault', token: createSecret(READ_TOKEN) };
    await using client = createHttpClient(settings, { fetch: near, clock: systemClock });
    const terminal = { err: () => undefined, errIsTty: false, columns: () => 80 };
    const { id } = backups.zstd;
    const to = join(folder, 'files.xva');
    await download({ client, backupId: id, to, terminal, ...options });
    const imported = await importXva(to);
    assert.deepEqual(
      imported.disks.map(({ image }) => contentDigest(image)),
      machine.disks.map(({ disk }) => contentDigest(disk)),
    );
    const ways = isNear ? ['xva', 'store'] : ['xva', 'store', 'xva?direct=1'];
    assert.deepEqual(asked, [id, ...ways]);
  });
}

for (const compression of ['none', 'zstd'] as const) {
  test(`a damaged block of compression ${compression} is never given out, and named before the first byte`, async () => {
    const { id, archive, index_key: key, disks } = backups[compression];
    const last = (disks[0]?.virtual_size_bytes ?? 0) - 100;
    const offset = await archiveOffset(key, 0, Math.floor(last / MIB));
    world.s3?.inspect.damage(BUCKET, archive.key, offset);
    const path = `/v1/backups/${id}/disks/0`;
    const { response, bytes } = await read(path, { range: rangeOf(last, 50) });
    assert.equal(response.status, 502);
    const problem = JSON.parse(bytes.toString());
    assert.equal(problem.code, 'data_corrupt');
    assert.deepEqual(problem.details, { disk: 'Ref:000', block: 40 });
    await assert.rejects(read(path), 'the connection ends');
    const before = await read(path, { range: rangeOf(0, 39 * MIB) });
    assert.ok(before.bytes.equals(contentOf(0, 0, 39 * MIB)));
    assert.equal((await read(`/v1/backups/${id}/disks/1`)).response.status, 200);
  });
}

/** Somewhere in what holds the content of this block. */
async function archiveOffset(key: string, number: number, block: number): Promise<number> {
  const sizeBytes = (await world.store.head(key, options))?.sizeBytes ?? 0;
  const readIndex = async (range: { offset: number; length: number }) =>
    (await world.store.get(key, { ...options, range }))?.bytes as Uint8Array;
  const index = await openIndex(readIndex, { sizeBytes, hash: await loadHasher() });
  const disk = index.disks[number];
  assert.ok(disk);
  const { frameOf } = index.frames ? createFrameMap(index) : { frameOf: undefined };
  const frame = frameOf?.(disk, block);
  if (frame) return frame.offsetBytes + 30;
  return disk.offsetBytes + disk.presence.rank(block) * 1_050_112 + 600;
}

test('an index that is gone or wrong gives no bytes and names the mend; so does an archive that went', async () => {
  const { id, archive, index_key: key } = await backUp();
  const path = `/v1/backups/${id}/disks/1`;
  await world.store.delete(key, options);
  const { status, problem } = await world.call('GET', path);
  assert.equal(status, 502);
  assert.match(problem().detail ?? '', new RegExp(`its index is gone; xvault index ${id}`));
  const wait = { headers: { prefer: 'wait=55' } };
  const job = await world.call('POST', `/v1/backups/${id}/index`, wait);
  assert.equal(job.status, 200, job.text);
  assert.equal((await read(path, { range: 'bytes=0-0' })).response.status, 206);
  await world.store.delete(archive.key, options);
  assert.equal((await read(path, { range: rangeOf(11 * MIB, 1) })).response.status, 404);
  const { id: other, index_key: wrong } = await backUp();
  world.s3?.inspect.damage(BUCKET, wrong, 16 + 3);
  const first = () => read(`/v1/backups/${other}/disks/0`, { range: 'bytes=0-0' });
  assert.equal((await first()).response.status, 502);
  assert.equal((await world.call('POST', `/v1/backups/${other}/index`, wait)).status, 200);
  assert.equal((await first()).response.status, 206);
});
