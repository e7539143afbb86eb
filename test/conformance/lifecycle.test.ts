/** The rules of a bucket as the adapter reads and writes them: from the embedded server, and from scripted ones. */
import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { test } from 'node:test';
import { PutBucketLifecycleConfigurationCommand, S3Client } from '@aws-sdk/client-s3';
import { createArena } from '../../src/arena.ts';
import type { LifecycleRule } from '../../src/ports.ts';
import { createS3Store } from '../../src/s3/store.ts';
import { NEVER } from '../../src/signals.ts';
import { type SimS3, startSimS3 } from '../sim/s3/index.ts';
import { hastyClock, QUIET, UNIT_BYTES } from './store-target.ts';

const options = { signal: NEVER };
const KEYS = { region: 'us-east-1', accessKeyId: 'a', secretAccessKey: 'secret' };

function openStore(server: { endpoint: string } & Partial<typeof KEYS>) {
  const { endpoint, region, accessKeyId, secretAccessKey } = { ...KEYS, ...server };
  const credentials = { accessKeyId, secretAccessKey };
  return createS3Store(
    { endpoint, region, credentials, bucket: 'store', prefix: '', pathStyle: true },
    {
      clock: hastyClock(),
      log: QUIET,
      arena: createArena({ totalBytes: UNIT_BYTES, unitBytes: UNIT_BYTES }),
      meter: { count: () => {}, observe: () => {} },
    },
  );
}

async function putRules(sim: SimS3, rules: object[]): Promise<void> {
  const { endpoint, region, accessKeyId, secretAccessKey } = sim;
  const credentials = { accessKeyId, secretAccessKey };
  const client = new S3Client({ endpoint, region, credentials, forcePathStyle: true });
  const Rules = rules.map((rule) => ({ ...rule, Status: 'Enabled' as const }));
  const input = { Bucket: 'store', LifecycleConfiguration: { Rules } };
  await client.send(new PutBucketLifecycleConfigurationCommand(input as never));
  client.destroy();
}

const FOREIGN = [
  { ID: 'daily', Filter: { Prefix: 'backups/daily/' }, Expiration: { Days: 14 } },
  { ID: 'old', Prefix: 'backups/', AbortIncompleteMultipartUpload: { DaysAfterInitiation: 7 } },
  {
    ID: 'tagged',
    Filter: { And: { Prefix: 'a/', Tags: [{ Key: 'k', Value: 'v' }] } },
    Expiration: { Days: 1 },
  },
  {
    ID: 'dated',
    Filter: { And: { Prefix: 'b/', ObjectSizeGreaterThan: 10 } },
    Expiration: { Date: new Date('2030-01-01T00:00:00Z') },
    Transitions: [{ Days: 30, StorageClass: 'STANDARD_IA' }],
    NoncurrentVersionExpiration: { NoncurrentDays: 3, NewerNoncurrentVersions: 2 },
  },
];

const narrow = { narrowed: true, enabled: true };
const wide = { narrowed: false, enabled: true };
const READ: LifecycleRule[] = [
  { id: 'daily', ...wide, prefix: 'backups/daily/', expirationDays: 14 },
  { id: 'old', ...wide, prefix: 'backups/', abortDays: 7 },
  { id: 'tagged', ...narrow, tagged: true, prefix: 'a/', expirationDays: 1 },
  {
    id: 'dated',
    ...narrow,
    tagged: false,
    largerThanBytes: 10,
    prefix: 'b/',
    expirationDate: Date.parse('2030-01-01T00:00:00Z'),
    noncurrentDays: 3,
    newerNoncurrent: 2,
    transitions: [{ days: 30, storageClass: 'STANDARD_IA' }],
  },
];

test('rules are read as they are; none, not known and not allowed are told apart', async () => {
  let allowed = true;
  const policy = (action: string) => allowed || action !== 's3:GetLifecycleConfiguration';
  await using sim = await startSimS3({ buckets: ['store'], policy });
  const store = openStore(sim);
  assert.deepEqual(await store.lifecycle(options), []);
  await putRules(sim, FOREIGN);
  assert.deepEqual(await store.lifecycle(options), READ);
  assert.equal(await store.versioning(options), 'never');
  const effect = { kind: 'status', status: 501, code: 'NotImplemented' } as const;
  sim.faults.add({ effect, operation: 'GetBucketLifecycleConfiguration' });
  assert.equal(await store.lifecycle(options), undefined);
  allowed = false;
  await assert.rejects(store.lifecycle(options), {
    code: 'store_credentials',
    message: /s3:GetLifecycleConfiguration/,
  });
  store.close();
});

