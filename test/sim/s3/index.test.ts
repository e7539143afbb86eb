/**
 * What the conformance checks do not reach: faults, policies, signed streams, and other promises of the embedded server.
 */
import assert from 'node:assert/strict';
import { createHash, createHmac } from 'node:crypto';
import { Readable } from 'node:stream';
import { after, test } from 'node:test';
import { S3, type S3ClientConfig, S3ServiceException } from '@aws-sdk/client-s3';
import { type SimS3, type SimS3Options, startSimS3 } from './index.ts';

const closers: (() => unknown)[] = [];
after(async () => {
  for (const close of closers.toReversed()) await close();
});

async function start(options: SimS3Options = {}): Promise<SimS3> {
  const sim = await startSimS3({ buckets: ['bucket'], ...options });
  closers.push(() => sim.close());
  return sim;
}

/** Bodies are not part of the signature, as xvault sends its parts. */
function unsigned(client: S3): S3 {
  client.middlewareStack.add(
    (next) => (input) => {
      const request = input.request as { headers: Record<string, string> };
      request.headers['x-amz-content-sha256'] = 'UNSIGNED-PAYLOAD';
      return next(input);
    },
    { step: 'build' },
  );
  return client;
}

function connect(sim: SimS3, config: S3ClientConfig = {}): S3 {
  const { endpoint, region, accessKeyId, secretAccessKey } = sim;
  const credentials = { accessKeyId, secretAccessKey };
  const basics = { endpoint, region, credentials, forcePathStyle: true, maxAttempts: 1 };
  const client = new S3({ ...basics, requestChecksumCalculation: 'WHEN_REQUIRED', ...config });
  closers.push(() => client.destroy());
  return client;
}

const refused = (status: number, code: string) => (error: unknown) => {
  assert.ok(error instanceof S3ServiceException, String(error));
  assert.deepEqual([error.$metadata.httpStatusCode, error.name], [status, code]);
  return true;
};

const target = { Bucket: 'bucket', Key: 'key' };

test('a planned refusal strikes the requests it names, as often as it says', async () => {
  const sim = await start();
  const s3 = connect(sim);
  const effect = { kind: 'status', status: 503, code: 'SlowDown', retryAfterSeconds: 2 } as const;
  sim.faults.add({ effect, operation: 'PutObject', key: /^k/, skip: 1, times: 2 });
  await s3.putObject({ ...target, Body: '1' });
  await s3.putObject({ ...target, Key: 'other', Body: '1' });
  for (let round = 0; round < 2; round++) {
    await assert.rejects(s3.putObject({ ...target, Body: '2' }), refused(503, 'SlowDown'));
  }
  await s3.putObject({ ...target, Body: '3' });
  assert.equal(sim.inspect.read('bucket', 'key')?.toString(), '3');
  assert.deepEqual(sim.faults.struck, { status: 2 });
  assert.equal(sim.stats.requests.PutObject, 5);
  assert.equal(sim.stats.answers['PutObject 503 SlowDown'], 2);
});

test('a connection cut in the middle of a part stores nothing', async () => {
  const sim = await start();
  const s3 = connect(sim);
  const { UploadId } = await s3.createMultipartUpload(target);
  sim.faults.add({ effect: { kind: 'reset', afterBytes: 100_000 }, operation: 'UploadPart' });
  const part = { ...target, UploadId, PartNumber: 1, Body: Buffer.alloc(1_000_000) };
  await assert.rejects(s3.uploadPart(part));
  assert.deepEqual(
    sim.inspect.uploads('bucket').map((upload) => upload.parts),
    [0],
  );
  await s3.uploadPart(part);
  assert.deepEqual(
    sim.inspect.uploads('bucket').map((upload) => upload.parts),
    [1],
  );
});

