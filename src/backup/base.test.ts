import assert from 'node:assert/strict';
import { beforeEach, test } from 'node:test';
import { nextId, sampleBackup, sampleJob } from '../../test/records.ts';
import { createSimClock, type SimClock } from '../../test/sim/clock.ts';
import { createMemoryStore, type MemoryStore } from '../../test/sim/memory-store.ts';
import { createBackupCatalog } from '../catalog/backups.ts';
import { createKeys } from '../catalog/keys.ts';
import type { Backup, Job } from '../catalog/record.ts';
import { createVerifications } from '../catalog/verifications.ts';
import type { Verification } from '../catalog/verified.ts';
import { BackupError } from '../errors.ts';
import type { Log, ObjectStore } from '../ports.ts';
import { NEVER } from '../signals.ts';
import { formatTime } from '../time.ts';
import { encodeIndex } from '../xva/blocks-index.ts';
import { createEntryTable } from '../xva/entries.ts';
import { COMPRESSION, createFrameLog } from '../xva/frames.ts';
import { createDigestKey, loadHasher } from '../xva/hash.ts';
import type { FrameTable } from '../xva/types.ts';
import { chooseBase } from './base.ts';
import type { Engine, StepContext } from './context.ts';

const DAY_MS = 86_400_000;
const options = { signal: NEVER };
const keys = createKeys('xv');
const hash = await loadHasher();

let clock: SimClock;
let store: MemoryStore;
let job: Job;

beforeEach(() => {
  clock = createSimClock();
  store = createMemoryStore(clock, { copyParts: true });
  job = sampleJob();
});

const CONTENT_DIGEST = 0x1234n;

/** Of one disk with one small block. */
function indexBytes(frames?: FrameTable): Buffer {
  const table = createEntryTable();
  table.add({ number: 0, xxh64: 1n, digest: Buffer.alloc(16) });
  const disks = [{ archiveId: 'Ref:000', vdiUuid: 'a', virtualSizeBytes: 4096, table }];
  const digestKey = createDigestKey();
  const contentDigest = CONTENT_DIGEST;
  return encodeIndex({ contentDigest, ovaMemberBytes: 1024, digestKey, disks, frames }, hash);
}

/** A complete backup of the machine, made `ageMs` ago. */
async function add(over: Partial<Backup> = {}, ageMs = DAY_MS): Promise<Backup> {
  const { vm, retention } = sampleBackup(over);
  const id = nextId();
  const parts = { retention, pool: vm.pool, vmUuid: vm.uuid, backupId: id };
  const key = keys.archive(parts, vm.name);
  // ova.xml, one block with its checksum, the end
  const bytes = Buffer.alloc(1024 + 512 + 4096 + 1024 + 1024);
  const { etag } = await store.put(key, bytes, options);
  await store.put(keys.index(parts), indexBytes(), options);
  const backup = sampleBackup({
    id,
    created_at: formatTime(clock.now() - ageMs),
    archive: {
      key,
      size_bytes: bytes.length,
      etag,
      content_digest: CONTENT_DIGEST.toString(16).padStart(16, '0'),
    },
    index_key: keys.index(parts),
    ...over,
  });
  await store.put(keys.record(parts), JSON.stringify(backup), options);
  return backup;
}

/** What is kept of a backup whose archive is not what was stored. */
const damaged = (id: string): Verification => ({
  at: formatTime(clock.now()),
  kind: 'sampled',
  percent: 5,
  ok: false,
  read_bytes: 1,
  checked_blocks: 1,
  job_id: id,
  problem: { part: 'archive', code: 'data_corrupt', detail: 'verify block' },
});

const log = { info: () => undefined } as unknown as Log;

function choose(over: Partial<ObjectStore> = {}) {
  const from: ObjectStore = { ...store, ...over };
  const engine = {
    store: from,
    keys,
    catalog: createBackupCatalog({ store: from, keys, clock }, { ttlMs: 0 }),
    verifications: createVerifications({ store: from, keys, clock, log }, { ttlMs: 0 }),
    clock,
    log,
    hasher: async () => hash,
    delta: { retentionDays: { daily: 14 }, seamCheckPercent: 0 },
  } as unknown as Engine;
  return chooseBase(job, { engine, signal: NEVER } as unknown as StepContext);
}

