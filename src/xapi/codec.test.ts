import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isBackupError } from '../errors.ts';
import { decodeAnswer, double, encodeCall, MAX_CALL_BYTES } from './codec.ts';
import { isXapiError } from './errors.ts';

const answer = (value: string) =>
  Buffer.from(
    `<?xml version="1.0"?><methodResponse><params><param><value>${value}</value></param></params></methodResponse>`,
  );
const success = (value: string) =>
  answer(
    `<struct><member><name>Status</name><value>Success</value></member><member><name>Value</name><value>${value}</value></member></struct>`,
  );

test('a call carries booleans as 1 and 0, floats as double and whole numbers as int', () => {
  const text = encodeCall('task.set_progress', [
    true,
    false,
    double(-1),
    double(60.1),
    7,
  ]).toString();
  assert.match(text, /<boolean>1<\/boolean>/);
  assert.match(text, /<boolean>0<\/boolean>/);
  assert.match(text, /<double>-1.0<\/double>/);
  assert.match(text, /<double>60.1<\/double>/);
  assert.match(text, /<int>7<\/int>/);
});

test('markup in a parameter does not break the call', () => {
  const text = encodeCall('VM.snapshot', ['a <b> & "c"', ['x']]).toString();
  assert.match(text, /<!\[CDATA\[a <b> & "c"\]\]>/);
  assert.match(text, /<array><data><value><string>x<\/string><\/value><\/data><\/array>/);
});

test('what cannot be written is an error that does not quote the value', () => {
  assert.throws(
    () => encodeCall('session.login_with_password', ['root', 'secret\u0001']),
    (error) => isBackupError(error, 'internal') && !JSON.stringify(error).includes('secret'),
  );
});

test('a call larger than the server takes is not sent', () => {
  assert.throws(
    () => encodeCall('VM.set_name_label', ['x'.repeat(MAX_CALL_BYTES)]),
    (error) => isBackupError(error, 'internal'),
  );
});

test('untyped integers stay text, so nothing above 2^53 is rounded', async () => {
  assert.equal(await decodeAnswer(success('9223372036854775807')), '9223372036854775807');
});

test('structs, arrays, booleans, dates and empty values are read', async () => {
  const value = await decodeAnswer(
    success(
      '<struct><member><name>a</name><value></value></member>' +
        '<member><name>b</name><value><array><data><value>1</value></data></array></value></member>' +
        '<member><name>c</name><value><boolean>1</boolean></value></member>' +
        '<member><name>d</name><value><dateTime.iso8601>20260821T02:00:23Z</dateTime.iso8601></value></member>' +
        '<member><name>e</name><value><double>0.05</double></value></member></struct>',
    ),
  );
  assert.deepEqual(value, {
    a: '',
    b: ['1'],
    c: true,
    d: new Date('2026-08-21T02:00:23Z'),
    e: 0.05,
  });
});

test('text with characters of several bytes survives pieces of any size', async () => {
  const name = 'é😀'.repeat(60_000);
  assert.equal(await decodeAnswer(success(name)), name);
});

test('a refusal keeps its code and params', async () => {
  const refusal = answer(
    '<struct><member><name>Status</name><value>Failure</value></member><member><name>ErrorDescription</name><value><array><data><value>VDI_IN_USE</value><value>OpaqueRef:1</value><value>destroy</value></data></array></value></member></struct>',
  );
  await assert.rejects(decodeAnswer(refusal), (error) => {
    assert.ok(isXapiError(error, 'VDI_IN_USE'));
    assert.deepEqual(error.params, ['OpaqueRef:1', 'destroy']);
    return true;
  });
});

test('an answer without envelope is the value itself', async () => {
  const listed = answer('<array><data><value>VM.start</value></data></array>');
  assert.deepEqual(await decodeAnswer(listed), ['VM.start']);
});

for (const [name, body] of [
  ['HTML', '<html><body>oops</body></html>'],
  ['nothing', ''],
  ['half an answer', success('x').subarray(0, 120).toString()],
  ['an XML-RPC fault', '<methodResponse><fault><value>x</value></fault></methodResponse>'],
] as const) {
  test(`${name} is no answer`, async () => {
    await assert.rejects(decodeAnswer(Buffer.from(body)), (error) =>
      isBackupError(error, 'pool_unavailable'),
    );
  });
}
