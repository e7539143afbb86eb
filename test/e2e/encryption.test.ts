/**
 * Encrypted buckets: every object, however it comes about, is encrypted as the settings say, and read again with no more
 * than these. On the embedded server, which refuses what is not encrypted; in the long form on a real Ceph RGW, too.
 */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { describe, test } from 'node:test';
import { inspect } from 'node:util';
import {
  HeadObjectCommand,
  ListObjectsV2Command,
  PutBucketPolicyCommand,
  S3Client,
} from '@aws-sdk/client-s3';
import { NodeHttpHandler } from '@smithy/node-http-handler';
import { createKeys } from '../../src/catalog/keys.ts';
import type { Backup } from '../../src/catalog/record.ts';
import type { StoreSettings } from '../../src/s3/store.ts';
import { createSecret } from '../../src/secret.ts';
import { type EncryptionWish, encryptionByPrefix } from '../../src/settings-protection.ts';
import { NEVER } from '../../src/signals.ts';
import { CEPH_KMS_KEY, LIMITED_USER } from '../servers/ceph.ts';
import { type S3Server, startCeph, startEmbedded } from '../servers/index.ts';
import { createGeneratedDisk } from '../sim/disk.ts';
import type { MachineSpec } from '../sim/pool.ts';
import { assertRestores, contents } from './delta-days.ts';
import { createLab, resultOf, writeNoise } from './delta-world.ts';
import { assertSameDisks, machineOf, startRestoreWorld } from './restore-world.ts';
import { startWorld, type TestWorld } from './world.ts';

const MIB = 1_048_576;
const signal = NEVER;
const isLong = process.env.XVAULT_TEST_LONG !== undefined;
const keys = createKeys('xv');

/** Two parts, and enough of one disk stays to be copied. */
const MACHINE: MachineSpec = {
  name: 'web',
  power: 'Running',
  disks: [
    {
      name: 'root',
      storage: 'nfs',
      bootable: true,
      open: () => createGeneratedDisk({ sizeBytes: 11 * MIB, seed: 3, density: 1 }),
    },
    {
      name: 'odd',
      storage: 'nfs',
      open: () => createGeneratedDisk({ sizeBytes: 2 * MIB + 512, seed: 5, density: 1 }),
    },
  ],
};
const SSE = 'x-amz-server-side-encryption';

const newKey = () => createSecret(randomBytes(32).toString('base64'));
const CUSTOMER = { kind: 'customer', key: newKey() } as const;

interface Encrypted {
  server: S3Server;
  settings: StoreSettings;
  world: TestWorld;
}

async function settingsFor(server: S3Server, wish: EncryptionWish): Promise<StoreSettings> {
  const { accessKeyId, secretAccessKey, region, endpoint, endpointTls, caPem } = server;
  return {
    bucket: await server.createBucket(`encrypted-${wish.kind.replace(':', '-').toLowerCase()}`),
    prefix: 'xv',
    endpoint: endpointTls ?? endpoint,
    caPem,
    region,
    pathStyle: true,
    credentials: { accessKeyId, secretAccessKey },
    encryption: encryptionByPrefix(wish, keys),
  };
}

async function startEncrypted(server: S3Server, wish: EncryptionWish): Promise<Encrypted> {
  const settings = await settingsFor(server, wish);
  const world = await startWorld({ store: settings, pool: { seed: 77, machines: [MACHINE] } });
  return { server, settings, world };
}

/** What every object of the bucket says of its encryption when it is asked without any key: `key → how`. */
async function encryptionOf({ server, settings }: Encrypted): Promise<Map<string, string>> {
  const { endpoint, region, accessKeyId, secretAccessKey, caPem } = server;
  const client = new S3Client({
    endpoint,
    region,
    credentials: { accessKeyId, secretAccessKey },
    forcePathStyle: true,
    requestHandler: new NodeHttpHandler(caPem === undefined ? {} : { httpsAgent: { ca: caPem } }),
  });
  const Bucket = settings.bucket;
  const { Contents = [] } = await client.send(new ListObjectsV2Command({ Bucket }));
  const found = new Map<string, string>();
  for (const { Key = '' } of Contents) {
    const how = await client.send(new HeadObjectCommand({ Bucket, Key })).then(
      (head) => `${head.ServerSideEncryption ?? 'plain'} ${head.SSEKMSKeyId ?? ''}`.trim(),
      (error) => `refused ${error.$metadata.httpStatusCode}`,
    );
    found.set(Key, how);
  }
  client.destroy();
  return found;
}

