import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Webhook } from 'standardwebhooks';
import { createHookClock } from '../../test/hooks/clock.ts';
import {
  startMailReceiver,
  startWebReceiver,
  type WebReceiver,
} from '../../test/notify/receiver.ts';
import { SHAPES, stringsOf } from '../../test/notify-shapes.ts';
import { nextId, sampleBackup, sampleJob, VM_UUID } from '../../test/records.ts';
import { findLeak } from '../../test/security/leaks.ts';
import { noticeOf } from '../backup/job-notice.ts';
import { createLog } from '../log.ts';
import { EVENTS, type Notice } from '../notices.ts';
import type { NotifyTarget } from '../notify-targets.ts';
import { createSecret } from '../secret.ts';
import { NEVER } from '../signals.ts';
import { TRY_MS } from './deliver.ts';
import { createNotifier } from './notifier.ts';
import { withLink } from './page-link.ts';

const SECRET = 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw';
const OLD_SECRET = `whsec_${Buffer.alloc(24, 7).toString('base64')}`;
/** In the path, where chats have it. */
const URL_TOKEN = 'T0KEN-in-the-path';
const ALL = new Set(EVENTS);
const HOSTILE =
  '<!channel> @everyone [win](https://evil.example) <b onload="x">\r\nBcc: a@evil.example\u202e';

function setUp(
  target: Partial<NotifyTarget> & Pick<NotifyTarget, 'kind'>,
  receiver?: WebReceiver,
  publicUrl?: string,
) {
  const counts: string[] = [];
  const lines: string[] = [];
  const clock = createHookClock(TRY_MS);
  const meter = {
    count: (name: string, _value: number, labels?: Readonly<Record<string, string>>) =>
      void counts.push(`${name} ${labels?.target} ${labels?.outcome}`),
    observe: () => undefined,
  };
  const log = createLog({ level: 'debug', write: (line) => void lines.push(line) });
  const whole = {
    name: 'ops',
    events: ALL,
    ...(receiver && {
      url: createSecret(`${receiver.origin}/hooks/${URL_TOKEN}`),
      caPem: receiver.caPem,
    }),
    ...target,
  } as NotifyTarget;
  const notifier = createNotifier([whole], { clock, log, meter, publicUrl });
  return {
    clock,
    counts,
    notifier,
    logged: () => lines.join(''),
    send: async (notice: Notice = failedNotice(), signal = NEVER, attempts?: number) => {
      const input = { targets: ['ops'], ...(attempts === undefined ? {} : { attempts }) };
      const [delivery] = await notifier.send(notice, input, { signal });
      assert.ok(delivery);
      return delivery;
    },
  };
}

function failedNotice(name = 'web'): Notice {
  const job = sampleJob({
    status: 'failed',
    phase: 'cleaning',
    started_at: '2026-01-05T01:00:00.000Z',
    finished_at: '2026-01-05T01:02:00.000Z',
    vm: { uuid: VM_UUID, name, pool: 'dc1' },
    error: {
      type: 'about:blank',
      title: 'The snapshot was refused',
      status: 502,
      code: 'snapshot_refused',
      detail: 'take snapshot: SR full, sr=local',
    },
  });
  const notice = noticeOf(job);
  assert.ok(notice);
  return notice;
}

function goodNotice(): Notice {
  const job_id = nextId();
  const excluded = { vdi_uuid: nextId(), name: 'scratch', userdevice: '1', virtual_size_bytes: 1 };
  const result = sampleBackup({
    job_id,
    excluded_disks: [{ ...excluded, reason: 'asked for' }],
    warnings: ['the guest may still hold its data'],
  });
  const finished_at = '2026-01-05T01:02:00.000Z';
  const notice = noticeOf(sampleJob({ id: job_id, status: 'succeeded', result, finished_at }));
  assert.ok(notice);
  return notice;
}

