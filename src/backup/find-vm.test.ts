import assert from 'node:assert/strict';
import { test } from 'node:test';
import { options, setUp } from '../../test/backup/engine-world.ts';
import { backupRequestSchema } from '../catalog/record.ts';

const request = backupRequestSchema.parse({});

test('a name that is empty is a mistake, not the machine that has none', async () => {
  const world = setUp();
  const start = (vm: string) =>
    world.instance('a').startBackup({ vm, request, triggeredBy: 'test' }, options);
  await assert.rejects(start(''), { code: 'invalid_request', message: /empty.*uuid/ });
  await assert.rejects(start('nobody'), { code: 'not_found' });
});
