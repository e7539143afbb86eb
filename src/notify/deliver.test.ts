/** What programs and monitors are given. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Webhook } from 'standardwebhooks';
import {
  failedNotice,
  goodNotice,
  SECRET,
  setUp,
  URL_TOKEN,
} from '../../test/notify/notifier-world.ts';
import { startWebReceiver } from '../../test/notify/receiver.ts';
import { nextId, VM_UUID } from '../../test/records.ts';
import { createSecret } from '../secret.ts';

const OLD_SECRET = `whsec_${Buffer.alloc(24, 7).toString('base64')}`;

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
