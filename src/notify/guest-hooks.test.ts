import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createHookClock } from '../../test/hooks/clock.ts';
import {
  HOOK_SECRET,
  type HookReceiver,
  type Respond,
  startHookReceiver,
  verifySignature,
} from '../../test/hooks/receiver.ts';
import { SILENT_LOG } from '../log.ts';
import { parseAllowList } from '../outgoing.ts';
import type { Clock, HookCall } from '../ports.ts';
import { createSecret } from '../secret.ts';
import { NEVER } from '../signals.ts';
import type { Address, Resolve } from './guarded-agent.ts';
import { createGuestHooks } from './guest-hooks.ts';

const options = { signal: NEVER };
const NAME = 'db-1.guests.example';
const TIMEOUT_MS = 30_000;

interface SetUp {
  allow?: string;
  secrets?: string[];
  resolve?: Resolve;
  clock?: Clock;
}

const toLoopback: Resolve = async () => [{ address: '127.0.0.1', family: 4 }];

function hooksFor(receiver: HookReceiver, over: SetUp = {}) {
  const { allow = `${receiver.origin}, 127.0.0.1`, clock = createHookClock(TIMEOUT_MS) } = over;
  const { list, mistakes } = parseAllowList('XVAULT_HOOK_ALLOW', allow);
  assert.deepEqual(mistakes, []);
  return createGuestHooks(
    {
      allow: list,
      secrets: (over.secrets ?? [HOOK_SECRET]).map(createSecret),
      timeoutMs: TIMEOUT_MS,
      caPem: receiver.caPem,
    },
    { clock, log: SILENT_LOG, resolve: over.resolve ?? toLoopback },
  );
}

function callTo(receiver: HookReceiver, over: Partial<HookCall> = {}): HookCall {
  return {
    name: 'before_snapshot',
    url: `${receiver.origin}/freeze`,
    id: 'hook_1',
    data: { phase: 'before_snapshot', round: 1 },
    attempts: 1,
    ...over,
  };
}

function start(respond: Respond = () => undefined) {
  return startHookReceiver({ name: NAME, respond });
}

test('the check of the tests agrees with the vector of the specification', () => {
  const headers = {
    'webhook-id': 'msg_p5jXN8AQM9LWM0D4loKWxJek',
    'webhook-timestamp': '1614265330',
    'webhook-signature': 'v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=',
  };
  const body = '{"test": 2432232314}';
  const check = (nowSeconds: number, text = body) =>
    verifySignature({ headers, body: text }, { secret: HOOK_SECRET, nowSeconds });
  assert.equal(check(1614265330), true);
  assert.equal(check(1614265330, `${body} `), false);
  assert.equal(check(1614265330 + 301), false);
});

test('a call is a signed POST that says what it is about', async () => {
  await using receiver = await start();
  await hooksFor(receiver).call(callTo(receiver), options);
  const [call, ...more] = receiver.calls;
  assert.equal(more.length, 0);
  assert.equal(call?.verified, true);
  assert.equal(call?.id, 'hook_1');
  assert.equal(call?.path, '/freeze');
  assert.equal(call?.headers['content-type'], 'application/json');
  const body = JSON.parse(call?.body ?? '');
  assert.deepEqual(Object.keys(body), ['type', 'timestamp', 'data']);
  assert.equal(body.type, 'hook.before_snapshot');
  assert.deepEqual(body.data, { phase: 'before_snapshot', round: 1 });
});

test('while a secret is changed, receivers with the old one and with the new one both believe it', async () => {
  const old = `whsec_${Buffer.alloc(24, 7).toString('base64')}`;
  await using receiver = await start();
  await using other = await startHookReceiver({ name: NAME, secret: old });
  for (const one of [receiver, other]) {
    await hooksFor(one, { secrets: [HOOK_SECRET, old] }).call(callTo(one), options);
    assert.equal(one.calls[0]?.verified, true);
  }
  await hooksFor(receiver, { secrets: [old] }).call(callTo(receiver), options);
  assert.equal(receiver.calls[1]?.verified, false);
});

