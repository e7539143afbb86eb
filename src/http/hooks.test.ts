import assert from 'node:assert/strict';
import { createHmac } from 'node:crypto';
import { test } from 'node:test';
import { Webhook } from 'standardwebhooks';
import { createHarness } from '../../test/http/harness.ts';
import { BackupError } from '../errors.ts';
import { createSecret } from '../secret.ts';
import { MAX_BODY_BYTES } from './input.ts';
import type { HttpProblem } from './problem.ts';
import { readDelivery, type Senders } from './senders.ts';

const NEW_KEY = `whsec_${Buffer.alloc(32, 1).toString('base64')}`;
const OLD_KEY = `whsec_${Buffer.alloc(24, 2).toString('base64')}`;
const GITHUB_SECRET = "It's a Secret to Everybody";
const SENDERS: Senders = {
  standard: { secrets: [NEW_KEY, OLD_KEY].map(createSecret), vms: ['*'] },
  github: {
    secrets: [createSecret('the-one-to-come-next'), createSecret(GITHUB_SECRET)],
    vms: ['*'],
  },
};
const WISH = { vm: 'web-1', retention: 'weekly' };
const ASKED = JSON.stringify({ type: 'backup.requested', data: WISH });
const DISPATCH = {
  action: 'xvault-backup',
  client_payload: WISH,
  repository: { full_name: 'octo/infra' },
  sender: { login: 'octocat' },
};

type Harness = ReturnType<typeof createHarness>;
interface Input {
  body?: string;
  id?: string;
  key?: string;
  atMs?: number;
  headers?: Record<string, string>;
}

/** Signed by the library senders use. */
function standardHeaders(
  { clock }: Harness,
  { id = 'msg_1', key = NEW_KEY, atMs, body = ASKED }: Input,
) {
  const at = new Date(atMs ?? clock.now());
  return {
    'content-type': 'application/json',
    'webhook-id': id,
    'webhook-timestamp': String(Math.floor(at.getTime() / 1000)),
    'webhook-signature': new Webhook(key).sign(id, at, body),
  };
}

function sendStandard(harness: Harness, input: Input = {}): Promise<Response> {
  const headers = { ...standardHeaders(harness, input), ...input.headers };
  return harness.request('POST', '/hooks/standard', { headers, body: input.body ?? ASKED });
}

function sendGithub(
  { request }: Harness,
  event: string,
  payload: object,
  headers: Record<string, string> = {},
): Promise<Response> {
  const body = JSON.stringify(payload);
  const signature = createHmac('sha256', GITHUB_SECRET).update(body).digest('hex');
  return request('POST', '/hooks/github', {
    body,
    headers: {
      'content-type': 'application/json',
      'x-github-event': event,
      'x-github-delivery': '72d3162e-cc78-11e3-81ab-4c9367dc0958',
      'x-hub-signature-256': `sha256=${signature}`,
      ...headers,
    },
  });
}

async function codeOf(answer: Response): Promise<string> {
  return ((await answer.json()) as HttpProblem).code;
}

const started = ({ service }: Harness) =>
  (service.calls.get('startBackup') ?? []) as {
    vm: string;
    request: { retention: string };
    triggeredBy: string;
  }[];

test('a Standard Webhook starts the backup it asks for, signed with the new secret or the old one', async () => {
  for (const key of [NEW_KEY, OLD_KEY]) {
    const harness = createHarness({ senders: SENDERS });
    const answer = await sendStandard(harness, { key });
    assert.equal(answer.status, 202);
    const job = (await answer.json()) as { id: string };
    assert.equal(answer.headers.get('location'), `/v1/jobs/${job.id}`);
    const [input] = started(harness);
    assert.equal(input?.vm, 'web-1');
    assert.equal(input.request.retention, 'weekly');
    assert.equal(Object.hasOwn(input.request, 'vm'), false);
    assert.equal(input.triggeredBy, 'hook:standard');
  }
});

test('one right signature among several is enough, whatever version the others are of', async () => {
  const harness = createHarness({ senders: SENDERS });
  const right = standardHeaders(harness, {})['webhook-signature'];
  const wrong = new Webhook(`whsec_${Buffer.alloc(32, 9).toString('base64')}`);
  const other = wrong.sign('msg_1', new Date(harness.clock.now()), ASKED);
  const headers = { 'webhook-signature': `v1a,AAAA ${other} ${right}` };
  assert.equal((await sendStandard(harness, { headers })).status, 202);
});

test('a message sent again starts nothing and gets the first answer; its id with another body is refused', async () => {
  const harness = createHarness({ senders: SENDERS });
  const first = await sendStandard(harness);
  // a sender's later try is signed anew
  await harness.clock.advance?.(60_000);
  const again = await sendStandard(harness);
  assert.equal(again.status, 202);
  assert.equal(again.headers.get('idempotency-replayed'), 'true');
  assert.equal(await again.text(), await first.text());
  const body = JSON.stringify({ type: 'backup.requested', data: { vm: 'db-1' } });
  const other = await sendStandard(harness, { body });
  assert.equal(await codeOf(other), 'idempotency_mismatch');
  assert.equal(started(harness).length, 1);
});

