import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { createTestTerminal } from '../../test/commands/terminal.ts';
import { startWebReceiver } from '../../test/notify/receiver.ts';
import { runCli } from './cli.ts';

/** The command with these targets in the settings. */
async function notify(t: TestContext, targets: object[], ...args: string[]) {
  const folder = mkdtempSync(join(tmpdir(), 'xvault-notify-'));
  t.after(() => rmSync(folder, { recursive: true }));
  const path = join(folder, 'notify.json');
  writeFileSync(path, JSON.stringify(targets));
  const before = process.env.XVAULT_NOTIFY_FILE;
  process.env.XVAULT_NOTIFY_FILE = path;
  t.after(() => {
    if (before === undefined) delete process.env.XVAULT_NOTIFY_FILE;
    else process.env.XVAULT_NOTIFY_FILE = before;
  });
  const terminal = createTestTerminal();
  const { signal } = new AbortController();
  const code = await runCli({ args: ['notify', ...args], terminal, signal, version: '0' });
  return { code, folder, ...terminal.text };
}

const OPS = { name: 'ops', kind: 'slack', url: 'https://hooks.example.com/T0KEN' };

test('the targets are listed with what they want to hear, without their addresses', async (t) => {
  const hub = { ...OPS, name: 'hub', kind: 'cloudevents', vms: ['web'] };
  const { code, out } = await notify(t, [OPS, hub]);
  assert.equal(code, 0);
  assert.match(
    out,
    /^ops +slack +all +backup\.failed, restore\.failed, verify\.failed, run\.fini/m,
  );
  assert.match(out, /^hub +cloudevents +1 +all$/m);
  assert.doesNotMatch(out, /T0KEN/);
});

test('a test sends one example, and says what a refusal said', async (t) => {
  await using receiver = await startWebReceiver();
  const folder = mkdtempSync(join(tmpdir(), 'xvault-notify-'));
  t.after(() => rmSync(folder, { recursive: true }));
  const ca_file = join(folder, 'ca.pem');
  writeFileSync(ca_file, receiver.caPem);
  const check = { name: 'check', kind: 'healthchecks', url: `${receiver.origin}/ping/x`, ca_file };
  const chat = { ...OPS, url: `${receiver.origin}/chat`, ca_file };
  const sent = await notify(t, [check], 'test', 'check', '--json');
  assert.deepEqual([sent.code, sent.err], [0, '']);
  assert.deepEqual(JSON.parse(sent.out), { target: 'check', kind: 'healthchecks', ok: true });
  assert.match(receiver.posts[0]?.path ?? '', /^\/ping\/x\/log\?rid=/, 'no check looks well by it');
  await notify(t, [chat], 'test', 'ops');
  assert.match(receiver.posts[1]?.body ?? '', /This is a test of xvault/);
  receiver.answer = () => ({ status: 503, body: 'invalid_token' });
  const refused = await notify(t, [chat], 'test', 'ops');
  assert.equal(refused.code, 1);
  assert.match(refused.err, /notify ops \(slack\): answered 503 "invalid_token"/);
  assert.equal(receiver.posts.length, 3, 'one try');
});

test('a target that is not there is told with those that are', async (t) => {
  const { code, err } = await notify(t, [OPS], 'test', 'boss');
  assert.equal(code, 10);
  assert.match(err, /find target boss: XVAULT_NOTIFY_FILE names ops/);
  assert.equal((await notify(t, [OPS], 'tset', 'ops')).code, 2);
});
