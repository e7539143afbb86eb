/**
 * Hostile callers on the socket itself: slow ones, silent ones, floods, and requests a proxy may read otherwise than we do.
 *
 * Time limits are shortened, never waited for by the clock: a test ends when the other side closes.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { test } from 'node:test';
import { LISTENER_LIMITS } from '../../src/commands/listener.ts';
import { MAX_HOLDS } from '../../src/http/holds.ts';
import { exampleJob } from '../http/records.ts';
import { head, type Raw, startListening } from './listening.ts';

const QUICK = { headMs: 150, requestMs: 300, checkEveryMs: 20 };
const START = '/v1/vms/web-1/backups';
const JSON_TYPE = 'Content-Type: application/json';

test('the limits fit each other and what the API promises', () => {
  const { headMs, requestMs, keepAliveMs, silenceMs, connections } = LISTENER_LIMITS;
  assert.ok(headMs <= requestMs && requestMs < keepAliveMs && keepAliveMs < silenceMs);
  assert.ok(silenceMs > 11 * 60_000, 'a sweep answers after ten minutes');
  assert.ok(connections >= 2 * MAX_HOLDS, 'held answers leave room for others');
});

test('who is silent, slow with the head or slow with the body is cut off, and nothing was started', async (t) => {
  const { open, service } = await startListening(t, QUICK);
  const dribble = await open('GET /livez HTTP/1.1\r\nHost: localhost\r\n');
  const dribbling = setInterval(() => dribble.socket.write('X-A: b\r\n'), 10);
  t.after(() => clearInterval(dribbling));
  const slow = [
    await open(''),
    await open('GET /li'),
    dribble,
    await open(`${head('POST', START, JSON_TYPE, 'Content-Length: 100')}{"note":`),
    await open(`${head('POST', START, JSON_TYPE, 'Transfer-Encoding: chunked')}5\r\n{"no`),
  ];
  const ends = await Promise.all(slow.map(({ closed }) => closed));
  for (const end of ends) assert.match(end, /^$|^HTTP\/1\.1 408 /);
  assert.equal(service.calls.has('startBackup'), false);
});

test('honest callers are served while two hundred slow ones are held', async (t) => {
  const { open, port } = await startListening(t);
  await Promise.all(Array.from({ length: 200 }, () => open('GET /livez HTTP/1.1\r\nHost: a')));
  const answer = await fetch(`http://127.0.0.1:${port}/livez`);
  assert.equal(answer.status, 200);
});

test('one connection more than the limit is refused, said once, and the next finds the place free again', async (t) => {
  const { open, lines } = await startListening(t, { connections: 20 });
  const held = await Promise.all(Array.from({ length: 20 }, () => open('GET /')));
  for (let more = 0; more < 5; more++) assert.equal(await (await open('')).closed, '');
  assert.equal(lines.filter((line) => line.includes('too many')).length, 1);
  held[0]?.socket.destroy();
  await until(open);
});

async function until(open: (bytes: string) => Promise<Raw>): Promise<void> {
  // the server learns of the closed one a moment later
  for (let turn = 0; turn < 1000; turn++) {
    const answer = await (await open(head('GET', '/livez', 'Connection: close'))).closed;
    if (answer.startsWith('HTTP/1.1 200')) return;
  }
  assert.fail('the place did not become free');
}

test('a flood of headers, in number or in size, is refused with 431', async (t) => {
  const { open } = await startListening(t);
  const many = Array.from({ length: 2000 }, (_, at) => `X-${at}: abcdefgh`);
  const floods = [
    head('GET', '/v1/jobs', `X-Long: ${'x'.repeat(17_000)}`),
    head('GET', '/v1/jobs', ...many),
    `GET /${'a'.repeat(20_000)} HTTP/1.1\r\nHost: localhost\r\n\r\n`,
  ];
  for (const flood of floods) assert.match(await (await open(flood)).closed, /^HTTP\/1\.1 431 /);
});

test('a reader that reads nothing loses its connection, and its place is free again', async (t) => {
  const { open, service, clock } = await startListening(t, { silenceMs: 200 });
  const { id } = exampleJob();
  service.change(id, exampleJob());
  const reader = await open(`${head('GET', `/v1/jobs/${id}/events`)}\r\n`);
  await reader.saw(/event: state/);
  reader.socket.pause();
  assert.equal(service.watchers, 1);
  reader.socket.resume();
  await reader.closed;
  for (let turn = 0; turn < 1000 && service.watchers > 0; turn++) {
    await new Promise(setImmediate);
  }
  assert.equal(service.watchers + clock.sleepers, 0);
});

/** A second request hidden in the first one's body: it would start a backup. */
const HIDDEN = head('POST', '/v1/vms/hidden/backups', 'Content-Length: 0');

const CHUNKED = 'Transfer-Encoding: chunked';
const LAST_CHUNK = '0\r\n\r\n';
const start = (...fields: string[]) => head('POST', START, ...fields);

