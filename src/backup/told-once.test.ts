import assert from 'node:assert/strict';
import { test } from 'node:test';
import { keys, options } from '../../test/backup/engine-world.ts';
import { createSimClock } from '../../test/sim/clock.ts';
import { createMemoryStore } from '../../test/sim/memory-store.ts';
import { BackupError } from '../errors.ts';
import type { ObjectStore } from '../ports.ts';
import { createNewsClaims } from './told-once.ts';

for (const failing of ['facts', 'put'] as const) {
  test(`a claim that fails at ${failing} may be made again, and then once`, async () => {
    const clock = createSimClock();
    const store = createMemoryStore(clock);
    const fail = () => Promise.reject(new BackupError('store_unavailable', 'reach the bucket'));
    let away = true;
    const stateStore: ObjectStore = {
      ...store,
      facts: (to) => (away && failing === 'facts' ? fail() : store.facts(to)),
      put: (...args) => (away && failing === 'put' ? fail() : store.put(...args)),
    };
    const claim = createNewsClaims({ stateStore, keys, clock });
    await assert.rejects(claim('news', options), { code: 'store_unavailable' });
    away = false;
    assert.equal(await claim('news', options), true);
    assert.equal(await claim('news', options), false);
    const other = createNewsClaims({ stateStore, keys, clock });
    assert.equal(await other('news', options), false);
    await clock.advance(24 * 3_600_000);
    assert.equal(await other('news', options), true);
  });
}