test('the newest backup is the base, of whatever class', async () => {
  await add();
  const newest = await add({ retention: 'weekly' });
  const { base } = await choose();
  assert.equal(base?.backup.id, newest.id);
  assert.equal(base?.reason, 'the newest backup of this machine');
  assert.equal(base?.archive.etag, newest.archive.etag);
  assert.equal(base?.index.disks[0]?.archiveId, 'Ref:000');
});

test('without a backup of this machine there is none', async () => {
  await add({ vm: { uuid: '9f0f4b1e-7a43-4b5c-9d11-222222222222', name: 'web', pool: 'dc1' } });
  await add({ vm: { uuid: job.vm.uuid, name: 'web', pool: 'elsewhere' } });
  assert.deepEqual(await choose(), { reason: 'no backup of this machine yet' });
});

const unusable: [string, (backup: Backup) => Promise<unknown>, RegExp][] = [
  ['compressed otherwise', async () => {}, /compression is zstd/],
  ['about to be removed by the bucket', async () => {}, /may remove it before the job ends/],
  ['whose archive is gone', async ({ archive }) => hide(archive.key), /archive is gone/],
  [
    'whose archive was replaced',
    async ({ archive }) => store.put(archive.key, Buffer.alloc(archive.size_bytes), options),
    /not the one that was stored/,
  ],
  [
    'whose archive has another length',
    async ({ archive }) => store.put(archive.key, 'x', options),
    /not the one that was stored/,
  ],
  ['without index', async ({ index_key: key }) => store.delete(key, options), /index is gone/],
  [
    'with a damaged index',
    async ({ index_key: key }) => {
      const found = await store.get(key, options);
      const bytes = Buffer.from(found?.bytes as Uint8Array);
      bytes.writeUInt8(bytes.readUInt8(bytes.length - 40) ^ 1, bytes.length - 40);
      await store.put(key, bytes, options);
    },
    /index is damaged/,
  ],
  [
    'with an index of the first version',
    async ({ index_key: key }) => {
      const bytes = Buffer.alloc(200);
      bytes.write('XVAULTIX');
      bytes.writeUInt32BE(1, 8);
      await store.put(key, bytes, options);
    },
    /index is of an older version/,
  ],
  [
    'that a verification found damaged',
    async ({ id }) => {
      const verifications = createVerifications({ store, keys, clock, log }, { ttlMs: 0 });
      await verifications.keep(id, damaged(id), options);
    },
    /a verification found it damaged/,
  ],
  ['with the index of another archive', async () => {}, /index is that of another archive/],
  [
    'whose record cannot be read',
    async (backup) => spoil(backup),
    /record is gone or cannot be read/,
  ],
];

const OVER: Record<string, [Partial<Backup>, number?]> = {
  'compressed otherwise': [{ compression: 'zstd' }],
  'about to be removed by the bucket': [{}, 14 * DAY_MS - 60_000],
};

const hidden = new Set<string>();
const hide = async (key: string) => void hidden.add(key);

async function spoil(backup: Backup): Promise<void> {
  const { retention, vm, id: backupId } = backup;
  const parts = { retention, pool: vm.pool, vmUuid: vm.uuid, backupId };
  await store.put(keys.record(parts), '{', options);
}

for (const [what, damage, why] of unusable) {
  test(`a backup ${what} is passed over, and the next is taken; the reason says so`, async () => {
    const good = await add();
    const bad = await add(...(OVER[what] ?? [{}]));
    await damage(bad);
    if (what === 'with the index of another archive') {
      const { archive } = bad;
      const record = { ...bad, archive: { ...archive, content_digest: '0123456789abcdef' } };
      await store.put(
        bad.index_key.replace('blocks.idx', 'backup.json'),
        JSON.stringify(record),
        options,
      );
    }
    // listed still, but gone when looked at
    const { base } = await choose({
      head: async (key, to) => (hidden.has(key) ? undefined : store.head(key, to)),
    });
    assert.equal(base?.backup.id, good.id);
    assert.match(base?.reason ?? '', new RegExp(`passed over: ${bad.id} \\(.*\\)`));
    assert.match(base?.reason ?? '', why);
  });
}

