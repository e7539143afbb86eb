import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { PoolFacts, PowerState } from '../ports.ts';
import { planQuiesce } from './quiesce.ts';

function plan(wish: 'never' | 'prefer' | 'require', powerState: PowerState, able: boolean) {
  const features = { quiesce: able } as PoolFacts['features'];
  return planQuiesce({ quiesce: wish }, { vm: { powerState }, pool: { features } });
}

test('never asks for nothing, whatever the pool can', () => {
  for (const able of [true, false]) {
    assert.deepEqual(plan('never', 'Running', able), { quiesce: false, warnings: [] });
  }
});

test('a running machine on a pool that can is quiesced', () => {
  assert.deepEqual(plan('prefer', 'Running', true), { quiesce: true, warnings: [] });
  assert.deepEqual(plan('require', 'Running', true), { quiesce: true, warnings: [] });
});

test('a machine that is shut down is at rest already', () => {
  assert.deepEqual(plan('require', 'Halted', true), { quiesce: false, warnings: [] });
});

test('where it cannot be, prefer warns and require fails', () => {
  assert.match(plan('prefer', 'Running', false).warnings.join(), /removed in CH 8\.1/);
  assert.throws(() => plan('require', 'Running', false), { code: 'vm_not_supported' });
  for (const state of ['Suspended', 'Paused'] as const) {
    assert.match(plan('prefer', state, true).warnings.join(), /cannot be asked/);
    assert.throws(() => plan('require', state, true), { code: 'quiesce_failed' });
  }
});
