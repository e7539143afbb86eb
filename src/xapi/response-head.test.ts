import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isBackupError } from '../errors.ts';
import { findXapiError, MAX_HEAD_BYTES, parseHead } from './response-head.ts';

test('a head is read, its names in lower case, and tells where the body begins', () => {
  const head = parseHead(
    Buffer.from('HTTP/1.0 200 OK\r\nTask-Id: OpaqueRef:1\r\nServer:xapi/1.20\r\n\r\nbody'),
  );
  assert.equal(head?.status, 200);
  assert.equal(head?.headers.get('task-id'), 'OpaqueRef:1');
  assert.equal(head?.headers.get('server'), 'xapi/1.20');
  assert.equal(head?.sizeBytes, 59);
});

test('a head that is not complete yet is asked for again', () => {
  assert.equal(parseHead(Buffer.from('HT')), undefined);
  assert.equal(parseHead(Buffer.from('HTTP/1.0 200 OK\r\n')), undefined);
});

for (const [name, bytes] of [
  ['another protocol', Buffer.from('SSH-2.0-OpenSSH\r\n')],
  ['a status line that is none', Buffer.from('HTTP/1.0 OK\r\n\r\n')],
  ['a head without end', Buffer.concat([Buffer.from('HTTP/1.0 '), Buffer.alloc(MAX_HEAD_BYTES)])],
] as const) {
  test(`${name} is refused`, () => {
    assert.throws(
      () => parseHead(bytes),
      (error) => isBackupError(error, 'source_failed'),
    );
  });
}

test("XenAPI's error is found in the page of an HTTP 500", () => {
  const page =
    '<html><body><h1>HTTP 500 internal server error</h1>An unexpected error occurred: VM_BAD_POWER_STATE: [ OpaqueRef:1; halted, suspended; &quot;running&quot; ]</body></html>';
  const error = findXapiError(page);
  assert.equal(error?.code, 'VM_BAD_POWER_STATE');
  assert.deepEqual(error?.params, ['OpaqueRef:1', 'halted, suspended', '"running"']);
});

test('a page without an error has none, and an error without params has none', () => {
  assert.equal(findXapiError('<html>503 Service Unavailable</html>'), undefined);
  assert.deepEqual(findXapiError('NO_HOSTS_AVAILABLE: [ ]')?.params, []);
});
