/** What the doctor says of a bucket's rules. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createMemoryStore } from '../../test/sim/memory-store.ts';
import { ALL_RULES } from '../bucket-rule.ts';
import { createKeys } from '../catalog/keys.ts';
import { wantedRules } from '../catalog/rotation.ts';
import { systemClock } from '../clock.ts';
import { BackupError } from '../errors.ts';
import type { LifecycleRule, ObjectStore, StoreFacts } from '../ports.ts';
import { DEFAULT_ROTATION } from '../settings-rotation.ts';
import { NEVER } from '../signals.ts';
import type { Finding, Report } from './doctor-checks.ts';
import { checkRules } from './doctor-rules.ts';

const wish = { retentionDays: { daily: 14 }, rotation: DEFAULT_ROTATION };
const keys = createKeys('xv/');
const holds = { archives: true, state: true };
const RIGHT = wantedRules({ keys, ...wish, holds, versioned: false }, ALL_RULES).rules;

async function findings(
  rules: LifecycleRule[] | undefined,
  over: { store?: Partial<ObjectStore>; facts?: Partial<StoreFacts> } = {},
): Promise<string[]> {
  const memory = createMemoryStore(systemClock);
  if (rules !== undefined) memory.rules = rules;
  const store = { ...memory, lifecycle: memory.lifecycle, ...over.store };
  const facts = { ...(await memory.facts({ signal: NEVER })), ...over.facts };
  const found: Finding[] = [];
  const report: Report = (finding) => void found.push({ about: 'bucket', ...finding });
  await checkRules({ store, prefix: 'xv/', ...holds, facts, wish }, report, { signal: NEVER });
  return found.map(({ state, text }) => `${state}: ${text}`);
}

test('rules that are as the settings wish are fine; what is missing is named', async () => {
  assert.deepEqual(await findings(RIGHT), [`ok: ${RIGHT.length} rules, as the settings wish`]);
  const [missing, ...more] = await findings(RIGHT.slice(1));
  assert.match(
    missing ?? '',
    /^warn: .*"keys below xv\/backups\/daily\/ are deleted after 14 days"$/,
  );
  assert.deepEqual(more, []);
  const all: LifecycleRule = {
    id: 'all',
    enabled: true,
    prefix: '',
    narrowed: false,
    expirationDays: 3,
  };
  assert.match(
    (await findings([...RIGHT, all])).join('\n'),
    /warn: rule all, .*pinned backups, too/,
  );
});

test('a store without rules, one whose rules are others, and a missing right are told apart', async () => {
  const none = { lifecycle: async () => undefined };
  assert.deepEqual(await findings(undefined, { store: none }), [
    'warn: this store has no lifecycle rules',
  ]);
  const facts = { lifecycle: { ...ALL_RULES, expires: false, note: 'use gcloud' } };
  assert.deepEqual(await findings([], { facts }), ['warn: use gcloud']);
  const forbidden = {
    lifecycle: async () => {
      throw new BackupError('store_credentials', 'get the right');
    },
  };
  assert.deepEqual(await findings([], { store: forbidden }), [
    'unknown: the rules cannot be read: get the right',
  ]);
});
