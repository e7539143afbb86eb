/** What chats are given: shapes, limits, and nothing that a name could steer. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  failedNotice,
  goodNotice,
  HOSTILE,
  runNotice,
  SECRET,
  setUp,
} from '../../test/notify/notifier-world.ts';
import { startWebReceiver } from '../../test/notify/receiver.ts';
import { SHAPES, stringsOf } from '../../test/notify-shapes.ts';
import { createSecret } from '../secret.ts';

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