/** A full, and a delta of another class that copies from it. */
async function backUpTwice({ world }: Encrypted): Promise<[Backup, Backup]> {
  const lab = createLab(world, 'web');
  const full = resultOf(await lab.backup());
  await assertRestores(lab.store, full, contents(lab.machine));
  const [disk] = lab.machine.disks;
  assert.ok(disk);
  writeNoise(disk, { offset: 10 * MIB, bytes: 100_000 }, () => 5);
  const delta = resultOf(await lab.backup({ mode: 'delta', retention: 'weekly' }));
  assert.ok(delta.copied_bytes > 5 * MIB, `copied ${delta.copied_bytes}`);
  await assertRestores(lab.store, delta, contents(lab.machine));
  return [full, delta];
}

/** Besides: a compressed one, an index made anew, a copy inside the store, lists, whole reads. */
async function doTheRest({ world }: Encrypted, earlier: Backup[]): Promise<void> {
  const lab = createLab(world, 'web');
  const packed = resultOf(await lab.backup({ compression: 'zstd' }));
  const service = world.secondService();
  const { id } = await service.startIndex({ backupId: packed.id, triggeredBy: 'test' }, { signal });
  const job = await service.waitJob(id, { timeoutMs: 60_000 }, { signal });
  assert.equal(job?.status, 'succeeded', JSON.stringify(job?.error));
  assert.equal((await service.listBackups({ pageSize: 10 }, { signal })).items.length, 3);
  for (const { archive } of [...earlier, packed]) {
    const { key, etag, size_bytes: sizeBytes } = archive;
    const from = { key, etag, sizeBytes };
    const to = `xv/pinned/${key.split('/').at(-2)}`;
    await lab.store.copy({ from, to, contentType: 'application/x-xva' }, { signal });
    const copy = await lab.store.head(to, { signal });
    let readBytes = 0;
    for await (const piece of lab.store.read(
      { ...from, key: to, etag: copy?.etag ?? '' },
      { signal },
    )) {
      readBytes += piece.length;
    }
    assert.equal(readBytes, sizeBytes);
  }
}

/** Neither log nor errors hold the key, in no spelling. */
function assertHidden(text: string): void {
  const key = Buffer.from(CUSTOMER.key.reveal(), 'base64');
  for (const spelling of ['base64', 'hex', 'latin1'] as const) {
    assert.ok(!text.includes(key.toString(spelling)), `the key in ${spelling}`);
  }
}

/** Refuses what is not encrypted, as a bucket's policy can. */
const refusesPlain = (action: string, _bucket: string, _key: string, headers: object) =>
  action !== 's3:PutObject' || Object.keys(headers).some((name) => name.startsWith(SSE));