/** As long as a big pool's run is. */
function runNotice(): Notice {
  const rows = Array.from({ length: 300 }, (_, at) => [
    `machine-${at} ${HOSTILE}`,
    at % 7 === 0 ? 'failed' : 'succeeded',
    '4.5 GiB',
    'x'.repeat(500),
  ]);
  const facts = Array.from({ length: 30 }, (_, at) => ({
    name: `Fact ${at}`,
    value: `${HOSTILE} ${'y'.repeat(3000)}`,
  }));
  return {
    ...failedNotice(HOSTILE),
    id: `evt_${nextId()}_run.finished`,
    event: 'run.finished',
    what: `Run of ${HOSTILE} ${'z'.repeat(3000)}`,
    facts,
    table: { columns: ['Machine', 'Outcome', 'Size', 'Why'], rows },
  };
}

for (const [kind, shape] of Object.entries(SHAPES)) {
  test(`${kind} is given what it takes, however much there is to tell and whatever names say`, async () => {
    await using receiver = await startWebReceiver();
    const world = setUp({ kind: kind as 'slack' }, receiver);
    for (const notice of [failedNotice(), goodNotice(), runNotice(), failedNotice(HOSTILE)]) {
      assert.deepEqual(await world.send(notice), { target: 'ops', ok: true, attempts: 1 });
    }
    const [failed, , run, hostile] = receiver.posts;
    for (const { body, headers, method } of receiver.posts) {
      assert.equal(method, 'POST');
      assert.match(String(headers['content-type']), /^application\/json/);
      const parsed = shape.safeParse(JSON.parse(body));
      assert.equal(parsed.error?.message, undefined);
      assert.ok(body.length < 28_000, `${body.length}`);
    }
    assert.match(failed?.body ?? '', /Backup of web failed: take snapshot: SR full/);
    assert.match(failed?.body ?? '', /The pool cannot make the snapshot/);
    for (const one of [run, hostile]) {
      const strings = stringsOf(JSON.parse(one?.body ?? 'null')).join('\n');
      assert.doesNotMatch(strings, /\u202e|\r/);
      if (kind === 'slack') assert.doesNotMatch(strings, /<!channel>/);
      if (kind === 'mattermost') assert.doesNotMatch(strings, /@everyone|[^\\]\]\(https/);
      // what Markdown there is, is escaped; Discord mentions nobody, runs of text have no Markdown
      if (kind === 'teams')
        assert.doesNotMatch(valuesOf(JSON.parse(one?.body ?? 'null')), /\]\(https/);
      if (kind === 'discord') assert.doesNotMatch(strings, /[^\\]\]\(https/);
    }
    if (kind === 'discord') assert.match(receiver.posts[0]?.path ?? '', /\?wait=true$/);
  });
}

/** Of a card's facts. */
function valuesOf(card: {
  attachments: [{ content: { body: { facts?: { value: string }[] }[] } }];
}): string {
  const { body } = card.attachments[0].content;
  return body.flatMap(({ facts = [] }) => facts.map(({ value }) => value)).join('\n');
}

test('with a public address every message leads to its page, without one to none', async () => {
  const PUBLIC = 'https://xvault.example.com';
  const notice = failedNotice();
  for (const kind of [
    'slack',
    'mattermost',
    'discord',
    'teams',
    'webhook',
    'healthchecks',
  ] as const) {
    for (const publicUrl of [PUBLIC, undefined]) {
      await using receiver = await startWebReceiver();
      const secrets = { secrets: [createSecret(SECRET)] };
      const { send } = setUp(
        { kind, ...(kind === 'webhook' ? secrets : {}) } as never,
        receiver,
        publicUrl,
      );
      receiver.answer = () => ({ body: 'OK' });
      assert.equal((await send(notice)).ok, true, kind);
      const { body = '' } = receiver.posts[0] ?? {};
      assert.equal(
        body.includes(`${PUBLIC}/jobs/${notice.about}`),
        publicUrl !== undefined,
        `${kind} ${body}`,
      );
      if (kind in SHAPES) SHAPES[kind as keyof typeof SHAPES].parse(JSON.parse(body));
    }
  }
});