test('a client that goes away in the middle of a part stores nothing', async () => {
  const sim = await start();
  const s3 = connect(sim);
  const { UploadId } = await s3.createMultipartUpload(target);
  const client = new AbortController();
  async function* halfway() {
    yield Buffer.alloc(200_000);
    client.abort();
    // Never reached by a reader that went away.
    yield Buffer.alloc(800_000);
  }
  const Body = Readable.from(halfway());
  const part = { ...target, UploadId, PartNumber: 1, Body, ContentLength: 1_000_000 };
  await assert.rejects(s3.uploadPart(part, { abortSignal: client.signal }));
  const { Parts } = await s3.listParts({ ...target, UploadId });
  assert.equal(Parts, undefined);
  assert.deepEqual(sim.stats.internalErrors, []);
});

test('a lost answer leaves the work done', async () => {
  const sim = await start();
  const s3 = connect(sim);
  sim.faults.add({ effect: { kind: 'lose-answer' }, operation: 'PutObject' });
  await assert.rejects(s3.putObject({ ...target, Body: 'there', IfNoneMatch: '*' }));
  assert.equal(sim.inspect.read('bucket', 'key')?.toString(), 'there');
  const again = s3.putObject({ ...target, Body: 'there', IfNoneMatch: '*' });
  await assert.rejects(again, refused(412, 'PreconditionFailed'));
});

test('an answer that is cut gives fewer bytes than it promised', async () => {
  const sim = await start();
  const s3 = connect(sim);
  await s3.putObject({ ...target, Body: Buffer.alloc(500_000) });
  sim.faults.add({ effect: { kind: 'cut-answer', afterBytes: 1000 }, operation: 'GetObject' });
  const read = async () => (await s3.getObject(target)).Body?.transformToByteArray();
  await assert.rejects(read());
  assert.equal((await read())?.length, 500_000);
});

test('damage on the way in shows in the ETag, damage after it only in the content', async () => {
  const sim = await start();
  const s3 = unsigned(connect(sim));
  const Body = 'content';
  const md5 = createHash('md5').update(Body).digest('hex');
  sim.faults.add({ effect: { kind: 'receive-damaged' } });
  const onTheWay = await s3.putObject({ ...target, Body });
  assert.notEqual(onTheWay.ETag, `"${md5}"`);
  sim.faults.add({ effect: { kind: 'receive-damaged' } });
  const checked = s3.putObject({ ...target, Body, ChecksumAlgorithm: 'CRC32' });
  await assert.rejects(checked, refused(400, 'BadDigest'));
  sim.faults.add({ effect: { kind: 'receive-damaged' } });
  const signed = connect(sim).putObject({ ...target, Body });
  await assert.rejects(signed, refused(400, 'XAmzContentSHA256Mismatch'));
  sim.faults.add({ effect: { kind: 'store-damaged' } });
  const stored = await s3.putObject({ ...target, Body });
  assert.equal(stored.ETag, `"${md5}"`);
  assert.notEqual(sim.inspect.read('bucket', 'key')?.toString(), Body);
  sim.faults.add({ effect: { kind: 'store-short' } });
  await s3.putObject({ ...target, Body });
  assert.equal((await s3.headObject(target)).ContentLength, Body.length - 1);
});

test('an error inside a 200 answer to Complete has done nothing', async () => {
  const sim = await start();
  const s3 = connect(sim);
  const { UploadId } = await s3.createMultipartUpload(target);
  const { ETag } = await s3.uploadPart({ ...target, UploadId, PartNumber: 1, Body: 'x' });
  const MultipartUpload = { Parts: [{ PartNumber: 1, ETag }] };
  const effect = { kind: 'error-in-200', code: 'InternalError' } as const;
  sim.faults.add({ effect, operation: 'CompleteMultipartUpload' });
  await assert.rejects(s3.completeMultipartUpload({ ...target, UploadId, MultipartUpload }));
  assert.equal(sim.inspect.read('bucket', 'key'), undefined);
  await s3.completeMultipartUpload({ ...target, UploadId, MultipartUpload });
});

test('the same seed strikes the same requests', async () => {
  const strikes = async (seed: number) => {
    const sim = await start({ seed });
    const s3 = connect(sim);
    const effect = { kind: 'status', status: 500, code: 'InternalError' } as const;
    sim.faults.add({ effect, probability: 0.5, times: Number.POSITIVE_INFINITY });
    const hits: boolean[] = [];
    for (let round = 0; round < 12; round++) {
      hits.push(
        await s3.headObject(target).then(
          () => false,
          (error) => error.$metadata.httpStatusCode === 500,
        ),
      );
    }
    return hits;
  };
  assert.deepEqual(await strikes(7), await strikes(7));
  assert.notDeepEqual(await strikes(7), await strikes(8));
});