const VETOES: [string, Respond, RegExp, string, number][] = [
  [
    'says no, with its reason in a problem',
    () => ({
      status: 409,
      headers: { 'content-type': 'application/problem+json' },
      body: '{"detail":"replication is\\nbehind"}',
    }),
    /answered 409 "replication is behind", url=https:\/\/db-1\.guests\.example:\d+\/freeze$/,
    'after-fix',
    409,
  ],
  [
    'says no in plain text without end',
    () => ({ status: 403, headers: { 'content-type': 'text/plain' }, body: 'x'.repeat(100_000) }),
    /answered 403 "x{200}"/,
    'after-fix',
    403,
  ],
  [
    'answers with a page',
    () => ({ status: 404, headers: { 'content-type': 'text/html' }, body: '<b>secret</b>' }),
    /answered 404, url/,
    'after-fix',
    404,
  ],
  [
    'redirects',
    () => ({ status: 307, headers: { location: 'http://169.254.169.254/' } }),
    /answered 307 \(redirects are not followed\)/,
    'after-fix',
    307,
  ],
  ['is busy', () => ({ status: 503 }), /answered 503/, 'later', 503],
  ['is broken', () => ({ status: 500 }), /answered 500/, 'after-fix', 500],
];

for (const [what, respond, says, retry, status] of VETOES) {
  test(`a guest that ${what} has refused`, async () => {
    await using receiver = await start(respond);
    await assert.rejects(
      hooksFor(receiver).call(callTo(receiver), options),
      (error: { code: string; message: string; retry: string; details: { status?: number } }) => {
        assert.equal(error.code, 'hook_failed');
        assert.match(error.message, says);
        assert.equal(error.retry, retry);
        assert.equal(error.details.status, status);
        return true;
      },
    );
    assert.equal(receiver.calls.length, 1);
  });
}

test('a guest that does not answer in time has refused, and is asked again if that is allowed', async () => {
  const clock = createHookClock(TIMEOUT_MS);
  await using receiver = await start(() => {
    setImmediate(clock.expire);
    return 'silent';
  });
  const hooks = hooksFor(receiver, { clock });
  await assert.rejects(hooks.call(callTo(receiver), options), {
    code: 'hook_failed',
    retry: 'after-fix',
    message: /no answer in 30000 ms/,
  });
  assert.equal(receiver.calls.length, 1);
  receiver.respond = () => {
    if (receiver.calls.length > 2) return undefined;
    setImmediate(clock.expire);
    return 'silent';
  };
  await hooks.call(callTo(receiver, { attempts: 2 }), options);
  assert.equal(receiver.calls.length, 3);
});

test('a refusal does not tell the query of the address', async () => {
  await using receiver = await start(() => ({ status: 400 }));
  const url = `${receiver.origin}/freeze?token=hidden`;
  await assert.rejects(hooksFor(receiver).call(callTo(receiver, { url }), options), (error) => {
    assert.equal(JSON.stringify({ error, text: String(error) }).includes('hidden'), false);
    return true;
  });
  assert.equal(receiver.calls[0]?.path, '/freeze?token=hidden');
});

test('a reason that may pass is tried again with the same id, a final one is not', async () => {
  const answers = [
    { status: 500 },
    { status: 429, headers: { 'retry-after': '2' } },
    { status: 200 },
  ];
  await using receiver = await start((call) => answers[receiver.calls.indexOf(call)]);
  await hooksFor(receiver).call(callTo(receiver, { attempts: 4 }), options);
  assert.deepEqual(
    receiver.calls.map(({ id, verified }) => [id, verified]),
    Array.from({ length: 3 }, () => ['hook_1', true]),
  );
  receiver.respond = () => ({ status: 410 });
  await assert.rejects(hooksFor(receiver).call(callTo(receiver, { attempts: 4 }), options));
  assert.equal(receiver.calls.length, 4);
});

test('tries end with the last one allowed', async () => {
  await using receiver = await start(() => ({ status: 500 }));
  await assert.rejects(hooksFor(receiver).call(callTo(receiver, { attempts: 3 }), options), {
    code: 'hook_failed',
  });
  assert.equal(receiver.calls.length, 3);
});

