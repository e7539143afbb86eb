import assert from 'node:assert/strict';
import { createHmac } from 'node:crypto';
import { test } from 'node:test';
import { createHarness } from '../../test/http/harness.ts';
import { endedJob, exampleBackup } from '../../test/http/records.ts';
import { BackupError } from '../errors.ts';
import { createSecret } from '../secret.ts';
import { STATUS_EXAMPLE } from './examples.ts';
import { ANSWER_MS } from './follow-ups.ts';
import { readDelivery, type Sender } from './senders.ts';

// the example of docs.slack.dev, "Verifying requests from Slack"
const SECRET = '8f742231b10e8888abcd99yyyzzz85a5';
const VECTOR_AT = '1531420618';
const VECTOR =
  'token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V&channel_name=foobar' +
  '&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=&response_url=https%3A%2F%2Fhooks.slack.com' +
  '%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c';
const VECTOR_SIGNATURE = 'v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503';

const TOKEN = 'bfoyy3cfobf8pxgbumogbsp8hr';
const RESPONSE_URL = 'https://hooks.slack.com/commands/T1/2/abc';
const OPERATOR = 'U2CERLKJA';
const chat = (secret: string, replyOrigin: string): Sender => ({
  secrets: ['the-one-to-come-next', secret].map(createSecret),
  vms: ['web-*'],
  users: { [OPERATOR]: ['run', 'status', 'list', 'cancel'], '*': ['status', 'list'] },
  replyOrigins: [replyOrigin],
});
const SLACK = chat(SECRET, 'https://hooks.slack.com');
const MATTERMOST = chat(TOKEN, 'https://chat.example.com');
const FORM = { 'content-type': 'application/x-www-form-urlencoded' };

function createChat({
  vms,
  tellsChat = false,
  publicUrl,
}: Partial<Pick<Sender, 'vms'>> & { tellsChat?: boolean; publicUrl?: string } = {}) {
  const told: { url: string; text: string }[] = [];
  const slack = { ...SLACK, ...(vms && { vms }) };
  const settings = { senders: { slack, mattermost: MATTERMOST }, publicUrl };
  const reply = async ({ url, body }: { url: string; body: string }) => {
    told.push({ url, ...(JSON.parse(body) as { text: string }) });
  };
  const harness = createHarness(settings, undefined, { reply, tellsChat: () => tellsChat });
  const { clock, request, service } = harness;
  let second = 0;
  const send = (fields: Record<string, string>, headers: Record<string, string> = {}) => {
    const body = new URLSearchParams(fields).toString();
    // two people type in different seconds, or different things
    const at = String(Math.floor(clock.now() / 1000) + (second++ % 60));
    const hex = createHmac('sha256', SECRET).update(`v0:${at}:${body}`).digest('hex');
    const signed = { 'x-slack-request-timestamp': at, 'x-slack-signature': `v0=${hex}` };
    return request('POST', '/hooks/slack', { body, headers: { ...FORM, ...signed, ...headers } });
  };
  const say = async (text: string, fields: Record<string, string> = {}): Promise<string> => {
    const answer = await send({ user_id: OPERATOR, text, response_url: RESPONSE_URL, ...fields });
    assert.equal(answer.status, 200);
    const { response_type, text: said } = (await answer.json()) as Record<string, string>;
    assert.equal(response_type, 'ephemeral');
    return said ?? '';
  };
  const end = (fields: Partial<ReturnType<typeof endedJob>> = {}) => {
    const finished_at = new Date(clock.now()).toISOString();
    for (const id of service.jobs.keys()) {
      service.change(id, { ...endedJob(), finished_at, ...fields });
    }
  };
  return { ...harness, told, send, say, end };
}

test('the vector of Slack’s documentation is right for five minutes, and a bit beside it is not', async () => {
  const read = (body: string, nowMs: number) =>
    readDelivery('slack', {
      sender: SLACK,
      bytes: new Uint8Array(Buffer.from(body)),
      nowMs,
      header: (name) => (name === 'x-slack-signature' ? VECTOR_SIGNATURE : VECTOR_AT),
    });
  const at = Number(VECTOR_AT) * 1000;
  assert.equal((await read(VECTOR, at + 300_000)).text, VECTOR);
  await assert.rejects(read(VECTOR, at + 301_000), /timestamp is 301 s off/);
  await assert.rejects(read(VECTOR, at - 301_000), { code: 'unauthenticated' });
  await assert.rejects(read(VECTOR.replace('foobar', 'foobaz'), at), { code: 'unauthenticated' });
});

test('an end after the address is good is told by the chat’s own target, and run says where there is none', async () => {
  const { say, service, told, end, clock } = createChat();
  const said = await say('run web-1');
  assert.match(said, /An end later than 25 min from now is told nowhere here: ask for `status`/);
  assert.match(said, /target of kind slack/);
  const [job] = service.jobs.values();
  const until = clock.now() + 25 * 60_000;
  assert.equal(job?.chat?.kind, 'slack');
  assert.equal(Date.parse(job?.chat?.until ?? ''), until);
  // that target tells this one, so the address must not
  await clock.advance(25 * 60_000 + 5_000);
  end({ chat: job?.chat, finished_at: new Date(until + 1_000).toISOString() });
  await clock.advance(30_000);
  assert.deepEqual(told, []);
});