function testOn(name: string, start: () => Promise<S3Server | { skipped: string }>): void {
  describe(`encrypted on ${name}`, () => {
    test(`${name}: with a key of ours, which nobody else has`, async (t) => {
      const server = await start();
      if ('skipped' in server) return t.skip(server.skipped);
      t.after(() => server.stop());
      const one = await startEncrypted(server, CUSTOMER);
      await using world = one.world;
      const [full, delta] = await backUpTwice(one);
      await doTheRest(one, [full, delta]);
      for (const [key, how] of await encryptionOf(one)) assert.equal(how, 'refused 400', key);
      assert.deepEqual(await world.audit(), []);
      const link = { key: full.archive.key, expiresSeconds: 60, fileName: 'a.xva' };
      await assert.rejects(world.store.presignGet(link), {
        code: 'invalid_request',
        message: /direct=1/,
      });
      const encryption = encryptionByPrefix({ kind: 'customer', key: newKey() }, keys);
      for (const other of [
        { ...one.settings, encryption },
        { ...one.settings, encryption: undefined },
      ]) {
        await using stranger = await startWorld({ store: other, pool: { machines: [] } });
        const mend = { message: /XVAULT_SSE_C_KEY/ };
        await assert.rejects(stranger.store.head(link.key, { signal }), mend);
        await assert.rejects(stranger.store.get(link.key, { signal }), mend);
        const service = stranger.secondService();
        const wrong = await service.getBackup(full.id, { signal }).catch((error) => error);
        assert.match(wrong.message, /XVAULT_SSE_C_KEY/);
        assertHidden(inspect(wrong, { depth: 20, maxStringLength: null }));
      }
      assertHidden(one.world.log.lines.join(''));
    });

    test(`${name}: with keys of a key service, one for a class`, async (t) => {
      const server = await start();
      if ('skipped' in server) return t.skip(server.skipped);
      t.after(() => server.stop());
      const weekly = name === 'ceph' ? CEPH_KMS_KEY : 'key-2';
      const keyIds = { default: CEPH_KMS_KEY, weekly };
      const one = await startEncrypted(server, { kind: 'aws:kms', keyIds });
      await using world = one.world;
      const [full] = await backUpTwice(one);
      for (const [key, how] of await encryptionOf(one)) {
        const keyId = key.startsWith('xv/backups/weekly/') ? weekly : CEPH_KMS_KEY;
        assert.equal(how, `aws:kms ${keyId}`, key);
      }
      assert.deepEqual(await world.audit(), []);
      const { key } = full.archive;
      const link = await world.store.presignGet({ key, expiresSeconds: 60, fileName: 'a.xva' });
      assert.ok(link.includes(key) && !link.includes('encryption'));
      const unknown = { kind: 'aws:kms', keyIds: { default: 'no-such-key' } } as const;
      const encryption = encryptionByPrefix(unknown, keys);
      await using stranger = await startWorld({
        store: { ...one.settings, encryption },
        pool: { machines: [] },
      });
      await assert.rejects(stranger.store.put('xv/probe/a', 'x', { signal }), {
        code: 'configuration',
        message: /XVAULT_SSE_KMS_KEY/,
      });
    });
  });
}

testOn('embedded', () =>
  startEmbedded({ etag: 'fast', policy: refusesPlain, kmsKeys: [CEPH_KMS_KEY, 'key-2'] }),
);
if (isLong) testOn('ceph', startCeph);

/** For who owns the bucket: another user may do all but write what is not encrypted. */
async function refusePlain({ server, settings }: Encrypted): Promise<void> {
  const { endpoint, region, accessKeyId, secretAccessKey } = server;
  const credentials = { accessKeyId, secretAccessKey };
  const client = new S3Client({ endpoint, region, credentials, forcePathStyle: true });
  const arn = `arn:aws:s3:::${settings.bucket}`;
  const Principal = { AWS: [LIMITED_USER.arn] };
  const Condition = { Null: { 's3:x-amz-server-side-encryption': 'true' } };
  const Statement = [
    { Effect: 'Allow', Principal, Action: 's3:*', Resource: [arn, `${arn}/*`] },
    { Effect: 'Deny', Principal, Action: 's3:PutObject', Resource: [`${arn}/*`], Condition },
  ];
  const Policy = JSON.stringify({ Version: '2012-10-17', Statement });
  await client.send(new PutBucketPolicyCommand({ Bucket: settings.bucket, Policy }));
  client.destroy();
}

test('ceph: a policy that refuses plain writes lets backups pass, parts included', async (t) => {
  if (!isLong) return t.skip('in the long form only');
  const server = await startCeph({ limitedUser: true });
  if ('skipped' in server) return t.skip(server.skipped);
  t.after(() => server.stop());
  const keyIds = { default: CEPH_KMS_KEY };
  const owner = await startEncrypted(server, { kind: 'aws:kms', keyIds });
  await using _ = owner.world;
  await refusePlain(owner);
  const { arn: _arn, ...credentials } = LIMITED_USER;
  const settings = { ...owner.settings, credentials, provider: 'ceph' };
  await using world = await startWorld({
    store: settings,
    pool: { seed: 77, machines: [MACHINE] },
  });
  await backUpTwice({ server, settings, world });
  const plain = { ...settings, encryption: undefined };
  await using refused = await startWorld({ store: plain, pool: { machines: [] } });
  await assert.rejects(refused.store.put('xv/probe/a', 'x', { signal }), {
    code: 'store_credentials',
    message: /set XVAULT_SSE/,
  });
});

