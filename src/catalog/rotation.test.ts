/** The rules a bucket should have, and how they are brought among those it has. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createRandom } from '../../test/crash/random.ts';
import { ALL_RULES, type LifecycleLimits, type LifecycleRule } from '../bucket-rule.ts';
import { createKeys } from './keys.ts';
import { planRotation, type RotationWish } from './rotation.ts';

const keys = createKeys('xv/');
const WISH: RotationWish = {
  keys,
  retentionDays: { daily: 14, monthly: 400 },
  rotation: { transitions: {}, noncurrentDays: 7 },
  holds: { archives: true, state: true },
  versioned: false,
};

function plan(
  found: LifecycleRule[],
  over: Partial<RotationWish> = {},
  more: { limits?: Partial<LifecycleLimits>; classesInUse?: string[] } = {},
) {
  const limits = { ...ALL_RULES, ...more.limits };
  const classesInUse = more.classesInUse ?? ['daily'];
  return planRotation({ found, wish: { ...WISH, ...over }, limits, classesInUse });
}

const rule = (id: string, prefix: string, more: Partial<LifecycleRule>): LifecycleRule => ({
  id,
  enabled: true,
  prefix,
  narrowed: false,
  ...more,
});
const actions = ({ changes }: ReturnType<typeof plan>) => [
  ...new Set(changes.map(({ action }) => action)),
];

test('an empty bucket gets a rule for each class, for what is left over, and for the small things', () => {
  const { changes, rules, refusals, warnings } = plan([]);
  assert.deepEqual(
    changes.map(({ action, text }) => `${action}: ${text}`),
    [
      'add: keys below xv/backups/daily/ are deleted after 14 days',
      'add: keys below xv/backups/monthly/ are deleted after 400 days',
      'add: keys below xv/backups/ lose unfinished uploads after 7 days',
      'add: keys below xv/pinned/ lose unfinished uploads after 7 days',
      'add: keys below xv/staging/ are deleted after 7 days, lose unfinished uploads after 7 days',
      'add: keys below xv/indexes/ are deleted after 400 days',
      'add: keys below xv/verified/ are deleted after 400 days',
      'add: keys below xv/jobs/ are deleted after 30 days',
      'add: keys below xv/runs/ are deleted after 30 days',
      'add: keys below xv/idempotency/ are deleted after 3 days',
      'add: keys below xv/probe/ are deleted after 1 day, lose unfinished uploads after 1 day',
    ],
  );
  assert.deepEqual([refusals, warnings], [[], []]);
  assert.ok(rules.every(({ id }) => id.startsWith('xvault:xv/')));
  assert.ok(!rules.some(({ prefix, expirationDays }) => prefix === 'xv/pinned/' && expirationDays));
});

test('what was written is what is wanted: a second time nothing is to be done', () => {
  for (const over of [{}, { versioned: true }, { holds: { archives: false, state: true } }]) {
    const { rules } = plan([], over);
    const again = plan(rules, over);
    assert.deepEqual(actions(again), ['keep']);
    assert.deepEqual(again.rules, rules);
  }
});

test('rules of others stay as they are, the very objects, and do what one of ours would', () => {
  const logs = rule('logs', 'logs/', { expirationDays: 3 });
  const daily = rule('daily', 'xv/backups/daily/', { expirationDays: 14 });
  const all = rule('unfinished', '', { abortDays: 2 });
  const other = rule('xvault:other/class-daily', 'other/backups/daily/', { expirationDays: 1 });
  const { rules, changes } = plan([logs, daily, all, other]);
  for (const kept of [logs, daily, all, other]) assert.ok(rules.includes(kept));
  const by = changes.filter((change) => change.by !== undefined);
  assert.deepEqual(
    by.map(({ action, by: whose }) => `${action} ${whose}`),
    ['keep daily', 'keep unfinished', 'keep unfinished'],
  );
  assert.equal(rules.filter(({ prefix }) => prefix === 'xv/backups/daily/').length, 1);
});

test('a rule of ours that is not as the settings wish is replaced in its place', () => {
  const { rules: first } = plan([]);
  const { rules, changes } = plan(first, { retentionDays: { daily: 30, monthly: 400 } });
  const [replaced, ...more] = changes.filter(({ action }) => action === 'replace');
  assert.deepEqual(more, []);
  assert.equal(replaced?.found, 'keys below xv/backups/daily/ are deleted after 14 days');
  assert.equal(replaced?.text, 'keys below xv/backups/daily/ are deleted after 30 days');
  assert.equal(rules[0]?.expirationDays, 30);
  assert.equal(rules.length, first.length);
  const off = first.map((one, i) => (i === 0 ? { ...one, enabled: false } : one));
  assert.deepEqual(actions(plan(off)), ['replace', 'keep']);
});

test('the rule of a class that is no more in the settings stays as long as there are backups of it', () => {
  const { rules: first } = plan([]);
  const now = { retentionDays: { monthly: 400 } };
  const still = plan(first, now, { classesInUse: ['daily'] });
  assert.ok(still.rules.some(({ prefix }) => prefix === 'xv/backups/daily/'));
  assert.match(
    still.warnings.join(),
    /class daily, which is not in XVAULT_RETENTION_DAYS: rule .* stays/,
  );
  const gone = plan(first, now, { classesInUse: ['monthly'] });
  assert.deepEqual(
    gone.changes.filter(({ action }) => action === 'remove').map(({ id }) => id),
    ['xvault:xv/class-daily'],
  );
  const never = plan([], {}, { classesInUse: ['own'] });
  assert.match(never.warnings.join(), /class own.*no rule ever removes them/);
});

test('versions, storage classes and unfinished uploads only where the rules of the store know them', () => {
  const transitions = { monthly: { days: 30, storage_class: 'STANDARD_IA' } };
  const over = { versioned: true, rotation: { transitions, noncurrentDays: 9 } };
  const full = plan([], over);
  const texts = full.changes.map(({ text }) => text).join('\n');
  assert.match(texts, /monthly\/ are deleted after 400 days, go to STANDARD_IA after 30 days/);
  assert.match(texts, /keys below xv\/pinned\/ lose old versions after 9 days/);
  assert.ok(
    full.rules.some(({ prefix, expiredMarkers }) => prefix === 'xv/leases/' && expiredMarkers),
  );
  const poor = plan([], over, {
    limits: { noncurrent: false, transitions: false, aborts: 'itself' },
  });
  assert.ok(poor.rules.every((one) => !one.transitions && !one.abortDays && !one.noncurrentDays));
  assert.match(poor.warnings.join('\n'), /move no objects[\s\S]*no rule that removes them/);
  const late = {
    rotation: { transitions: { daily: { days: 14, storage_class: 'X' } }, noncurrentDays: 1 },
  };
  assert.match(plan([], late).warnings.join(), /removed after 14 days, before it would go to X/);
});

test('others that delete pinned backups, or sooner than the settings say, are told', () => {
  const all = rule('everything', '', { expirationDays: 300 });
  const { warnings } = plan([all]);
  assert.match(warnings.join('\n'), /rule everything, .*that deletes pinned backups, too/);
  assert.match(warnings.join('\n'), /rule everything, .*class monthly is to stay 400 days/);
  assert.doesNotMatch(warnings.join('\n'), /class daily/);
  const dated = rule('end', 'xv/backups/', { expirationDate: 1, narrowed: true });
  assert.match(plan([dated]).warnings.join(), /of some tags or sizes.*class daily is to stay/);
  assert.deepEqual(plan([{ ...all, enabled: false }]).warnings, []);
});

test('what would lose something, or does not fit, is refused, unless nothing is to be done', () => {
  const odd = rule('odd', 'a/', { expirationDays: 1, unknown: ['DelMarkerExpiration'] });
  assert.match(plan([odd]).refusals.join(), /rule odd has elements .*DelMarkerExpiration/);
  const few = plan([], {}, { limits: { maxRules: 5 } });
  assert.match(few.refusals.join(), /11 rules would be needed and this store takes 5/);
  const other = plan([], {}, { limits: { expires: false, note: 'use gcloud' } });
  assert.deepEqual(other.refusals, ['use gcloud']);
  const { rules } = plan([]);
  assert.deepEqual(plan([...rules, odd]).refusals, []);
});

test('whatever rules others have: theirs stay the very objects, ours are there once, delete nothing pinned, and a second time nothing is to be done', () => {
  const prefixes = ['', 'xv/', 'xv/backups/', 'xv/backups/daily/', 'xv/pinned/', 'xv/jobs/', 'z/'];
  for (let seed = 1; seed <= 300; seed++) {
    const draws = createRandom(seed);
    const maybe = <T>(value: T) => (draws.between(0, 1) === 1 ? value : undefined);
    const others = Array.from({ length: draws.between(0, 6) }, (_, i): LifecycleRule => {
      const days = { expirationDays: maybe(draws.pick([1, 14, 30, 400])), abortDays: maybe(7) };
      const there = Object.entries(days).filter(([, value]) => value !== undefined);
      return {
        ...rule(`other-${i}`, draws.pick(prefixes), Object.fromEntries(there)),
        enabled: draws.between(0, 4) > 0,
        narrowed: draws.between(0, 4) === 0,
      };
    });
    const over = { versioned: draws.between(0, 1) === 1 };
    const before = { retentionDays: { daily: draws.pick([7, 14]), old: 3 } };
    const first = plan(others, { ...over, ...before });
    const { rules } = plan(first.rules, over);
    const what = `seed=${seed}`;
    assert.deepEqual(
      rules.filter(({ id }) => !id.startsWith('xvault:')),
      others,
      what,
    );
    for (const other of others) assert.ok(rules.includes(other), what);
    assert.equal(new Set(rules.map(({ id }) => id)).size, rules.length, what);
    for (const own of rules.filter(({ id }) => id.startsWith('xvault:'))) {
      assert.ok(own.prefix.startsWith('xv/') && own.prefix !== 'xv/', what);
      assert.ok(own.expirationDays === undefined || own.prefix !== 'xv/pinned/', what);
    }
    // a class without backups is gone with its rule
    assert.ok(!rules.some(({ prefix }) => prefix === 'xv/backups/old/'), what);
    const again = plan(rules, over);
    assert.deepEqual([actions(again), again.rules], [['keep'], rules], what);
    const covers = (days: number, prefix: string) =>
      rules.some((one) => one.enabled && one.prefix === prefix && one.expirationDays === days);
    assert.ok(covers(14, 'xv/backups/daily/') && covers(400, 'xv/backups/monthly/'), what);
  }
});