test('a link leads to the job, the run or the machine, and nowhere a name could steer it', () => {
  const vm = { uuid: VM_UUID, name: 'x', pool: '../#?' };
  const { about: _, ...notice } = failedNotice();
  const link = (more: Partial<Notice>) =>
    withLink({ ...notice, ...more }, 'https://x.example').link;
  assert.equal(link({ about: 'a/b', event: 'run.finished' }), 'https://x.example/runs/a%2Fb');
  assert.equal(
    link({ vm, event: 'freshness.critical' }),
    `https://x.example/vms/..%2F%23%3F/${VM_UUID}`,
  );
  const { vm: _vm, ...bare } = notice;
  assert.equal(
    withLink({ ...bare, event: 'sweep.leftover_found' }, 'https://x.example').link,
    'https://x.example/',
  );
});

test('a webhook is signed as the library of the specification verifies, by old and new secret', async () => {
  await using receiver = await startWebReceiver();
  const secrets = [SECRET, OLD_SECRET].map(createSecret);
  const { send } = setUp({ kind: 'webhook', secrets }, receiver);
  const notice = goodNotice();
  assert.equal((await send(notice)).ok, true);
  const [post] = receiver.posts;
  assert.ok(post);
  const headers = post.headers as Record<string, string>;
  for (const secret of [SECRET, OLD_SECRET]) {
    const verified = new Webhook(secret).verify(post.body, headers) as Record<string, unknown>;
    assert.deepEqual(Object.keys(verified), ['type', 'timestamp', 'data']);
  }
  assert.throws(() => new Webhook(SECRET).verify(`${post.body} `, headers));
  assert.equal(headers['webhook-id'], notice.id);
  const { type, data } = JSON.parse(post.body);
  assert.equal(type, 'backup.succeeded');
  assert.equal(data.job.id, notice.about);
  assert.deepEqual(data.backup.excluded_disks, [{ name: 'scratch', reason: 'asked for' }]);
  assert.deepEqual(data.warnings, ['the guest may still hold its data']);
  assert.ok(post.body.length < 20_000);
});

test('a CloudEvent has its attributes, and the token if one is set', async () => {
  await using receiver = await startWebReceiver();
  const token = createSecret('bearer-secret');
  const { send } = setUp({ kind: 'cloudevents', source: '/xvault', token }, receiver);
  const notice = failedNotice();
  await send(notice);
  const [post] = receiver.posts;
  assert.equal(post?.headers['content-type'], 'application/cloudevents+json; charset=utf-8');
  assert.equal(post?.headers.authorization, 'Bearer bearer-secret');
  const { data, ...attributes } = JSON.parse(post?.body ?? '');
  assert.deepEqual(attributes, {
    specversion: '1.0',
    id: notice.id,
    source: '/xvault',
    type: 'xvault.backup.failed',
    time: '2026-01-05T01:02:00.000Z',
    subject: `dc1/${VM_UUID}`,
    datacontenttype: 'application/json',
  });
  assert.equal(data.error.code, 'snapshot_refused');
});

test('healthchecks hears of start, success, failure and cancel, each with the id of the job', async () => {
  await using receiver = await startWebReceiver();
  receiver.answer = () => ({ body: 'OK' });
  const { send } = setUp({ kind: 'healthchecks' }, receiver);
  const about = nextId();
  for (const what of ['started', 'succeeded', 'failed', 'cancelled'] as const) {
    await send({ ...failedNotice(), event: `backup.${what}`, about });
  }
  for (const severity of ['success', 'error', 'warning'] as const) {
    await send({ ...failedNotice(), event: 'run.finished', severity, about });
  }
  const base = `/hooks/${URL_TOKEN}`;
  assert.deepEqual(
    receiver.posts.map(({ path }) => path),
    ['/start', '', '/fail', '/log', '', '/fail', '/log'].map((end) => `${base}${end}?rid=${about}`),
  );
  assert.match(receiver.posts[2]?.body ?? '', /^Backup of web failed: .*\nThe pool cannot/);
  receiver.answer = () => ({ body: 'OK (not found)' });
  const delivery = await send();
  assert.equal(delivery.ok, false);
  assert.equal(delivery.attempts, 1);
  assert.match(delivery.problem ?? '', /not found/);
});