/** What a proxy in front may read as one request and we as two, or the other way round. */
const SMUGGLED: Record<string, string> = {
  'both lengths': `${start('Content-Length: 5', CHUNKED)}${LAST_CHUNK}${HIDDEN}`,
  'two lengths': `${start('Content-Length: 0', `Content-Length: ${HIDDEN.length}`)}${HIDDEN}`,
  'a list of lengths': `${start('Content-Length: 0, 5')}${HIDDEN}`,
  'a signed length': `${start('Content-Length: +0')}${HIDDEN}`,
  'a length in hex': `${start('Content-Length: 0x0')}${HIDDEN}`,
  'an unknown coding': `${start('Transfer-Encoding: xchunked')}${HIDDEN}`,
  'chunked not last': `${start('Transfer-Encoding: chunked, identity')}${LAST_CHUNK}${HIDDEN}`,
  'a blank before the colon': `${start('Content-Length : 5')}${HIDDEN}`,
  'a folded header': `${start('Transfer-Encoding:\r\n chunked')}${LAST_CHUNK}${HIDDEN}`,
  'a bare line feed': `${start(`X: y\n${CHUNKED}`)}${LAST_CHUNK}${HIDDEN}`,
  'a bare carriage return': `${start(`X: y\r${CHUNKED}`)}${LAST_CHUNK}${HIDDEN}`,
  'a NUL in a header': `${start('X: a\0b', 'Content-Length: 0')}${HIDDEN}`,
  'a chunk size beyond all numbers': `${start(CHUNKED)}fffffffffffffffff\r\n${HIDDEN}`,
  'a negative chunk size': `${start(CHUNKED)}-1\r\n${HIDDEN}`,
  'a chunk longer than it says': `${start(JSON_TYPE, CHUNKED)}1\r\n{}\r\n${LAST_CHUNK}${HIDDEN}`,
  'a chunk size with a bare line feed': `${start(CHUNKED)}0\n\n${HIDDEN}`,
  'HTTP/2 without asking': `PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n${HIDDEN}`,
  'no HTTP at all': `\x16\x03\x01\x02\x00${HIDDEN}`,
};

for (const [what, bytes] of Object.entries(SMUGGLED)) {
  test(`a request with ${what} ends the connection and hides no second one`, async (t) => {
    const { open, service } = await startListening(t, QUICK);
    const { closed } = await open(bytes);
    assert.match(await closed, /^HTTP\/1\.1 400 /);
    const started = (service.calls.get('startBackup') ?? []) as { vm: string }[];
    assert.deepEqual(
      started.filter(({ vm }) => vm === 'hidden'),
      [],
    );
  });
}

test('who asks for another protocol gets a plain answer or none', async (t) => {
  const { open, service } = await startListening(t, QUICK);
  const upgrade = await open(head('GET', '/livez', 'Connection: Upgrade', 'Upgrade: h2c'));
  assert.match(await upgrade.saw(/pass/), /^HTTP\/1\.1 200 /);
  const tunnel = await open(`CONNECT 10.0.0.1:443 HTTP/1.1\r\nHost: 10.0.0.1:443\r\n\r\n`);
  assert.doesNotMatch(await tunnel.closed, /^HTTP\/1\.1 2/);
  const trace = await open(head('TRACE', '/v1/jobs', 'Connection: close'));
  const answer = await trace.closed;
  assert.match(answer, /^HTTP\/1\.1 4\d\d /);
  assert.equal(answer.includes('all-token'), false);
  assert.equal(service.calls.size, 0);
});

test('a request without Host, and one with two, is refused', async (t) => {
  const { open, service } = await startListening(t);
  const none = `POST ${START} HTTP/1.1\r\nAuthorization: Bearer all-token\r\nContent-Length: 0\r\n\r\n`;
  assert.match(await (await open(none)).saw(/\r\n\r\n/), /^HTTP\/1\.1 400 /);
  const two = await open(head('POST', START, 'Host: evil.example', 'Connection: close'));
  assert.match(await two.closed, /^HTTP\/1\.1 400 /);
  assert.equal(service.calls.has('startBackup'), false);
});

test('two Authorization headers, or a foreign address in the first line, open nothing', async (t) => {
  const { open, service } = await startListening(t);
  const close = 'Connection: close';
  const twoTokens = await open(head('GET', '/v1/jobs', 'Authorization: Bearer read-token', close));
  assert.match(await twoTokens.closed, /^HTTP\/1\.1 4\d\d /);
  const foreign = await open(head('GET', 'http://evil.example/v1/jobs', close));
  assert.doesNotMatch(await foreign.closed, /evil\.example/);
  assert.equal(service.calls.has('startBackup'), false);
});

test('an endless body is cut off after the limit, whatever the caller goes on to send', async (t) => {
  const { open, service } = await startListening(t, QUICK);
  const caller = await open(head('POST', START, JSON_TYPE, 'Transfer-Encoding: chunked'));
  const chunk = `10000\r\n${' '.repeat(0x10000)}\r\n`;
  let sent = 0;
  const pump = (): void => {
    while (!caller.socket.destroyed && caller.socket.write(chunk)) sent += 0x10000;
  };
  caller.socket.on('drain', pump);
  pump();
  assert.match(await caller.closed, /^HTTP\/1\.1 413 |^$/);
  assert.ok(sent < 64 * 1024 * 1024, `${sent} bytes were taken`);
  assert.equal(service.calls.has('startBackup'), false);
});

test('a path of odd bytes is a 400 or 404, never more', async (t) => {
  const { open, service } = await startListening(t);
  const paths = [
    '/v1/jobs/%00',
    '/v1/jobs/..%2f..%2fetc',
    '/v1//jobs',
    '/v1/jobs/%',
    '/%ff%fe',
    '*',
    '//evil/',
  ];
  for (const path of paths) {
    const { closed } = await open(head('GET', path, 'Connection: close'));
    assert.match(await closed, /^HTTP\/1\.1 40[04] /, path);
  }
  const { socket, closed } = await open(head('GET', '/v1/jobs/\x01\xff', 'Connection: close'));
  assert.match(await closed, /^HTTP\/1\.1 40[04] /);
  if (!socket.closed) await once(socket, 'close');
  assert.equal(service.calls.has('getJob'), false);
});
