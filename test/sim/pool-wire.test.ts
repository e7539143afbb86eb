/** The simulated pool on the wire: routing, envelopes, limits, sessions, queries, events. */
import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import { once } from 'node:events';
import { connect as connectTcp } from 'node:net';
import { after, before, test } from 'node:test';
import { connect } from 'node:tls';
import { type SimPool, startSimPool } from './pool.ts';
import { type Caller, callRaw, exchange, get, logIn, post } from './raw-client.ts';

let pool: SimPool;
let caller: Caller;

before(async () => {
  pool = await startSimPool({ persona: '8.2', badLoginDelayMs: 1 });
  caller = await logIn(pool);
});

after(async () => {
  await pool.close();
});

function xmlCall(method: string, params: string[]): string {
  const values = params.map((param) => `<param><value>${param}</value></param>`).join('');
  return `<?xml version="1.0"?><methodCall><methodName>${method}</methodName><params>${values}</params></methodCall>`;
}

async function xml(method: string, params: string[], path = '/'): Promise<string> {
  return (await post(pool, path, xmlCall(method, params))).text;
}

test('strings and ints are untyped values in a Status envelope', async () => {
  const disk = pool.machine('web-01').disks[0];
  const size = await xml('VDI.get_virtual_size', [caller.session, disk?.ref ?? '']);
  assert.equal(
    size,
    '<?xml version="1.0"?><methodResponse><params><param><value><struct><member><name>Status</name>' +
      '<value>Success</value></member><member><name>Value</name>' +
      `<value>${disk?.disk.sizeBytes}</value></member></struct></value></param></params></methodResponse>`,
  );
});

test('booleans, doubles, dates and maps are typed', async () => {
  const ref = pool.machine('web-01').ref;
  const text = await xml('VM.get_record', [caller.session, ref], '/RPC2');
  assert.match(text, /<name>is_a_template<\/name><value><boolean>0<\/boolean><\/value>/);
  assert.match(text, /<name>HVM_shadow_multiplier<\/name><value><double>1<\/double><\/value>/);
  assert.match(text, /<dateTime\.iso8601>19700101T00:00:00Z<\/dateTime\.iso8601>/);
  assert.match(text, /<name>auto_poweron<\/name><value>true<\/value>/);
});

test('any unknown POST path is XML-RPC, as the longest registered prefix is /', async () => {
  assert.match(
    await xml('session.get_uuid', [caller.session, caller.session], '/xmlrpc'),
    /Success/,
  );
});

test('a boolean written as text is read as false', async () => {
  const { ref } = pool.machine('pxe-kiosk');
  const set = (value: string) => xml('VM.set_is_a_template', [caller.session, ref, value]);
  await set('<boolean>1</boolean>');
  assert.equal(await caller.call('VM.get_is_a_template', ref), true);
  await set('<boolean>true</boolean>');
  assert.equal(await caller.call('VM.get_is_a_template', ref), false);
});

test('names with markup, control characters and emoji arrive escaped', async () => {
  const { ref } = pool.machine('büro/плюс 🗄 <"&">');
  const text = await xml('VM.get_name_label', [caller.session, ref]);
  assert.match(text, /büro\/плюс 🗄 &lt;&quot;&amp;&quot;&gt;/);
});

test('system.listMethods has no envelope', async () => {
  const text = await xml('system.listMethods', []);
  assert.match(text, /^<\?xml version="1.0"\?><methodResponse><params><param><value><array>/);
  assert.match(text, /<value>VM\.get_all_records_where<\/value>/);
  assert.match(text, /<value>Async\.VM\.snapshot<\/value>/);
});

test('JSON-RPC version 1 puts the error into a list, version 2 into an object', async () => {
  const v1 = await post(
    pool,
    '/jsonrpc',
    '{"id":7,"method":"VM.get_all","params":["OpaqueRef:x"]}',
  );
  assert.deepEqual(JSON.parse(v1.text), {
    result: null,
    error: ['SESSION_INVALID', 'OpaqueRef:x'],
    id: 7,
  });
  assert.equal(v1.headers['content-type'], 'application/json');
  const v2 = await callRaw(pool, 'VM.get_all', ['OpaqueRef:x']);
  assert.deepEqual(v2.error, { code: 1, message: 'SESSION_INVALID', data: ['OpaqueRef:x'] });
});

test('a malformed call is an HTTP 500 page', async () => {
  assert.equal((await post(pool, '/', '<methodCall>')).status, 500);
  assert.equal((await post(pool, '/jsonrpc', '{')).status, 500);
});

