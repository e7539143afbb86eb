import assert from 'node:assert/strict';
import { test } from 'node:test';
import { sampleBackup } from '../../test/records.ts';
import { createSimClock } from '../../test/sim/clock.ts';
import { createMemoryStore } from '../../test/sim/memory-store.ts';
import { BackupError, type ErrorCode } from '../errors.ts';
import type { LifecycleRule } from '../ports.ts';
import { NEVER } from '../signals.ts';
import { parseTime } from '../time.ts';
import { readExpiry } from './expiry.ts';

const DAY_MS = 86_400_000;
const key = 'xv/backups/daily/dc1/u/b/web.xva';
const { archive, created_at: createdAt } = sampleBackup();
const backup = sampleBackup({ archive: { ...archive, key } });
const lastModified = parseTime(createdAt) + 3_600_000;
const rule: LifecycleRule = { id: 'r', enabled: true, prefix: 'xv/', narrowed: false };

async function lasts(
  answer: readonly LifecycleRule[] | undefined | ErrorCode,
  retentionDays: Record<string, number> = { daily: 14 },
): Promise<number> {
  const lifecycle = async () => {
    if (typeof answer === 'string') throw new BackupError(answer, 'read rules');
    return answer && [...answer];
  };
  const store = { ...createMemoryStore(createSimClock()), lifecycle };
  return (await readExpiry(store, retentionDays, { signal: NEVER }))(backup, { lastModified });
}

test('the first rule that meets the archive counts, from when it was stored', async () => {
  const rules = [
    { ...rule, expirationDays: 30 },
    { ...rule, expirationDays: 20 },
  ];
  assert.equal(await lasts(rules), lastModified + 20 * DAY_MS);
});

test('rules that are off, of other keys, or remove only uploads, end nothing', async () => {
  const rules = [
    { ...rule, enabled: false, expirationDays: 1 },
    { ...rule, prefix: 'xv/backups/weekly/', expirationDays: 1 },
    { ...rule, abortDays: 1 },
  ];
  assert.equal(await lasts(rules), Infinity);
  assert.equal(await lasts([]), Infinity);
});

test('a rule narrowed by tags or sizes may meet the archive, so it counts', async () => {
  const days = await lasts([{ ...rule, narrowed: true, expirationDays: 5 }]);
  assert.equal(days, lastModified + 5 * DAY_MS);
});

test('where rules cannot be read, the settings count; a class they do not know lasts', async () => {
  for (const answer of [undefined, 'store_refused', 'store_credentials'] as const) {
    assert.equal(await lasts(answer), parseTime(createdAt) + 14 * DAY_MS);
    assert.equal(await lasts(answer, {}), Infinity);
  }
});

test('a store that is away is not one without rules', async () => {
  await assert.rejects(lasts('store_unavailable'), { code: 'store_unavailable' });
});
