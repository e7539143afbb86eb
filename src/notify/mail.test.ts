import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  failedNotice,
  goodNotice,
  HOSTILE,
  runNotice,
  setUp,
} from '../../test/notify/notifier-world.ts';
import { startMailReceiver } from '../../test/notify/receiver.ts';
import { createSecret } from '../secret.ts';
import { NEVER } from '../signals.ts';

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
