import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DISK } from '../../test/http/fake-service.ts';
import { ALL, createHarness } from '../../test/http/harness.ts';
import { exampleBackup } from '../../test/http/records.ts';
import { BackupError } from '../errors.ts';

const { id: ID } = exampleBackup();
const PATH = `/v1/backups/${ID}/disks/0`;

function setUp() {
  const harness = createHarness();
  harness.service.backups.set(ID, exampleBackup());
  return harness;
}

async function bytesOf(response: Response): Promise<Buffer> {
  return Buffer.from(await response.arrayBuffer());
}

test('a disk comes whole, with all a client needs to come back for ranges of it', async () => {
  const { get, request } = setUp();
  const whole = await get(PATH);
  assert.equal(whole.status, 200);
  assert.deepEqual(await bytesOf(whole), DISK);
  const head = await request('HEAD', PATH);
  assert.equal(head.body, null);
  for (const { headers } of [whole, head]) {
    assert.equal(headers.get('content-length'), '1000');
    assert.equal(headers.get('accept-ranges'), 'bytes');
    assert.equal(headers.get('etag'), `"${ID}-disk0"`);
    assert.equal(headers.get('content-type'), 'application/octet-stream');
    assert.equal(headers.get('content-disposition'), 'attachment; filename="web-1.bin"');
  }
});

const RANGES: Record<string, [from: number, to: number] | 200 | 416> = {
  'bytes=0-0': [0, 1],
  'bytes=0-999': [0, 1000],
  'bytes=990-': [990, 1000],
  'bytes=990-5000': [990, 1000],
  'bytes=299-301': [299, 302],
  'BYTES=1-2': [1, 3],
  'bytes=-10': [990, 1000],
  'bytes=-5000': [0, 1000],
  'bytes=1000-': 416,
  'bytes=1000-2000': 416,
  'bytes=99999999999999999999-': 416,
  'bytes=-0': 416,
  'bytes=5-4': 200,
  'bytes=-': 200,
  'bytes=a-b': 200,
  'bytes=0-1,5-6': 200,
  'bytes=5000-,0-1': 200,
  'lines=0-1': 200,
  '0-1': 200,
};

for (const [range, want] of Object.entries(RANGES)) {
  test(`Range: ${range} gets ${Array.isArray(want) ? `bytes ${want.join(' to before ')}` : want}`, async () => {
    const response = await setUp().get(PATH, { range });
    if (Array.isArray(want)) {
      const [from, to] = want;
      assert.equal(response.status, 206);
      assert.equal(response.headers.get('content-range'), `bytes ${from}-${to - 1}/1000`);
      assert.equal(response.headers.get('content-length'), String(to - from));
      assert.deepEqual(await bytesOf(response), DISK.subarray(from, to));
      return;
    }
    assert.equal(response.status, want);
    if (want === 200) assert.deepEqual(await bytesOf(response), DISK);
    else assert.equal(response.headers.get('content-range'), 'bytes */1000');
  });
}

test('conditions are those of RFC 9110, with a strong entity tag', async () => {
  const { get, request } = setUp();
  const etag = `"${ID}-disk0"`;
  const range = 'bytes=0-9';
  const statusOf = async (headers: Record<string, string>) => (await get(PATH, headers)).status;
  assert.equal(await statusOf({ range, 'if-range': etag }), 206);
  for (const other of ['"other"', `W/${etag}`, 'Mon, 23 Nov 2026 02:00:00 GMT']) {
    assert.equal(await statusOf({ range, 'if-range': other }), 200, other);
  }
  assert.equal(await statusOf({ range, 'if-match': etag }), 206);
  assert.equal(await statusOf({ range, 'if-match': `"a", ${etag}` }), 206);
  assert.equal(await statusOf({ range, 'if-match': '*' }), 206);
  for (const other of ['"other"', `W/${etag}`]) {
    assert.equal(await statusOf({ range, 'if-match': other }), 412, other);
  }
  for (const same of [etag, `W/${etag}`, '*']) {
    assert.equal(await statusOf({ range, 'if-none-match': same }), 304, same);
  }
  assert.equal(await statusOf({ range, 'if-none-match': '"other"' }), 206);
  const headers = { ...ALL, range };
  assert.equal((await request('HEAD', PATH, { headers })).status, 200, 'ranges are of GET');
});

test('what fails before the first byte is a problem with its status', async () => {
  const { get, service } = setUp();
  service.failures.set('openDisk', new BackupError('data_corrupt', 'read disks: no index'));
  const response = await get(PATH);
  assert.equal(response.status, 502);
  assert.equal(((await response.json()) as { code: string }).code, 'data_corrupt');
  service.failures.clear();
  for (const path of ['7', 'a', '-1', '0x0', '00000']) {
    assert.equal((await get(`/v1/backups/${ID}/disks/${path}`)).status, 404, path);
  }
  assert.equal((await get(PATH.replace(ID, ID.replace('0', '1')))).status, 404);
});

test('a token may come as the password of Basic, for programs that send no other header', async () => {
  const { request } = setUp();
  const basic = (token: string) => ({ authorization: `Basic ${btoa(`xvault:${token}`)}` });
  assert.equal((await request('GET', PATH, { headers: basic('read-token') })).status, 200);
  assert.equal((await request('GET', PATH, { headers: basic('other') })).status, 401);
  assert.equal((await request('GET', PATH, { headers: basic('backup-token') })).status, 403);
});

test('the archive is a link, or with direct=1 comes through, with ranges', async () => {
  const { get, service } = setUp();
  assert.equal((await get(`/v1/backups/${ID}/xva`)).status, 307);
  const direct = await get(`/v1/backups/${ID}/xva?direct=1`, { range: 'bytes=11-' });
  assert.equal(direct.status, 206);
  assert.equal(await direct.text(), 'all disks');
  assert.deepEqual(service.calls.get('openArchive'), [ID]);
  assert.equal((await get(`/v1/backups/${ID}/xva?direct=yes`)).status, 422);
});