test('what is not surely of the sender, and of now, does nothing', async () => {
  const harness = createHarness({ senders: SENDERS });
  const { clock, service, request } = harness;
  const now = clock.now();
  const good = standardHeaders(harness, {});
  const cases: Record<string, Input> = {
    'another secret': { key: `whsec_${Buffer.alloc(32, 9).toString('base64')}` },
    'five minutes and a second old': { atMs: now - 301_000 },
    'five minutes and a second ahead': { atMs: now + 302_000 },
    'another body': { headers: good, body: ASKED.replace('web-1', 'web-2') },
    'one space more': { headers: good, body: `${ASKED} ` },
    'another id': { headers: { ...good, 'webhook-id': 'msg_2' } },
    'another second': {
      headers: { ...good, 'webhook-timestamp': String(Number(good['webhook-timestamp']) + 1) },
    },
    'no id': { headers: { 'webhook-id': '' } },
    'no time': { headers: { 'webhook-timestamp': '' } },
    'a time in words': { headers: { 'webhook-timestamp': new Date(now).toISOString() } },
    'no signature': { headers: { 'webhook-signature': '' } },
    'a signature cut short': {
      headers: { 'webhook-signature': good['webhook-signature'].slice(0, 20) },
    },
    'another version': {
      headers: { 'webhook-signature': good['webhook-signature'].replace('v1', 'v2') },
    },
    'the right one behind many': {
      headers: { 'webhook-signature': `${'v1,AAAA '.repeat(8)}${good['webhook-signature']}` },
    },
  };
  for (const [what, input] of Object.entries(cases)) {
    const answer = await sendStandard(harness, input);
    assert.equal(answer.status, 401, what);
    assert.match(answer.headers.get('www-authenticate') ?? '', /^Signature realm=/);
    const text = await answer.text();
    assert.equal(/whsec_|v1,/.test(text), false, text);
  }
  // the token of a person is no signature, and no way around one
  const token = await request('POST', '/hooks/standard', {
    headers: { authorization: 'Bearer all-token', 'content-type': 'application/json' },
    body: ASKED,
  });
  assert.equal(token.status, 401);
  const large = 'x'.repeat(MAX_BODY_BYTES + 1);
  assert.equal((await sendStandard(harness, { body: large })).status, 413);
  const payload = { ...DISPATCH };
  for (const wrong of [`sha1=${'0'.repeat(40)}`, `sha256=${'0'.repeat(64)}`, 'sha256=zz', '']) {
    const headers = { 'x-hub-signature-256': wrong };
    assert.equal((await sendGithub(harness, 'repository_dispatch', payload, headers)).status, 401);
  }
  const unnamed = await sendGithub(harness, 'repository_dispatch', payload, {
    'x-github-delivery': '',
  });
  assert.equal(unnamed.status, 401);
  assert.equal(service.calls.size, 0);
});

test('a sender without a secret has no route, whatever it signs', async () => {
  const harness = createHarness();
  const answer = await sendStandard(harness);
  assert.equal(answer.status, 404);
  assert.match(await answer.text(), /XVAULT_HOOK_STANDARD_SECRET/);
  assert.equal((await sendGithub(harness, 'ping', {})).status, 404);
});

test('the vector of GitHub’s documentation is right, and a bit beside it is not', async () => {
  const { github: sender } = SENDERS;
  assert.ok(sender);
  const read = (text: string) =>
    readDelivery('github', {
      sender,
      bytes: new Uint8Array(Buffer.from(text)),
      nowMs: 0,
      header: (name) =>
        name === 'x-github-delivery'
          ? 'd1'
          : 'sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17',
    });
  assert.equal((await read('Hello, World!')).text, 'Hello, World!');
  await assert.rejects(read('Hello, World.'), { code: 'unauthenticated' });
});

test('a dispatch at GitHub starts a backup once, however often it is delivered, and says who sent it', async () => {
  const harness = createHarness({ senders: SENDERS });
  assert.equal((await sendGithub(harness, 'repository_dispatch', DISPATCH)).status, 202);
  const again = await sendGithub(harness, 'repository_dispatch', DISPATCH);
  assert.equal(again.headers.get('idempotency-replayed'), 'true');
  assert.deepEqual(
    started(harness).map(({ vm, triggeredBy }) => [vm, triggeredBy]),
    [['web-1', 'hook:github octocat']],
  );
});

test('inputs of a workflow are read as what they mean', async () => {
  const harness = createHarness({ senders: SENDERS });
  const inputs = { vm: 'web-1', retention: '', dry_run: 'true', exclude_disks: '1, 2', note: 'n' };
  const workflow = '.github/workflows/xvault-backup.yml';
  const answer = await sendGithub(harness, 'workflow_dispatch', { workflow, inputs });
  assert.equal(answer.status, 202);
  const { request } = started(harness)[0] as { request: object };
  assert.partialDeepStrictEqual(request, {
    retention: 'daily',
    dry_run: true,
    exclude_disks: ['1', '2'],
    note: 'n',
  });
});

