/** The order of a run, which machine comes next, and which disks stay out. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { deadlineAt, endOf, type RunMachine, runMachineSchema } from '../catalog/run.ts';
import type { DiskFacts, SrRef, VdiRef } from '../ports.ts';
import type { QueuePlace } from '../queue-port.ts';
import { lookAtDisks, machineKey, nextMachine, orderMachines } from './runs-plan.ts';

const HOUR_MS = 3_600_000;
const NOW_MS = 1_800_000_000_000;
const GIB = 1_073_741_824;

function machine(name: string, over: Partial<RunMachine> = {}): RunMachine {
  const vm = { uuid: `uuid-of-${name}`, name, pool: 'dc1' };
  return { ...runMachineSchema.parse({ vm, status: 'waiting' }), ...over };
}

const named = (machines: readonly RunMachine[]) => machines.map(({ vm }) => vm.name);
const srs = (...names: string[]) => names.map((name) => ({ uuid: name, name }));

test('first what has no backup, then by days since the last one, of one day the largest, then by name', () => {
  const hoursAgo: Record<string, number> = { fresh: 2, big: 30, small: 26, other: 40, old: 75 };
  const all = [
    machine('fresh', { virtual_size_bytes: 900 * GIB }),
    machine('small', { virtual_size_bytes: 1 * GIB }),
    machine('unknown-size'),
    machine('other', { virtual_size_bytes: 1 * GIB }),
    machine('big', { virtual_size_bytes: 500 * GIB }),
    machine('old', { virtual_size_bytes: 2 * GIB }),
    machine('never', { virtual_size_bytes: 1 * GIB }),
  ];
  const lastGoodMs = new Map(
    Object.entries(hoursAgo).map(([name, hours]) => [
      machineKey(machine(name)),
      NOW_MS - hours * HOUR_MS,
    ]),
  );
  assert.deepEqual(named(orderMachines(all, { lastGoodMs, nowMs: NOW_MS })), [
    'never',
    'unknown-size',
    'old',
    'big',
    'other',
    'small',
    'fresh',
  ]);
});

test('the next one is the first that could run now: a busy storage or a pause lets those behind it pass', () => {
  const all = [
    machine('done', { status: 'succeeded' }),
    machine('at-it', { status: 'running' }),
    machine('busy', { srs: srs('a') }),
    machine('pausing', { srs: srs('b') }),
    machine('free', { srs: srs('b') }),
  ];
  const may = {
    reason: (place: QueuePlace) => (place.srs[0]?.uuid === 'a' ? 'busy' : undefined),
    isPausing: ({ vm }: RunMachine) => vm.name === 'pausing',
    isDue: () => false,
  };
  assert.equal(nextMachine(all, may)?.machine.vm.name, 'free');
  assert.equal(nextMachine(all.slice(0, 4), may), undefined);
});

test('one that needs several storages is passed on them, until it is due; then they are kept free, in its pool', () => {
  const all = [
    machine('both', { srs: srs('a', 'b') }),
    machine('b-only', { srs: srs('b') }),
    machine('elsewhere', { srs: srs('b'), vm: { uuid: 'x', name: 'elsewhere', pool: 'dc2' } }),
    machine('c-only', { srs: srs('c') }),
  ];
  const next = (from: readonly RunMachine[], busy: string[], due: string[] = []) => {
    const found = nextMachine(from, {
      reason: ({ pool, srs: wanted }) =>
        pool === 'dc1' && wanted.some(({ uuid }) => busy.includes(uuid)) ? 'busy' : undefined,
      isPausing: () => false,
      isDue: ({ vm }) => due.includes(vm.name),
    });
    return found && [found.machine.vm.name, ...named(found.passed)];
  };
  assert.deepEqual(next(all, ['a']), ['b-only', 'both']);
  assert.deepEqual(next(all, ['a'], ['both']), ['elsewhere']);
  const here = all.filter(({ vm }) => vm.pool === 'dc1');
  assert.deepEqual(next(here, ['a'], ['both']), ['c-only']);
  assert.deepEqual(next(here, [], ['both']), ['both']);
  assert.equal(next(here, ['a', 'c'], ['both']), undefined);
});

function disk(name: string, userdevice: string, sr = 'a'): DiskFacts {
  return {
    vdiRef: `OpaqueRef:${userdevice}` as VdiRef,
    vdiUuid: `vdi-${userdevice}`,
    nameLabel: name,
    userdevice,
    virtualSizeBytes: GIB,
    physicalUtilisationBytes: GIB,
    bootable: userdevice === '0',
    readOnly: false,
    sharable: false,
    resetsOnBoot: false,
    raw: false,
    uncoalesced: false,
    sr: {
      ref: `OpaqueRef:${sr}` as SrRef,
      uuid: sr,
      nameLabel: `store ${sr}`,
      type: 'nfs',
      shared: true,
      physicalSizeBytes: -1,
      physicalUtilisationBytes: 0,
      virtualAllocationBytes: 0,
      canSnapshot: true,
      thick: false,
    },
  };
}

test('disks that are marked or named stay out, where the pool can; a name only some machines have is no mistake', () => {
  const vm = { disks: [disk('root', '0'), disk('Swap [NOBACKUP]', '1', 'b'), disk('data', '2')] };
  const look = lookAtDisks({
    vm,
    features: { ignoreVdis: true },
    excludeDisks: ['data', 'no such disk here'],
  });
  assert.deepEqual(look.excludeDisks, ['vdi-1', 'vdi-2']);
  assert.deepEqual(look.leftOut, [
    'disk 1 (Swap [NOBACKUP]): marked [nobackup]',
    'disk 2 (data): asked for',
  ]);
  assert.equal(look.virtualSizeBytes, GIB);
  assert.deepEqual(
    look.srs.map(({ name }) => name),
    ['store a', 'store b'],
  );
  assert.deepEqual(look.warnings, []);
  const old = lookAtDisks({ vm, features: { ignoreVdis: false }, excludeDisks: ['data'] });
  assert.deepEqual(old.excludeDisks, ['vdi-2'], 'the job refuses what was asked for, in its words');
  assert.match(old.warnings.join(), /marked \[nobackup\], and this pool cannot leave disks out/);
});

test('a run ends as what its machines ended as', () => {
  const end = (statuses: RunMachine['status'][], over: object = {}) =>
    endOf({
      machines: statuses.map((status, at) => machine(`m${at}`, { status })),
      problems: [],
      cancel_requested: false,
      ...over,
    });
  const problem = { type: 't', title: 't', status: 404, detail: 'd', code: 'not_found' };
  assert.equal(end(['succeeded', 'succeeded']), 'succeeded');
  assert.equal(end(['succeeded', 'failed']), 'partial');
  assert.equal(end(['succeeded', 'not_started']), 'partial');
  assert.equal(end(['succeeded', 'cancelled']), 'partial', 'a job was cancelled, not the run');
  assert.equal(end(['succeeded'], { problems: [problem] }), 'partial');
  assert.equal(end(['failed', 'not_started']), 'failed');
  assert.equal(end(['succeeded', 'cancelled'], { cancel_requested: true }), 'cancelled');
  assert.equal(end(['succeeded', 'succeeded'], { cancel_requested: true }), 'succeeded');
});

test('a deadline is an instant or a time from now, a day where none is given, a week at most', () => {
  const hours = (deadline?: string) => (deadlineAt(deadline, NOW_MS) - NOW_MS) / HOUR_MS;
  assert.deepEqual(
    [hours(), hours('90m'), hours('8h'), hours('2d'), hours('99d')],
    [24, 1.5, 8, 48, 168],
  );
  assert.equal(deadlineAt('2027-01-15T09:00:00+01:00', NOW_MS), NOW_MS);
});