const OWN: LifecycleRule = { id: 'xvault jobs', ...wide, prefix: 'jobs/', expirationDays: 30 };

test('rules are written beside those that are there, which come back as they were', async () => {
  await using sim = await startSimS3({ buckets: ['store'] });
  await putRules(sim, FOREIGN);
  const store = openStore(sim);
  const found = (await store.lifecycle(options)) ?? [];
  const move: LifecycleRule = {
    ...OWN,
    id: 'move',
    noncurrentDays: 7,
    transitions: [{ days: 3, storageClass: 'GLACIER' }],
  };
  await store.putLifecycle({ found, rules: [...found, OWN, move] }, options);
  const after = (await store.lifecycle(options)) ?? [];
  assert.deepEqual(after, [...READ, OWN, move]);
  // what was read before is not what is there now
  const stale = store.putLifecycle({ found, rules: [...found, OWN] }, options);
  await assert.rejects(stale, { code: 'precondition_failed' });
  await store.putLifecycle({ found: after, rules: after.slice(0, 4) }, options);
  assert.deepEqual(await store.lifecycle(options), READ);
  const last = (await store.lifecycle(options)) ?? [];
  await store.putLifecycle({ found: last, rules: [] }, options);
  assert.deepEqual(await store.lifecycle(options), []);
  store.close();
});

/** Answers GET with what `rules` gives and takes what is PUT. */
async function startScripted(rules: () => string, put: (xml: string) => void) {
  const server = createServer(async (from, to) => {
    let body = '';
    for await (const piece of from) body += piece;
    if (from.method === 'PUT') put(body);
    to.writeHead(200, {
      'content-type': 'application/xml',
      'x-amz-transition-default-minimum-object-size': 'varies_by_storage_class',
    });
    to.end(`<?xml version="1.0"?><LifecycleConfiguration>${rules()}</LifecycleConfiguration>`);
    headers.push(from.headers);
  });
  const headers: import('node:http').IncomingHttpHeaders[] = [];
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    endpoint: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    headers,
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

const inner = (xml: string) => /<LifecycleConfiguration[^>]*>([\s\S]*)<\/Life/.exec(xml)?.[1] ?? '';

test('a rule with an element nobody knows is told, and never written', async () => {
  let puts = 0;
  const rule =
    '<Rule><ID>own</ID><Status>Enabled</Status><Filter><Prefix>a/</Prefix></Filter>' +
    '<Expiration><Days>3</Days></Expiration><DelMarkerExpiration><Days>9</Days></DelMarkerExpiration></Rule>';
  await using server = await startScripted(
    () => rule,
    () => {
      puts += 1;
    },
  );
  const store = openStore(server);
  const found = (await store.lifecycle(options)) ?? [];
  assert.deepEqual(
    found.map(({ unknown }) => unknown),
    [['DelMarkerExpiration']],
  );
  const writing = store.putLifecycle({ found, rules: [...found, OWN] }, options);
  await assert.rejects(writing, { code: 'store_refused', message: /own \(DelMarkerExpiration\)/ });
  assert.equal(puts, 0);
  store.close();
});

test('a store that drops part of a rule gets the old ones back', async () => {
  let kept =
    '<Rule><ID>big</ID><Status>Enabled</Status><Filter><ObjectSizeGreaterThan>5</ObjectSizeGreaterThan></Filter>' +
    '<Expiration><Days>3</Days></Expiration></Rule>';
  const written: string[] = [];
  const drop = (xml: string) =>
    xml.replace(/<ObjectSizeGreaterThan>\d+<\/ObjectSizeGreaterThan>/, '');
  await using server = await startScripted(
    () => kept,
    (xml) => {
      written.push(xml);
      kept = written.length === 1 ? drop(inner(xml)) : inner(xml);
    },
  );
  const store = openStore(server);
  const found = (await store.lifecycle(options)) ?? [];
  const writing = store.putLifecycle({ found, rules: [...found, OWN] }, options);
  await assert.rejects(writing, { code: 'store_refused', message: /the old ones are back/ });
  assert.equal(written.length, 2);
  assert.deepEqual(await store.lifecycle(options), found);
  const puts = server.headers.filter((one) => one['content-md5'] !== undefined);
  assert.equal(puts.length, 2);
  for (const put of puts) {
    const kind = put['x-amz-transition-default-minimum-object-size'];
    assert.equal(kind, 'varies_by_storage_class', 'a setting beside the rules goes back, too');
  }
  store.close();
});