test('a request head of more than 1024 bytes is refused with 431', async () => {
  const answer = await get(pool.url, '/export', [`X-Trace: ${'a'.repeat(1000)}`]);
  assert.match(answer.statusLine, / 431 /);
});

test('an RPC without Content-Length, or of more than 300 KiB, is refused with 500', async () => {
  const head = 'POST / HTTP/1.1\r\nHost: pool\r\n';
  const chunked = await exchange(pool.url, `${head}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n`);
  assert.match(chunked.statusLine, / 500 /);
  const large = await exchange(pool.url, `${head}Content-Length: 307201\r\n\r\n`);
  assert.match(large.statusLine, / 500 /);
});

test('HEAD is not implemented', async () => {
  const answer = await exchange(pool.url, 'HEAD / HTTP/1.1\r\nHost: pool\r\n\r\n');
  assert.match(answer.statusLine, / 501 /);
});

test('unknown methods, wrong numbers of parameters and dangling refs have their codes', async () => {
  await assert.rejects(caller.call('VM.fly'), /^Error: MESSAGE_METHOD_UNKNOWN VM\.fly$/);
  await assert.rejects(
    caller.call('VM.snapshot', pool.machine('web-01').ref),
    /^Error: MESSAGE_PARAMETER_COUNT_MISMATCH VM\.snapshot 2 1$/,
  );
  await assert.rejects(
    caller.call('VM.snapshot', pool.machine('web-01').ref, 'x', []),
    /^Error: MESSAGE_PARAMETER_COUNT_MISMATCH VM\.snapshot 2 3$/,
  );
  await assert.rejects(
    caller.call('VM.get_record', 'OpaqueRef:gone'),
    /^Error: HANDLE_INVALID VM OpaqueRef:gone$/,
  );
  await assert.rejects(caller.call('VM.get_by_uuid', 'nope'), /^Error: UUID_INVALID VM nope$/);
  await assert.rejects(
    caller.call('VM.snapshot_with_quiesce', 'a', 'b'),
    /^Error: MESSAGE_REMOVED$/,
  );
});

test('a wrong password is refused', async () => {
  const { error } = await callRaw(pool, 'session.login_with_password', ['root', 'guess']);
  assert.equal(error?.message, 'SESSION_AUTHENTICATION_FAILED');
});

test('a member that is not the master names the master, and its certificate when asked', async () => {
  const slave = pool.urls[1] ?? '';
  const { error } = await callRaw(pool, 'session.login_with_password', ['root', 'x'], slave);
  assert.deepEqual(error, { code: 1, message: 'HOST_IS_SLAVE', data: ['127.0.0.11'] });
  const body = xmlCall('VM.get_all', [caller.session]);
  const lines = [
    'POST / HTTP/1.1',
    'Host: pool',
    'Connection: close',
    'x-xenapi-request-host-certificate-thumbprint: sha-256:master',
    `Content-Length: ${Buffer.byteLength(body)}`,
  ];
  const answer = await exchange(slave, `${lines.join('\r\n')}\r\n\r\n${body}`);
  const thumbprint = answer.headers.get('x-xenapi-response-host-certificate-thumbprint');
  assert.equal(thumbprint, pool.fingerprints[0]);
});

test('each host has a certificate of its own that its PEM, pin and the API agree on', async () => {
  const hosts = await caller.call<Record<string, { address: string }>>('host.get_all_records');
  for (const [index, url] of pool.urls.entries()) {
    const { hostname, port } = new URL(url);
    const ref = Object.keys(hosts).find((key) => hosts[key]?.address === hostname) ?? '';
    const pem = await caller.call('host.get_server_certificate', ref);
    const hex = new X509Certificate(pem).fingerprint256.replaceAll(':', '').toLowerCase();
    assert.equal(hex, pool.fingerprints[index]);
    await new Promise<void>((resolve, reject) => {
      const socket = connect({ host: hostname, port: Number(port), ca: pool.caPem });
      socket.on('secureConnect', () => resolve(void socket.destroy()));
      socket.on('error', reject);
    });
  }
  assert.notEqual(pool.fingerprints[0], pool.fingerprints[1]);
});

test('a query gives the machines that fit, and nothing else', async () => {
  const query =
    'field "is_a_template"="false" and field "is_a_snapshot"="false" and ' +
    'not (field "is_control_domain"="true")';
  const records = await caller.call<Record<string, unknown>>('VM.get_all_records_where', query);
  assert.deepEqual(Object.keys(records).sort(), pool.machines.map(({ ref }) => ref).sort());
  await assert.rejects(caller.call('VM.get_all_records_where', 'field "x"'), /INTERNAL_ERROR/);
});

