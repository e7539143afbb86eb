import assert from 'node:assert/strict';
import { test } from 'node:test';
import { sampleJob } from '../../test/records.ts';
import { createSimClock } from '../../test/sim/clock.ts';
import { backupRequestSchema } from '../catalog/record.ts';
import type { StoreFacts } from '../ports.ts';
import { NEVER } from '../signals.ts';
import type { Engine, StepContext } from './context.ts';
import { checkMode, chooseMode } from './delta-mode.ts';

function choose(mode: 'auto' | 'full' | 'delta', copyParts: boolean) {
  const engine = {
    store: { facts: async () => ({ copyParts, provider: 'gcs' }) as StoreFacts },
    catalog: { entries: async () => [] },
    clock: createSimClock(),
  } as unknown as Engine;
  const job = sampleJob({ request: backupRequestSchema.parse({ mode }) });
  return chooseMode(job, { engine, signal: NEVER } as unknown as StepContext);
}

test('delta is refused by name where the store cannot copy parts', async () => {
  const refusal = { code: 'invalid_request', message: /the store \(gcs\) cannot copy parts/ };
  await assert.rejects(choose('delta', false), refusal);
  const request = backupRequestSchema.parse({ mode: 'delta' });
  assert.throws(() => checkMode(request, { copyParts: false, provider: 'gcs' }), refusal);
  checkMode(request, { copyParts: true, provider: 'aws' });
});

test('where parts cannot be copied, auto is full and disks lie as they come', async () => {
  assert.deepEqual(await choose('auto', false), {
    mode: 'full',
    order: 'arrival',
    reason: 'the store cannot copy parts of objects',
  });
});

test('without a backup to copy from, auto and delta are full, and say so', async () => {
  for (const mode of ['auto', 'delta'] as const) {
    assert.deepEqual(await choose(mode, true), {
      mode: 'full',
      order: 'device',
      reason: 'no backup of this machine yet',
    });
  }
});

test('full that was asked for looks for no base, and can be one', async () => {
  const { reason, order } = await choose('full', true);
  assert.deepEqual([reason, order], ['full was asked for', 'device']);
});