test('a hanging request ends when the server closes', async () => {
  const sim = await start();
  const s3 = connect(sim);
  sim.faults.add({ effect: { kind: 'hang' }, operation: 'ListBuckets' });
  const listing = assert.rejects(s3.listBuckets({}));
  // The second request is answered: only the first one hangs, and it has arrived by then.
  await s3.headBucket({ Bucket: 'bucket' });
  await sim.close();
  await listing;
});

test('a policy decides which rights there are', async () => {
  const denied = new Set(['s3:DeleteObject', 's3:ListBucket']);
  const sim = await start({
    policy: (action, _bucket, key) => !denied.has(action) && key !== 'no',
  });
  const s3 = connect(sim);
  await s3.putObject({ ...target, Body: 'x' });
  await assert.rejects(s3.deleteObject(target), refused(403, 'AccessDenied'));
  await assert.rejects(
    s3.putObject({ ...target, Key: 'no', Body: 'x' }),
    refused(403, 'AccessDenied'),
  );
  await assert.rejects(s3.listObjectsV2({ Bucket: 'bucket' }), refused(403, 'AccessDenied'));
  // Without the right to list, what is not there looks like what is forbidden.
  await assert.rejects(s3.getObject({ ...target, Key: 'none' }), refused(403, 'AccessDenied'));
  const Delete = { Objects: [{ Key: 'key' }] };
  const { Errors } = await s3.deleteObjects({ Bucket: 'bucket', Delete });
  assert.deepEqual(
    Errors?.map((each) => each.Code),
    ['AccessDenied'],
  );
});

test('a clock that is off by an hour is refused and told the right time', async () => {
  const now = Date.now() + 3_600_000;
  const sim = await start({ signatureClock: { now: () => now } });
  await assert.rejects(connect(sim).headBucket({ Bucket: 'bucket' }));
  const s3 = connect(sim, { maxAttempts: 2 });
  await s3.putObject({
    ...target,
    Body: 'the client corrected its clock by the Date of the answer',
  });
});

test('days pass by the injected clock and not by signatures', async () => {
  let now = Date.parse('2026-03-01T12:00:00Z');
  const sim = await start({ clock: { now: () => now } });
  const s3 = connect(sim);
  const rule = {
    ID: 'r',
    Status: 'Enabled',
    Filter: { Prefix: 'daily/' },
    Expiration: { Days: 14 },
  } as const;
  const LifecycleConfiguration = { Rules: [rule] };
  await s3.putBucketLifecycleConfiguration({ Bucket: 'bucket', LifecycleConfiguration });
  await s3.putObject({ Bucket: 'bucket', Key: 'daily/a', Body: 'x' });
  const { Expiration } = await s3.headObject({ Bucket: 'bucket', Key: 'daily/a' });
  assert.equal(Expiration, 'expiry-date="Mon, 16 Mar 2026 00:00:00 GMT", rule-id="r"');
  now = Date.parse('2026-03-15T23:59:59Z');
  assert.equal((await s3.listObjectsV2({ Bucket: 'bucket' })).KeyCount, 1);
  now = Date.parse('2026-03-16T00:00:00Z');
  assert.equal((await s3.listObjectsV2({ Bucket: 'bucket' })).KeyCount, 0);
});

test('copies take no memory of their own', async () => {
  const sim = await start({ etag: 'fast' });
  const s3 = connect(sim);
  const { UploadId } = await s3.createMultipartUpload({ ...target, Key: 'copy' });
  await s3.putObject({ ...target, Body: Buffer.alloc(6_000_000, 1) });
  const before = process.memoryUsage().arrayBuffers;
  for (let number = 1; number <= 40; number++) {
    const part = { ...target, Key: 'copy', UploadId, PartNumber: number };
    await s3.uploadPartCopy({ ...part, CopySource: 'bucket/key' });
  }
  assert.equal(sim.stats.copiedBytes, 240_000_000);
  assert.ok(process.memoryUsage().arrayBuffers - before < 60_000_000);
});