test('names are no keys: two machines share one', async () => {
  const refs = await caller.call<string[]>('VM.get_by_name_label', 'twin');
  assert.equal(refs.length, 2);
});

test('a map takes a key once', async () => {
  const { ref } = pool.machine('web-01');
  await caller.call('VM.add_to_other_config', ref, 'xvault', '1');
  await assert.rejects(
    caller.call('VM.add_to_other_config', ref, 'xvault', '2'),
    /^Error: MAP_DUPLICATE_KEY VM other_config/,
  );
  await caller.call('VM.remove_from_other_config', ref, 'xvault');
  await caller.call('VM.add_to_other_config', ref, 'xvault', '2');
});

interface Batch {
  events: { class: string; ref: string; operation: string; snapshot?: { status: string } }[];
  token: string;
}

test('event.from blocks until the watched task changes, then tells its state and its end', async () => {
  const task = await caller.call('task.create', 'watched', '');
  const watch = (token: string) => caller.call<Batch>('event.from', [`task/${task}`], token, 5.1);
  const first = await watch('');
  assert.deepEqual(
    first.events.map(({ ref, operation }) => [ref, operation]),
    [[task, 'add']],
  );
  const waiting = watch(first.token);
  await caller.call('task.set_status', task, 'success');
  const second = await waiting;
  assert.equal(second.events[0]?.snapshot?.status, 'success');
  await caller.call('task.destroy', task);
  const third = await watch(second.token);
  assert.equal(third.events[0]?.operation, 'del');
  await assert.rejects(watch('nonsense'), /EVENT_FROM_TOKEN_PARSE_FAILURE/);
});

test('event.from without a change ends at its time-out with an empty batch', async () => {
  const { token } = await caller.call<Batch>('event.from', ['pool'], '', 0.1);
  const batch = await caller.call<Batch>('event.from', ['pool'], token, 0.01);
  assert.deepEqual(batch.events, []);
});

test('a lost session, a moved master and a failing call come when they are armed', async () => {
  const other = await startSimPool({ machines: [] });
  try {
    const { call } = await logIn(other);
    other.faults.set('call-fails', { method: 'VM.get_all', code: 'HOST_STILL_BOOTING' });
    await assert.rejects(call('VM.get_all'), /HOST_STILL_BOOTING/);
    await call('VM.get_all');
    other.faults.set('master-moves', {});
    await assert.rejects(call('VM.get_all'), /HOST_IS_SLAVE 127\.0\.0\.12/);
    assert.equal(other.faults.fired('master-moves'), 1);
    other.faults.set('master-moves', { toHost: 0 });
    await assert.rejects(call('VM.get_all'), /SESSION_INVALID/);
  } finally {
    await other.close();
  }
});

test('close ends connections that never spoke, and calls that hang', async () => {
  const other = await startSimPool({ machines: [], hosts: 1 });
  const { call } = await logIn(other);
  const { hostname, port } = new URL(other.url);
  const silent = connectTcp({ host: hostname, port: Number(port) });
  await once(silent, 'connect');
  other.faults.set('call-hangs', { method: 'VM.get_all' });
  const hanging = assert.rejects(call('VM.get_all'));
  await call('pool.get_all');
  await other.close();
  await hanging;
  if (!silent.destroyed) await once(silent, 'close');
  assert.deepEqual(other.machines, []);
});

test('a host can go down and come back, and another can take over', async () => {
  const other = await startSimPool({ machines: [] });
  try {
    const { call } = await logIn(other);
    await other.stopHost(0);
    await assert.rejects(call('pool.get_all'), /ECONNREFUSED/);
    other.promote(1);
    const login = [other.username, other.password];
    const again = await callRaw(other, 'session.login_with_password', login, other.urls[1]);
    assert.match(String(again.result), /^OpaqueRef:/);
    await other.startHost(0);
    await assert.rejects(call('pool.get_all'), /HOST_IS_SLAVE 127\.0\.0\.12/);
  } finally {
    await other.close();
  }
});

test('a restart of the toolstack loses sessions and tasks', async () => {
  const other = await startSimPool({ machines: [] });
  try {
    const { call } = await logIn(other);
    const task = await call('task.create', 'lost', '');
    other.restartToolstack();
    await assert.rejects(call('task.get_status', task), /SESSION_INVALID/);
    const next = await logIn(other);
    await assert.rejects(next.call('task.get_status', task), /HANDLE_INVALID task/);
  } finally {
    await other.close();
  }
});