test('an archive in a class that cannot be read at once is passed over', async () => {
  const good = await add();
  const cold = await add();
  const { base } = await choose({
    head: async (key, to) => {
      const found = await store.head(key, to);
      return found && key === cold.archive.key ? { ...found, storageClass: 'GLACIER' } : found;
    },
  });
  assert.equal(base?.backup.id, good.id);
  assert.match(base?.reason ?? '', /lies in GLACIER/);
});

test('an index made anew counts before the one beside the archive, unless it is no use itself', async () => {
  const { id, index_key: beside } = await add();
  const bytes = (await store.get(beside, options))?.bytes as Uint8Array;
  await store.delete(beside, options);
  const { base: none, reason } = (await choose()) as { base?: undefined; reason: string };
  assert.equal(none, undefined);
  assert.ok(reason.includes(`its index is gone; to make it anew: xvault index ${id}`), reason);
  await store.put(keys.rebuiltIndex(id), bytes, options);
  const { base } = await choose();
  assert.equal(base?.backup.index_key, keys.rebuiltIndex(id));
  await store.put(beside, bytes, options);
  await store.put(keys.rebuiltIndex(id), 'torn', options);
  assert.equal((await choose()).base?.backup.index_key, beside);
});

test('rights that do not name the place of indexes made anew stop no delta', async () => {
  const { index_key: beside } = await add();
  store.onCall = (_operation, key) => {
    if (key.includes('/indexes/')) throw new BackupError('store_credentials', 'look: 403');
  };
  assert.equal((await choose()).base?.backup.index_key, beside);
});

test('a long job needs a base that lasts longer', async () => {
  await add({}, 14 * DAY_MS - 5 * 3_600_000);
  assert.notEqual((await choose()).base, undefined);
  job = sampleJob({
    progress: { read_bytes: 0, sent_bytes: 0, copied_bytes: 0, total_bytes: 2 * 1024 ** 4 },
  });
  assert.equal((await choose()).base, undefined);
});

test('no more than five backups are looked at', async () => {
  await add();
  for (let i = 0; i < 5; i += 1) await add({ compression: 'zstd' });
  const choice = await choose();
  assert.equal(choice.base, undefined);
  assert.match('reason' in choice ? choice.reason : '', /^no earlier backup can be copied from: /);
});

test('a store that is away for a moment is waited for, one that stays away is an error', async () => {
  const newest = await add();
  let failures = 3;
  store.onCall = (operation) => {
    if (operation !== 'head' || failures-- <= 0) return;
    throw new BackupError('store_unavailable', 'reach the store');
  };
  const choice = choose();
  await clock.advance(30_000);
  assert.equal((await choice).base?.backup.id, newest.id);
  failures = Number.POSITIVE_INFINITY;
  const failing = assert.rejects(choose(), { code: 'store_unavailable', message: /reach/ });
  await clock.advance(200_000);
  await failing;
});

test('any other error is an error, not a reason for a full', async () => {
  await add();
  store.onCall = (operation) => {
    if (operation === 'head') throw new Error('away');
  };
  await assert.rejects(choose(), /away/);
});

/** Whose frames were made so. */
async function addCompressed(parameters: string, endBytes = 680): Promise<Backup> {
  const backup = await add({ compression: 'zstd' });
  const log = createFrameLog({ parameters, groupBlocks: 1 });
  log.head(1000);
  log.add(0, 6000);
  log.end(endBytes);
  await store.put(backup.index_key, indexBytes(log.table()), options);
  return backup;
}

test('a compressed backup is the base only of one that is compressed alike', async () => {
  const alike = await addCompressed(COMPRESSION.parameters);
  const other = await addCompressed('zstd 9.9.9 level=1 blocks=1 checksum');
  const shorter = await addCompressed(COMPRESSION.parameters, 679);
  const plain = await add();
  assert.equal((await choose()).base?.backup.id, plain.id);
  job = sampleJob({ request: { ...job.request, compression: 'zstd' } });
  const { base } = await choose();
  assert.equal(base?.backup.id, alike.id);
  assert.equal(base?.index.frames?.parameters, COMPRESSION.parameters);
  const passed = (id: string, why: string) => new RegExp(`${id} \\(${why}`);
  assert.match(base?.reason ?? '', passed(shorter.id, 'its index is that of another archive'));
  assert.match(
    base?.reason ?? '',
    passed(other.id, 'it was compressed by another version or level'),
  );
});
