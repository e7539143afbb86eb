import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createSimClock } from '../../test/sim/clock.ts';
import { isBackupError } from '../errors.ts';
import { ANSWER_MS } from '../http/follow-ups.ts';
import { SILENT_LOG } from '../log.ts';
import { createEngineCall } from './engine-call.ts';

const WANTED = { method: 'startBackup', input: { vm: 'web', request: {} } };

function createCall(answer: () => Promise<Response>) {
  const clock = createSimClock();
  const names: unknown[] = [];
  const kept: Promise<unknown>[] = [];
  const engines = {
    idFromName: (name: string) => name,
    get: (id: unknown) => {
      names.push(id);
      return { fetch: answer };
    },
  };
  const waitUntil = (work: Promise<unknown>) => void kept.push(work);
  const call = createEngineCall({ engines, clock, log: SILENT_LOG, waitUntil });
  const ask = (path: string, method = 'POST') =>
    call({
      wanted: WANTED,
      request: new Request(`https://x.example${path}`, { method }),
      path,
      identity: undefined,
    });
  return { ask, clock, names, kept };
}

test('what changes something goes on when its caller has left, what is read does not', async () => {
  const { ask, names, kept } = createCall(async () => new Response('ok'));
  assert.equal(await (await ask('/v1/vms/web/backups')).text(), 'ok');
  assert.equal(kept.length, 1);
  await ask('/v1/vms', 'GET');
  assert.equal(kept.length, 1);
  assert.deepEqual(names, ['vm:/web', 'vm:/web']);
});

test('an engine that cannot be reached is an error that may pass', async () => {
  const { ask, kept } = createCall(() => Promise.reject(new Error('Network connection lost.')));
  await assert.rejects(
    ask('/v1/runs'),
    (error) => isBackupError(error, 'engine_unavailable') && error.retry === 'later',
  );
  await Promise.all(kept);
});

test('a chat that would wait too long hears that, and its command is done all the same', async () => {
  const late = Promise.withResolvers<Response>();
  const { ask, clock, kept } = createCall(() => late.promise);
  const answer = ask('/hooks/slack');
  await clock.advance(ANSWER_MS);
  assert.match(await (await answer).text(), /being started/);
  assert.equal(kept.length, 1);
  late.resolve(new Response('done'));
  assert.equal(await ((await kept[0]) as Response).text(), 'done');
  const inTime = createCall(async () => Response.json({ text: 'Backing up web.' }));
  assert.match(await (await inTime.ask('/hooks/slack')).text(), /Backing up/);
});
