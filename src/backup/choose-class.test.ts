/** `retention: auto` from the request to the key in the bucket. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setUp } from '../../test/backup/engine-world.ts';
import { BackupError } from '../errors.ts';

const classes = { retentionClasses: ['daily', 'monthly'] };

test('by the calendar the first good backup of a month is monthly, those after it are daily', async () => {
  const world = setUp(classes);
  const service = world.instance('a');
  const taken: string[] = [];
  for (let night = 0; night < 2; night++) {
    const { id } = await world.start(service, { retention: 'auto' });
    const { status, request, result, error } = await world.ended(id);
    assert.equal(status, 'succeeded', error?.detail);
    assert.equal(request.retention, result?.retention);
    assert.match(result?.archive.key ?? '', new RegExp(`/backups/${result?.retention}/`));
    assert.match(
      result?.retention_reason ?? '',
      night === 0 ? /^the first of \d{4}-\d\d$/ : /no longer class/,
    );
    taken.push(result?.retention ?? '');
  }
  assert.deepEqual(taken, ['monthly', 'daily']);
  await service.drain({ drainMs: 0 });
});

test('a backup that fails stands for nothing, and its job keeps its class when it is tried again', async () => {
  const world = setUp({ ...classes, retry: { attempts: 2, firstPauseMs: 1000 } });
  const service = world.instance('a');
  let failures = 0;
  world.store.onCall = (operation, key) => {
    if (operation === 'complete' && key.endsWith('.xva') && failures++ < 2) {
      throw new BackupError('store_unavailable', 'reach the bucket');
    }
  };
  const first = await world.start(service, { retention: 'auto' });
  const failed = await world.ended(first.id);
  assert.deepEqual([failed.status, failed.attempt], ['failed', 2]);
  assert.equal(failed.request.retention, 'monthly');
  const second = await world.start(service, { retention: 'auto' });
  const { status, result } = await world.ended(second.id);
  assert.equal(status, 'succeeded');
  assert.equal(result?.retention, 'monthly');
  await service.drain({ drainMs: 0 });
});

test('auto without any class of the calendar, and a class called auto, are refused', async () => {
  const world = setUp({ retentionClasses: ['own'] });
  const service = world.instance('a');
  const refused = { code: 'invalid_request', message: /auto needs one of yearly, monthly/ };
  await assert.rejects(world.start(service, { retention: 'auto' }), refused);
  await service.drain({ drainMs: 0 });
});