test('with a target and a public address run says only where to look', async () => {
  const { say } = createChat({ tellsChat: true, publicUrl: 'https://xvault.example.com' });
  const said = await say('run web-1');
  assert.match(
    said,
    /^Backing up web-1: job `([0-9a-f-]+)`\. https:\/\/xvault\.example\.com\/jobs\/\1$/,
  );
});

test('without an address for later answers only the target can tell an end', async () => {
  const { say, service, clock } = createChat();
  const said = await say('run web-1', { response_url: 'https://evil.example/x' });
  assert.match(said, /Its end is told nowhere here/);
  const [job] = service.jobs.values();
  assert.equal(Date.parse(job?.chat?.until ?? ''), clock.now());
});

test('run answers at once, and later tells how it ended', async () => {
  const { say, service, told, end, clock } = createChat({ tellsChat: true });
  const said = await say('run web-1');
  assert.match(said, /^Backing up web-1: job `[\w-]{36}`\.$/);
  const [input] = service.calls.get('startBackup') as { triggeredBy: string }[];
  assert.equal(input?.triggeredBy, `hook:slack ${OPERATOR}`);
  assert.equal(told.length, 0);
  end();
  await clock.advance(0);
  assert.equal(told.length, 1);
  assert.equal(told[0]?.url, RESPONSE_URL);
  assert.match(told[0]?.text ?? '', /^web-1 is backed up, .*iB\. Backup `/);
});

test('a backup that failed is told with its reason', async () => {
  const { say, told, end, clock } = createChat();
  await say('run web-1');
  const error = { code: 'pool_refused', detail: 'the pool <said> no' } as never;
  end({ status: 'failed', error });
  await clock.advance(0);
  assert.match(told[0]?.text ?? '', /^The backup of web-1 failed\. the pool &lt;said&gt; no$/);
});

test('a command that takes long is answered within the three seconds, and what it came to follows', async () => {
  const { say, service, told, clock } = createChat();
  const gate = Promise.withResolvers<void>();
  const { startBackup } = service;
  const reached = Promise.withResolvers<void>();
  service.startBackup = async (input, options) => {
    reached.resolve();
    await gate.promise;
    return await startBackup(input, options);
  };
  const answer = say('run web-1');
  await reached.promise;
  await clock.advance(ANSWER_MS);
  assert.equal(await answer, 'Working on it …');
  gate.resolve();
  await clock.advance(0);
  assert.match(told[0]?.text ?? '', /^Backing up web-1: job/);
});

test('later answers go to the chat and to nobody else a form names', async () => {
  const { say, told, end, clock, service } = createChat();
  const others = [
    'https://evil.example/commands/1',
    'http://hooks.slack.com/commands/1',
    'https://hooks.slack.com:8443/commands/1',
    'https://hooks.slack.com@evil.example/commands/1',
    'https://user:pass@hooks.slack.com/commands/1',
    'https://hooks.slack.com.evil.example/',
    'http://169.254.169.254/latest/meta-data',
    'not a url',
  ];
  for (const response_url of others) await say('run web-1', { response_url });
  end();
  await clock.advance(0);
  assert.equal(service.calls.get('startBackup')?.length, others.length);
  assert.equal(told.length, 0);
});

test('status, list and cancel say what is there; names cannot call anybody', async () => {
  const { say, service } = createChat();
  assert.match(await say('status'), /^(ok|warning|critical): /m);
  assert.match(await say('status nobody'), /^No machine nobody\.$/);
  service.backups.set(exampleBackup().id, exampleBackup());
  assert.ok((await say('list web-1')).includes(exampleBackup().id));
  assert.match(await say('status <!channel> @here'), /&lt;!channel&gt; @\u2060here/);
  // Mattermost draws links and pictures of Markdown
  const drawn = await say('status ![ok](https://evil.example/x.png) [ok][1]');
  assert.doesNotMatch(drawn, /\][([]/);
  await say('run web-1');
  const [id = ''] = service.jobs.keys();
  assert.match(await say(`cancel ${id}`), /^Stopping the job of web-1/);
  assert.equal(service.calls.get('cancelJob')?.length, 1);
  assert.match(await say('cancel everything'), /cancel <job>/);
  assert.match(await say('help'), /run <machine>/);
  assert.match(await say('dance'), /I do not know `dance`/);
});

test('who may what is in the settings: people, and machines', async () => {
  const { say, service } = createChat();
  const stranger = { user_id: 'U999' };
  assert.match(await say('status', stranger), /: /);
  assert.match(await say('run web-1', stranger), /You \(U999\) may not `run`/);
  assert.match(await say('cancel x', { user_id: '*' }), /may not `cancel`/);
  assert.match(await say('run web-1', { user_id: '__proto__' }), /may not `run`/);
  assert.doesNotMatch(await say('help', stranger), /run <machine>/);
  assert.match(await say('run db-1'), /^Not done: .*may not name it/);
  assert.equal(service.calls.has('startBackup'), false);
});

test('who may name a machine by its uuid may stop its job, too, and one without a name is told by it', async () => {
  const { uuid } = exampleBackup().vm;
  const { say, service } = createChat({ vms: [uuid] });
  await say(`run ${uuid}`);
  const [id = ''] = service.jobs.keys();
  service.change(id, { vm: { ...exampleBackup().vm, name: '' } });
  assert.match(await say(`cancel ${id}`), new RegExp(`^Stopping the job of ${uuid};`));
  assert.equal(service.calls.get('cancelJob')?.length, 1);
});

test('machines of one name are told apart by their uuids', async () => {
  const { say, service } = createChat();
  const [row] = STATUS_EXAMPLE.vms;
  const twins = ['6a3c2d6e-8a61-4a0e-9d4f-3f8f4f6f0a11', '7b3c2d6e-8a61-4a0e-9d4f-3f8f4f6f0a12'];
  const candidates = twins.map((uuid) => ({ uuid, name: 'twin', pool: 'dc1', power_state: 'On' }));
  const error = new BackupError('vm_ambiguous', 'find machine twin: 2', {
    details: { candidates },
  });
  service.failures.set('startBackup', error);
  const lines = twins.map((uuid) => `\n\`${uuid}\` (dc1)`).join('');
  assert.ok((await say('run web-1')).endsWith(`one of the listed uuids.${lines}`));
  const vms = twins.map((uuid) => ({ ...row, vm: { uuid, name: 'twin', pool: 'dc1' } }) as never);
  service.status = async () => ({ ...STATUS_EXAMPLE, vms });
  for (const uuid of twins) assert.ok((await say('status')).includes(`twin (\`${uuid}\`)`));
});

