import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { type TestContext, test } from 'node:test';
import { hastyClock, QUIET } from '../../test/conformance/store-target.ts';
import { createArena } from '../arena.ts';
import { isBackupError } from '../errors.ts';
import { createS3Store } from './store.ts';

const BODY = Buffer.from(Array.from({ length: 1000 }, (_, at) => at % 251));
const { signal } = new AbortController();

type Answer = (response: ServerResponse) => unknown;

/** A store over one that answers every GET with the script. */
async function setUp(t: TestContext, answer: Answer) {
  const server = createServer((_, response) => answer(response.setHeader('ETag', '"e"')));
  await once(server.listen(0, '127.0.0.1'), 'listening');
  const { port } = server.address() as AddressInfo;
  const store = createS3Store(
    {
      endpoint: `http://127.0.0.1:${port}`,
      bucket: 'b',
      prefix: '',
      credentials: { accessKeyId: 'a', secretAccessKey: 's' },
    },
    {
      clock: hastyClock(),
      log: QUIET,
      arena: createArena({ totalBytes: 65_536, unitBytes: 65_536 }),
      meter: { count: () => {}, observe: () => {} },
    },
  );
  t.after(() => {
    store.close();
    server.closeAllConnections();
    server.close();
  });
  return store;
}

const object = { key: 'k', etag: '"e"' };

const WRONG: Record<string, Answer> = {
  'the whole object': (response) => response.end(BODY),
  'another range': (response) =>
    response
      .writeHead(206, { 'Content-Range': 'bytes 0-9/1000', 'Content-Length': 10 })
      .end(BODY.subarray(0, 10)),
  'another range in chunks': (response) => {
    response.writeHead(206, { 'Content-Range': 'bytes 0-9/1000' }).write(BODY.subarray(0, 5));
    response.end(BODY.subarray(5, 10));
  },
};

for (const [what, answer] of Object.entries(WRONG)) {
  test(`${what} in place of a range is refused, and taken for no bytes of it`, async (t) => {
    const store = await setUp(t, answer);
    const refused = (error: unknown) => isBackupError(error, 'store_refused');
    const filling = store.fill({ ...object, offset: 500 }, Buffer.alloc(10), { signal });
    await assert.rejects(filling, refused);
    const range = { offset: 500, length: 10 };
    await assert.rejects(store.get('k', { range, signal }), refused);
  });
}

test('a range in chunks is taken, and the whole object where it is what was asked for', async (t) => {
  const store = await setUp(t, (response) => {
    response.writeHead(206, { 'Content-Range': 'bytes 500-509/1000' });
    response.write(BODY.subarray(500, 505));
    response.end(BODY.subarray(505, 510));
  });
  const target = Buffer.alloc(10);
  await store.fill({ ...object, offset: 500 }, target, { signal });
  assert.ok(target.equals(BODY.subarray(500, 510)));
  const whole = await setUp(t, (response) => void response.end(BODY));
  const all = Buffer.alloc(1000);
  await whole.fill({ ...object, offset: 0 }, all, { signal });
  assert.ok(all.equals(BODY));
});