test('signed chunks are verified one by one', async () => {
  const sim = await start();
  const good = await sendSignedChunks(sim, (chunk) => chunk);
  assert.equal(good.status, 200);
  assert.equal(sim.inspect.read('bucket', 'chunked')?.toString(), 'hello world');
  const changed = await sendSignedChunks(sim, (chunk) => chunk.replace('world', 'w0rld'));
  assert.equal(changed.status, 403);
  assert.match(await changed.text(), /<Code>SignatureDoesNotMatch<\/Code>/);
});

/** A put as older SDKs sign it over http; `change` is the man in the middle. */
async function sendSignedChunks(sim: SimS3, change: (chunk: string) => string): Promise<Response> {
  const timestamp = new Date().toISOString().replace(/[-:]|\.\d+/g, '');
  const scope = `${timestamp.slice(0, 8)}/us-east-1/s3/aws4_request`;
  const sha256 = (text: string) => createHash('sha256').update(text).digest('hex');
  const hmac = (key: Buffer | string, text: string) =>
    createHmac('sha256', key).update(text).digest();
  const key = scope
    .split('/')
    .reduce<Buffer | string>(hmac, `AWS4${sim.secretAccessKey}`) as Buffer;
  const headers: Record<string, string> = {
    host: new URL(sim.endpoint).host,
    'x-amz-content-sha256': 'STREAMING-AWS4-HMAC-SHA256-PAYLOAD',
    'x-amz-date': timestamp,
    'x-amz-decoded-content-length': '11',
  };
  const names = Object.keys(headers).join(';');
  const lines = Object.entries(headers).map(([name, value]) => `${name}:${value}\n`);
  const payload = headers['x-amz-content-sha256'];
  const canonical = `PUT\n/bucket/chunked\n\n${lines.join('')}\n${names}\n${payload}`;
  const toSign = `AWS4-HMAC-SHA256\n${timestamp}\n${scope}\n${sha256(canonical)}`;
  let signature = hmac(key, toSign).toString('hex');
  const authorization = `AWS4-HMAC-SHA256 Credential=${sim.accessKeyId}/${scope}, SignedHeaders=${names}, Signature=${signature}`;
  let body = '';
  for (const chunk of ['hello ', 'world', '']) {
    const text = `AWS4-HMAC-SHA256-PAYLOAD\n${timestamp}\n${scope}\n${signature}\n${sha256('')}\n${sha256(chunk)}`;
    signature = hmac(key, text).toString('hex');
    body += change(`${chunk.length.toString(16)};chunk-signature=${signature}\r\n${chunk}\r\n`);
  }
  const { host: _, ...sent } = headers;
  const url = `${sim.endpoint}/bucket/chunked`;
  return fetch(url, { method: 'PUT', headers: { ...sent, authorization }, body });
}

test('a header that was not signed is refused', async () => {
  const sim = await start();
  const s3 = connect(sim);
  s3.middlewareStack.add(
    (next) => (input) => {
      const request = input.request as { headers: Record<string, string> };
      request.headers['x-amz-tagging'] = 'a=b';
      return next(input);
    },
    { step: 'deserialize' },
  );
  await assert.rejects(s3.putObject({ ...target, Body: 'x' }), refused(403, 'AccessDenied'));
});

test('requests nobody should send are refused without harm', async () => {
  const sim = await start();
  const s3 = connect(sim);
  await assert.rejects(s3.getBucketAcl({ Bucket: 'bucket' }), refused(501, 'NotImplemented'));
  await assert.rejects(s3.createBucket({ Bucket: 'A_b' }), refused(400, 'InvalidBucketName'));
  const long = { ...target, Key: 'k'.repeat(1025), Body: 'x' };
  await assert.rejects(s3.putObject(long), refused(400, 'KeyTooLongError'));
  const response = await fetch(`${sim.endpoint}/%ff`);
  assert.equal(response.status, 400);
  assert.deepEqual(sim.stats.internalErrors, []);
});