const LOGIN = { username: 'xvault', password: createSecret('mail-secret') };
const MAIL = {
  kind: 'email',
  insecure: false,
  login: LOGIN,
  from: 'Backups <xvault@example.com>',
  to: ['ops@example.com', 'boss@example.com'],
} as const;

test('an e-mail goes through STARTTLS and a login, and says it in text and in HTML', async () => {
  await using receiver = await startMailReceiver();
  const { host, port, caPem } = receiver;
  const { send } = setUp({ ...MAIL, server: { host, port, tls: false }, caPem });
  const good = goodNotice();
  assert.deepEqual(await send(good), { target: 'ops', ok: true, attempts: 1 });
  assert.equal((await send(failedNotice(HOSTILE))).ok, true);
  assert.equal((await send(runNotice())).ok, true);
  const [first, hostile, run] = receiver.mails;
  assert.ok(first && hostile && run);
  assert.equal(first.secure, true);
  assert.equal(first.from, 'xvault@example.com');
  assert.deepEqual(first.to, MAIL.to);
  assert.match(first.parsed.subject ?? '', /^\[xvault\] Backup of web succeeded: 1 B in 9s/);
  assert.equal(first.parsed.messageId, `<${good.id}@xvault>`);
  assert.equal(first.parsed.headers.get('auto-submitted'), 'auto-generated');
  for (const body of [first.parsed.text ?? '', String(first.parsed.html)]) {
    assert.match(body, /scratch \(asked for\)/);
    assert.match(body, /the guest may still hold its data/);
    assert.match(body, /Read its warnings, below\./);
  }
  assert.deepEqual(hostile.to, MAIL.to);
  assert.equal(hostile.parsed.headers.get('bcc'), undefined);
  assert.doesNotMatch(String(hostile.parsed.html), /<b |<!channel/);
  assert.match(run.parsed.text ?? '', /machine-299/);
  assert.match(String(run.parsed.html), /machine-299/);
});

test('an e-mail goes by TLS from the start, too, and without TLS only where that is allowed', async () => {
  await using tls = await startMailReceiver({ tls: true });
  const { host, port, caPem } = tls;
  await setUp({ ...MAIL, server: { host, port, tls: true }, caPem }).send();
  assert.equal(tls.mails[0]?.secure, true);
  await using plain = await startMailReceiver({ plain: true });
  const server = { host: plain.host, port: plain.port, tls: false };
  const { login: _, ...open } = MAIL;
  assert.equal((await setUp({ ...open, server }).send(failedNotice(), NEVER, 1)).ok, false);
  assert.equal(plain.mails.length, 0);
  assert.equal((await setUp({ ...open, server, insecure: true }).send()).ok, true);
  assert.equal(plain.mails.length, 1);
});

test('a mail server that does not want it is asked once, one that cannot now is asked again', async () => {
  await using receiver = await startMailReceiver();
  const { host, port, caPem } = receiver;
  const server = { host, port, tls: false };
  const login = { ...LOGIN, password: createSecret('wrong') };
  const refused = await setUp({ ...MAIL, server, caPem, login }).send();
  assert.equal(refused.attempts, 1);
  assert.match(refused.problem ?? '', /535|login/i);
  for (const [code, attempts] of [
    [550, 1],
    [451, 4],
  ] as const) {
    await using other = await startMailReceiver({ refuse: { code, text: 'not now' } });
    const at = { host: other.host, port: other.port, tls: false };
    const delivery = await setUp({ ...MAIL, server: at, caPem: other.caPem }).send();
    assert.deepEqual([delivery.ok, delivery.attempts], [false, attempts]);
    assert.match(delivery.problem ?? '', /not now/);
  }
  const unknown = await setUp({ ...MAIL, server, caPem: '' }).send(failedNotice(), NEVER, 1);
  assert.match(unknown.problem ?? '', /certificate/);
});

