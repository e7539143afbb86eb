import assert from 'node:assert/strict';
import { test } from 'node:test';
import { findHttpTail, hostFailure, MAX_FAILURE_TEXT_BYTES } from './fault.ts';

const PLACE = { offsetBytes: 7 };
const RESPONSE = 'HTTP/1.0 500 Internal Error\r\ncontent-type: text/html\r\n\r\n<html>x</html>';

test('a response is found at the end of other bytes only', () => {
  assert.equal(findHttpTail(Buffer.from(RESPONSE)), RESPONSE);
  assert.equal(findHttpTail(Buffer.from(`\0\xff${RESPONSE}`, 'latin1')), RESPONSE);
  assert.equal(findHttpTail(Buffer.from(`${RESPONSE}\0`)), '');
  assert.equal(findHttpTail(Buffer.from('HTTP/1.1 200 OK\r\n\r\n')), '');
  assert.equal(findHttpTail(Buffer.from('x HTTP/1. HTTP/1.1 nothing')), '');
  assert.equal(findHttpTail(Buffer.alloc(0)), '');
});

test('a text that mentions HTTP is found from its beginning', () => {
  const text = `${RESPONSE} see HTTP/1.1`;
  assert.equal(findHttpTail(Buffer.from(`xx${text}`)), text);
});

test('only the last bytes are searched', () => {
  const long = `${RESPONSE}${' '.repeat(MAX_FAILURE_TEXT_BYTES)}`;
  assert.equal(findHttpTail(Buffer.from(`xx${long}`)), '');
});

test('code and params of the host are kept, with or without params', () => {
  const { details } = hostFailure('HTTP/1.1 500 E\r\n\r\nTASK_CANCELLED: [ OpaqueRef:1 ]', PLACE);
  assert.deepEqual([details.code, details.params], ['TASK_CANCELLED', ['OpaqueRef:1']]);
  assert.deepEqual(hostFailure('HTTP/1.1 500 E\nHOST_BROKEN: [ ]', PLACE).details.params, []);
  assert.deepEqual(hostFailure('HTTP/1.1 500 E\nA_B: [ &lt;x&gt; ]', PLACE).details.params, [
    '<x>',
  ]);
});

test('a text without code keeps its status line', () => {
  const error = hostFailure('HTTP/1.1 500 Internal Error', PLACE);
  assert.equal(error.code, 'source_failed');
  assert.deepEqual(error.details, { status: 'HTTP/1.1 500 Internal Error', offset_bytes: 7 });
});