test('events for others are answered with 200 and do nothing', async () => {
  const harness = createHarness({ senders: SENDERS });
  const answers = [
    await sendStandard(harness, { body: JSON.stringify({ type: 'backup.succeeded', data: 1 }) }),
    await sendGithub(harness, 'ping', { zen: 'Keep it logically awesome.', hook_id: 1 }, id('1')),
    await sendGithub(harness, 'push', { ref: 'refs/heads/main' }, id('2')),
    await sendGithub(harness, 'repository_dispatch', { ...DISPATCH, action: 'deploy' }, id('3')),
    await sendGithub(
      harness,
      'workflow_dispatch',
      { workflow: '.github/workflows/deploy.yml', inputs: WISH },
      id('4'),
    ),
  ];
  for (const answer of answers) {
    assert.equal(answer.status, 200);
    assert.match(await answer.text(), /^\{"ignored":/);
  }
  assert.equal(harness.service.calls.size, 0);
});

const id = (delivery: string) => ({ 'x-github-delivery': delivery });

test('a wish that is none names its field', async () => {
  const harness = createHarness({ senders: SENDERS });
  const wrong = { ...DISPATCH, client_payload: { ...WISH, mode: 'fast', hurry: true } };
  const answer = await sendGithub(harness, 'repository_dispatch', wrong);
  assert.equal(answer.status, 422);
  const { errors = [] } = (await answer.json()) as HttpProblem;
  const pointers = errors.map(({ pointer }) => pointer);
  assert.deepEqual(pointers.sort(), ['#/client_payload/hurry', '#/client_payload/mode']);
  const body = JSON.stringify({ type: 'backup.requested' });
  assert.equal((await sendStandard(harness, { body })).status, 422);
  const form = await sendGithub(
    harness,
    'ping',
    {},
    {
      ...id('9'),
      'content-type': 'application/x-www-form-urlencoded',
    },
  );
  assert.equal(form.status, 415);
  assert.match(await form.text(), /application\/json/);
});

test('a sender names the machines of the settings and no others, in a run, too', async () => {
  const senders = { standard: { secrets: [createSecret(NEW_KEY)], vms: ['web-*', 'db-1'] } };
  const harness = createHarness({ senders });
  let sent = 0;
  const ask = async (type: string, data: object) => {
    const body = JSON.stringify({ type, data });
    return (await sendStandard(harness, { id: `msg-${++sent}`, body })).status;
  };
  assert.equal(await ask('backup.requested', { vm: 'web-7' }), 202);
  assert.equal(await ask('backup.requested', { vm: 'db-1' }), 202);
  for (const vm of ['db-10', 'DB-1', 'my-web-1', '*', 'web']) {
    assert.equal(await ask('backup.requested', { vm }), 403, vm);
  }
  assert.equal(await ask('run.requested', { select: { names: ['web-1', 'db-1'] } }), 202);
  assert.equal(await ask('run.requested', { select: { names: ['web-1', 'mail'] } }), 403);
  assert.equal(await ask('run.requested', { select: { tags: ['nightly'] } }), 403);
  assert.equal(await ask('run.requested', { select: { all: true } }), 403);
  assert.equal(started(harness).length, 2);
  assert.equal(harness.service.calls.get('startRun')?.length, 1);
});

test('the beginning of a name is none of a uuid, which may be any machine’s', async () => {
  const vms = ['db*', 'c1d2e3f4-4f5a-4b6c-8d7e-9f0a1b2c3d4e'];
  const harness = createHarness({
    senders: { standard: { secrets: [createSecret(NEW_KEY)], vms } },
  });
  const ask = async (vm: string) => {
    const body = JSON.stringify({ type: 'backup.requested', data: { vm } });
    return (await sendStandard(harness, { id: `msg-${vm}`, body })).status;
  };
  assert.equal(await ask('db7c1d2e-4f5a-4b6c-8d7e-9f0a1b2c3d4e'), 403);
  assert.equal(await ask('c1d2e3f4-4f5a-4b6c-8d7e-9f0a1b2c3d4e'), 202);
  assert.equal(await ask('C1D2E3F4-4F5A-4B6C-8D7E-9F0A1B2C3D4E'), 202);
  assert.equal(await ask('db-main'), 202);
});

test('what passes by itself is told as such and taken when it is sent again', async () => {
  const harness = createHarness({ senders: SENDERS });
  harness.service.failures.set('startBackup', new BackupError('limit_reached', 'queue backup'));
  const busy = await sendStandard(harness);
  assert.equal(busy.status, 429);
  assert.ok(Number(busy.headers.get('retry-after')) > 0);
  harness.service.failures.clear();
  assert.equal((await sendStandard(harness)).status, 202);
});

test('the log has who called and no signature', async () => {
  const harness = createHarness({ senders: SENDERS });
  await sendStandard(harness);
  await sendStandard(harness, { headers: { 'webhook-id': 'other' } });
  const text = JSON.stringify(harness.lines);
  assert.match(text, /hook:standard/);
  assert.equal(/v1,|whsec_/.test(text), false);
});