test('a refusal is told with its mend, and a bug without its words', async () => {
  const { say, service, send } = createChat();
  service.failures.set('startBackup', new BackupError('not_found', 'find vm, vm=web-9'));
  assert.match(await say('run web-9'), /^Not done: find vm, vm=web-9\. Check the name or id/);
  service.failures.set('startBackup', new Error('password=hunter2') as BackupError);
  const answer = await send({ user_id: OPERATOR, text: 'run web-1' });
  assert.equal(answer.status, 500);
  assert.equal((await answer.text()).includes('hunter2'), false);
});

test('a check of the address does nothing, whatever else it holds', async () => {
  const { request, service, store } = createChat();
  const body = new URLSearchParams({ ssl_check: '1', text: 'run web-1', user_id: OPERATOR });
  const answer = await request('POST', '/hooks/slack', { headers: FORM, body: body.toString() });
  assert.equal(answer.status, 200);
  assert.equal(service.calls.size, 0);
  assert.equal(store.objects.size, 0);
});

test('what is not surely of the chat does nothing; a copy of a command is no second one', async () => {
  const { send, request, service, clock } = createChat();
  const wrong = await send({ text: 'run web-1' }, { 'x-slack-signature': `v0=${'0'.repeat(64)}` });
  assert.equal(wrong.status, 401);
  assert.equal((await send({ text: 'run web-1' }, { 'x-slack-signature': '' })).status, 401);
  const stale = await send({ text: 'run web-1' }, { 'x-slack-request-timestamp': VECTOR_AT });
  assert.equal(stale.status, 401);
  assert.equal(service.calls.size, 0);
  const body = new URLSearchParams({ user_id: OPERATOR, text: 'run web-1' }).toString();
  const at = String(Math.floor(clock.now() / 1000));
  const hex = createHmac('sha256', SECRET).update(`v0:${at}:${body}`).digest('hex');
  const signed = { 'x-slack-request-timestamp': at, 'x-slack-signature': `v0=${hex}` };
  for (const replayed of [null, 'true']) {
    const answer = await request('POST', '/hooks/slack', { body, headers: { ...FORM, ...signed } });
    assert.equal(answer.headers.get('idempotency-replayed'), replayed);
  }
  assert.equal(service.calls.get('startBackup')?.length, 1);
});

test('Mattermost comes with its token, and is answered at its own address', async () => {
  const { request, service, told, end, clock } = createChat();
  const response_url = 'https://chat.example.com/hooks/commands/abc';
  const body = new URLSearchParams({
    user_id: OPERATOR,
    text: 'run web-1',
    response_url,
  }).toString();
  const send = (authorization: string) =>
    request('POST', '/hooks/mattermost', { body, headers: { ...FORM, authorization } });
  for (const wrong of [
    '',
    'Token',
    `Bearer ${TOKEN}`,
    `Token ${TOKEN}x`,
    `Token ${TOKEN.slice(1)}`,
  ]) {
    assert.equal((await send(wrong)).status, 401, wrong);
  }
  assert.equal(service.calls.size, 0);
  assert.equal((await send(`Token ${TOKEN}`)).status, 200);
  end();
  await clock.advance(0);
  assert.equal(told[0]?.url, response_url);
});