test('what may pass is tried four times with the same id, what will not is tried once', async () => {
  await using receiver = await startWebReceiver();
  const { send, counts } = setUp({ kind: 'webhook', secrets: [createSecret(SECRET)] }, receiver);
  receiver.answer = () => ({ status: 503, body: 'restarting' });
  const down = await send();
  assert.deepEqual(down, {
    target: 'ops',
    ok: false,
    attempts: 4,
    problem: 'answered 503 "restarting"',
  });
  assert.equal(new Set(receiver.posts.map(({ headers }) => headers['webhook-id'])).size, 1);
  const finals: [number, RegExp][] = [
    [404, /^answered 404 "no_service"$/],
    [410, /^answered 410/],
    [302, /redirects are not followed/],
  ];
  for (const [status, says] of finals) {
    receiver.answer = () => ({ status, body: 'no_service', headers: { location: '/other' } });
    const { attempts, problem } = await send();
    assert.equal(attempts, 1);
    assert.match(problem ?? '', says);
  }
  let calls = 0;
  receiver.answer = () => ({ status: ++calls < 3 ? 429 : 200, headers: { 'retry-after': '1' } });
  assert.deepEqual(await send(), { target: 'ops', ok: true, attempts: 3 });
  assert.equal((await send(failedNotice(), NEVER, 2)).ok, true);
  assert.equal(counts.at(-1), 'notifications_total ops ok');
});

test('a target that does not answer, or is not there, is given up in time', async () => {
  await using receiver = await startWebReceiver();
  const world = setUp({ kind: 'slack' }, receiver);
  receiver.answer = () => {
    setImmediate(world.clock.expire);
    return 'silent';
  };
  const silent = await world.send(failedNotice(), NEVER, 2);
  assert.deepEqual([silent.ok, silent.attempts, silent.problem], [false, 2, 'no answer in 20 s']);
  const gone = setUp({ kind: 'slack', url: createSecret('https://127.0.0.1:1/x') });
  const refused = await gone.send();
  assert.equal(refused.attempts, 4);
  assert.match(refused.problem ?? '', /ECONNREFUSED/);
});

test('a shutdown ends tries and waits at once, and says that it was that', async () => {
  await using receiver = await startWebReceiver();
  const stop = new AbortController();
  receiver.answer = () => {
    setImmediate(() => stop.abort(new Error('stopping')));
    return 'silent';
  };
  const { send, counts } = setUp({ kind: 'slack' }, receiver);
  const sending = Array.from({ length: 5 }, () => send(failedNotice(), stop.signal));
  for (const delivery of await Promise.all(sending)) {
    assert.deepEqual([delivery.ok, delivery.stopped], [false, true]);
  }
  assert.ok(receiver.posts.length <= 2, 'two at once');
  assert.deepEqual([...new Set(counts)], ['notifications_total ops stopped'], 'no alarm');
});

test('a line that is too long is told at once, and other targets do not wait for it', async () => {
  await using receiver = await startWebReceiver();
  receiver.answer = () => 'silent';
  const stop = new AbortController();
  const { send } = setUp({ kind: 'slack' }, receiver);
  const waiting = Array.from({ length: 200 }, () => send(failedNotice(), stop.signal));
  const late = await send();
  assert.deepEqual([late.ok, late.attempts], [false, 0]);
  assert.match(late.problem ?? '', /200 notices wait/);
  stop.abort(new Error('stopping'));
  await Promise.all(waiting);
});

test('secrets of the settings are in no log line, no record and no other target', async () => {
  await using receiver = await startWebReceiver();
  receiver.answer = () => ({ status: 400, body: 'bad' });
  const secrets = { SECRET, URL_TOKEN, token: 'bearer-secret' };
  const targets: Partial<NotifyTarget>[] = [
    { kind: 'webhook', secrets: [createSecret(SECRET)] },
    { kind: 'slack' },
    { kind: 'cloudevents', source: '/x', token: createSecret('bearer-secret') },
    { kind: 'slack', url: createSecret(`https://127.0.0.1:1/${URL_TOKEN}`) },
  ];
  for (const target of targets) {
    const world = setUp(target as NotifyTarget, receiver);
    const delivery = await world.send();
    const bodies = receiver.posts.map(({ body }) => body);
    assert.equal(
      findLeak([world.logged(), JSON.stringify(delivery), ...bodies], secrets),
      undefined,
    );
    assert.match(world.logged(), /notification failed/);
  }
});