test('a question may be answered with no; what is no answer is asked for again', async () => {
  const plain = { 'content-type': 'text/plain' };
  const answers = [
    { status: 503 },
    { status: 429 },
    { status: 422, headers: plain, body: 'no table' },
    { status: 202, headers: { ...plain, 'retry-after': '7' }, body: 'booting' },
    { status: 302, headers: { location: '/else' } },
  ];
  await using receiver = await start(() => answers.shift());
  const hooks = hooksFor(receiver);
  const call = callTo(receiver, { name: 'verdict', attempts: 3 });
  const no = await hooks.ask(call, options);
  assert.deepEqual([no.status, no.text], [422, 'no table']);
  assert.deepEqual(new Set(receiver.calls.map(({ id }) => id)), new Set(['hook_1']));
  const later = await hooks.ask(call, options);
  assert.deepEqual([later.status, later.text, later.retryAfterSeconds], [202, 'booting', 7]);
  await assert.rejects(hooks.ask(call, options), { code: 'hook_failed', message: /redirects/ });
  assert.equal(receiver.calls.length, 5);
});

test('nobody there is a refusal that may pass', async () => {
  const receiver = await start();
  await receiver[Symbol.asyncDispose]();
  await assert.rejects(hooksFor(receiver).call(callTo(receiver), options), {
    code: 'hook_failed',
    retry: 'later',
    message: /ECONNREFUSED/,
  });
});

test('a certificate nobody vouches for, or of another name, is refused', async () => {
  await using receiver = await start();
  await using other = await startHookReceiver({ name: 'db-2.guests.example' });
  const unknown = hooksFor({ ...receiver, caPem: other.caPem });
  await assert.rejects(unknown.call(callTo(receiver), options), { code: 'hook_failed' });
  const url = `https://${NAME}:${other.port}/freeze`;
  const misnamed = hooksFor(other, { allow: `https://${NAME}:${other.port}, 127.0.0.1` });
  await assert.rejects(misnamed.call(callTo(other, { url }), options), { code: 'hook_failed' });
  assert.equal(receiver.calls.length + other.calls.length, 0);
});

test('whoever leaves gets the reason, and the call is over', async () => {
  const controller = new AbortController();
  await using receiver = await start(() => {
    controller.abort(new Error('left'));
    return 'silent';
  });
  const call = hooksFor(receiver).call(callTo(receiver), { signal: controller.signal });
  await assert.rejects(call, /left/);
});

test('an address outside the list is refused when asked, and when called', async () => {
  await using receiver = await start();
  const hooks = hooksFor(receiver, { allow: 'https://elsewhere.example' });
  const { url } = callTo(receiver);
  await assert.rejects(hooks.check({ field: 'hooks.before_snapshot', url }, options), {
    code: 'invalid_request',
  });
  await assert.rejects(hooks.call(callTo(receiver, { attempts: 9 }), options), {
    code: 'hook_failed',
  });
  assert.equal(receiver.calls.length, 0);
});

const REBINDS: [string, Address[]][] = [
  ['loopback', [{ address: '127.0.0.1', family: 4 }]],
  ['loopback of IPv6', [{ address: '::1', family: 6 }]],
  ['metadata', [{ address: '169.254.169.254', family: 4 }]],
  ['a private network', [{ address: '10.0.0.1', family: 4 }]],
];
for (const [what, addresses] of REBINDS) {
  test(`a listed name that resolves to ${what} is not connected to`, async () => {
    await using receiver = await start();
    const hooks = hooksFor(receiver, { allow: receiver.origin, resolve: async () => addresses });
    await assert.rejects(hooks.call(callTo(receiver, { attempts: 9 }), options), {
      code: 'hook_failed',
      retry: 'after-fix',
      message: /resolves to .*XVAULT_HOOK_ALLOW does not name/,
    });
    assert.equal(receiver.calls.length, 0);
  });
}

test('a name that resolves to something else every time is judged every time', async () => {
  await using receiver = await start(() => ({ status: 500 }));
  const answers = ['127.0.0.1', '127.0.0.2'];
  const resolve: Resolve = async () => [{ address: answers.shift() ?? '', family: 4 }];
  const hooks = hooksFor(receiver, { resolve });
  await assert.rejects(hooks.call(callTo(receiver, { attempts: 9 }), options), {
    message: /resolves to 127\.0\.0\.2, a loopback address/,
  });
  assert.equal(receiver.calls.length, 1);
});

test('of several addresses only those allowed are used', async () => {
  await using receiver = await start();
  const resolve: Resolve = async () => [
    { address: '169.254.169.254', family: 4 },
    { address: '127.0.0.1', family: 4 },
  ];
  await hooksFor(receiver, { resolve }).call(callTo(receiver), options);
  assert.equal(receiver.calls.length, 1);
});