test('embedded: with keys of the store; without any the error says what to set', async (t) => {
  const server = await startEmbedded({ etag: 'fast', policy: refusesPlain });
  t.after(() => server.stop());
  const one = await startEncrypted(server, { kind: 'AES256' });
  await using world = one.world;
  const job = await one.world.backup('web');
  assert.equal(job.status, 'succeeded', JSON.stringify(job.error));
  for (const [key, how] of await encryptionOf(one)) assert.equal(how, 'AES256', key);
  assert.deepEqual(await world.audit(), []);
  await using plain = await startWorld({
    store: { ...one.settings, encryption: undefined },
    pool: { machines: [] },
  });
  await assert.rejects(plain.store.put('xv/probe/a', 'x', { signal }), {
    code: 'store_credentials',
    message: /set XVAULT_SSE/,
  });
});

test('with a key of ours there is no link; disks are read, and machines restored, through xvault', async (t) => {
  const server = await startEmbedded({ etag: 'fast' });
  t.after(() => server.stop());
  const store = await settingsFor(server, CUSTOMER);
  const networks = [{ name: 'Office', bridge: 'xenbr0' }];
  const pool = { seed: 9, machines: [MACHINE], networks };
  await using lab = await startRestoreWorld({ store, pool, target: { networks } });
  const backup = await lab.backUp('web');
  const link = lab.service.archiveLink(backup.id, { expiresSeconds: 60 }, { signal });
  await assert.rejects(link, { code: 'invalid_request', message: /direct=1/ });
  const disk = await lab.service.openDisk({ backupId: backup.id, disk: 0 }, { signal });
  const length = 2 * MIB;
  const read: Uint8Array[] = [];
  for await (const piece of disk?.read({ offset: MIB, length }, { signal }) ?? []) read.push(piece);
  const expected = Buffer.alloc(length);
  lab.world.sim.machine('web').disks[0]?.disk.read(MIB, expected);
  assert.ok(expected.equals(Buffer.concat(read)));
  const job = await lab.restore(backup);
  const { ref, restored } = machineOf(lab.target, job);
  assert.equal(restored.via, 'stream');
  assert.match(job.restore_plan?.via_reason ?? '', /XVAULT_SSE_C_KEY/);
  assertSameDisks(lab.target, ref, lab.world.sim.machine('web'));
});

test('what lies there unencrypted is read, and copied from, after a key of ours is set', async (t) => {
  const server = await startEmbedded({ etag: 'fast' });
  t.after(() => server.stop());
  const one = await startEncrypted(server, CUSTOMER);
  await using world = one.world;
  const before = { ...one.settings, encryption: undefined };
  await using plain = await startWorld({ store: before, pool: { machines: [] } });
  await plain.store.put('xv/jobs/old', 'from before', { signal });
  const found = await world.store.get('xv/jobs/old', { signal });
  assert.equal(Buffer.from(found?.bytes ?? []).toString(), 'from before');
  assert.equal((await world.store.head('xv/jobs/old', { signal }))?.sizeBytes, 11);
  const bytes = randomBytes(6 * MIB);
  const { etag } = await plain.store.put('xv/probe/plain', bytes, { signal });
  const from = { key: 'xv/probe/plain', sizeBytes: bytes.length, etag };
  await world.store.copy({ from, to: 'xv/probe/copy', contentType: 'text/plain' }, { signal });
  const copy = await world.store.get('xv/probe/copy', { signal });
  assert.ok(bytes.equals(copy?.bytes ?? Buffer.alloc(0)));
  assert.equal((await encryptionOf(one)).get('xv/probe/copy'), 'refused 400');
});
