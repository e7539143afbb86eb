import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { BackupError } from '../errors.ts';
import type { DiskFacts, PoolFacts, SrFacts, SrRef, VdiRef, VmRef, VmState } from '../ports.ts';
import { preflight } from './preflight.ts';

const GiB = 1024 ** 3;

const sr = (over: Partial<SrFacts> = {}): SrFacts => ({
  ref: 'OpaqueRef:sr' as SrRef,
  uuid: 'sr-1',
  nameLabel: 'local',
  type: 'ext',
  shared: false,
  physicalSizeBytes: 100 * GiB,
  physicalUtilisationBytes: 10 * GiB,
  virtualAllocationBytes: 0,
  canSnapshot: true,
  thick: false,
  ...over,
});

const disk = (userdevice: string, over: Partial<DiskFacts> = {}): DiskFacts => ({
  vdiRef: `OpaqueRef:vdi${userdevice}` as VdiRef,
  vdiUuid: `vdi-${userdevice}`,
  nameLabel: `disk ${userdevice}`,
  userdevice,
  virtualSizeBytes: 10 * GiB,
  physicalUtilisationBytes: 2 * GiB,
  bootable: false,
  readOnly: false,
  sharable: false,
  resetsOnBoot: false,
  raw: false,
  sr: sr(),
  uncoalesced: false,
  ...over,
});

const vm = (over: Partial<VmState> = {}): VmState => ({
  ref: 'OpaqueRef:vm' as VmRef,
  uuid: 'vm-1',
  nameLabel: 'web',
  nameDescription: '',
  kind: 'vm',
  powerState: 'Running',
  tags: [],
  allowedOperations: ['snapshot'],
  currentOperations: [],
  blockedOperations: {},
  disks: [disk('0'), disk('1')],
  removables: [],
  hasVusbs: false,
  hasSuspendImage: false,
  haRestartPriority: '',
  networks: [],
  ...over,
});

const pool = (ignoreVdis = true): PoolFacts => ({
  uuid: 'pool-1',
  nameLabel: 'pool',
  masterAddress: '10.0.0.1',
  haEnabled: false,
  hosts: [],
  features: { ignoreVdis, zstdExport: true, cbt: false, quiesce: false },
  trust: 'fingerprint',
});

const run = (state: VmState, excludeDisks: string[] = [], p = pool()) =>
  preflight({ vm: state, pool: p, excludeDisks });

function refusal(work: () => unknown): BackupError {
  try {
    work();
  } catch (error) {
    return error as BackupError;
  }
  throw assert.fail('it was not refused');
}

test('an ordinary machine passes with all its disks', () => {
  const verdict = run(vm());
  assert.deepEqual(
    verdict.disks.map((d) => d.userdevice),
    ['0', '1'],
  );
  assert.equal(verdict.totalBytes, 20 * GiB);
  assert.equal(verdict.estimatedBytes, 4 * GiB);
  assert.deepEqual(verdict.warnings, []);
});

for (const kind of ['template', 'snapshot', 'control_domain'] as const) {
  test(`a ${kind} is refused by name`, () => {
    const error = refusal(() => run(vm({ kind })));
    assert.equal(error.code, 'vm_not_supported');
    assert.match(error.message, new RegExp(kind.replace('_', ' ')));
  });
}

test('disks are excluded by userdevice, uuid or name', () => {
  for (const wanted of ['1', 'vdi-1', 'disk 1']) {
    const verdict = run(vm(), [wanted]);
    assert.deepEqual(
      verdict.disks.map((d) => d.userdevice),
      ['0'],
    );
    assert.equal(verdict.excluded[0]?.disk.userdevice, '1');
  }
});

test('a disk to exclude that is not there is refused, naming those that are', () => {
  const error = refusal(() => run(vm(), ['9']));
  assert.equal(error.code, 'invalid_request');
  assert.equal((error.details.disks as unknown[]).length, 2);
});

test('a pool that cannot leave disks out refuses to be asked', () => {
  const error = refusal(() => run(vm(), ['1'], pool(false)));
  assert.equal(error.code, 'vm_not_supported');
  assert.match(error.message, /21\.4/);
});

const refusals: [string, Partial<DiskFacts>, RegExp][] = [
  [
    'on an SR that cannot make snapshots',
    { sr: sr({ canSnapshot: false }) },
    /cannot make snapshots/,
  ],
  ['that is a raw volume', { raw: true }, /raw/],
  ['shared between machines', { sharable: true }, /shared/],
  ['reset at every boot', { resetsOnBoot: true }, /on_boot/],
  ['with a chain near the limit', { chainDepth: 28 }, /28 links of at most 30/],
  [
    'whose chain grows and is not coalesced',
    { chainDepth: 8, uncoalesced: true },
    /8 links .* backups stop at 8: not coalesced yet/,
  ],
  ['that the storage moves', { currentOperations: ['mirror'] }, /at work on it \(mirror\)/],
];
for (const [name, over, text] of refusals) {
  test(`a disk ${name} is refused unless it is excluded`, () => {
    const state = vm({ disks: [disk('0'), disk('1', over)] });
    const error = refusal(() => run(state));
    assert.equal(error.code, 'snapshot_refused');
    assert.match(error.message, text);
    assert.equal(run(state, ['1']).disks.length, 1);
  });
}

const machines: [string, Partial<VmState>, RegExp][] = [
  [
    'whose snapshots are blocked',
    { blockedOperations: { snapshot: 'by the vendor' } },
    /by the vendor/,
  ],
  ['with a USB device passed through', { hasVusbs: true }, /USB/],
  [
    'that is migrating',
    { currentOperations: ['pool_migrate'], allowedOperations: [] },
    /pool_migrate/,
  ],
];
for (const [name, over, text] of machines) {
  test(`a machine ${name} is refused before anything is touched`, () => {
    const error = refusal(() => run(vm(over)));
    assert.equal(error.code, 'snapshot_refused');
    assert.match(error.message, text);
  });
}

test('a chain that waits to be coalesced is told with its disk, numbers, since when, and when to look again', () => {
  const state = vm({ disks: [disk('0', { chainDepth: 9, uncoalesced: true })] });
  const error = refusal(() =>
    preflight({ vm: state, pool: pool(), excludeDisks: [], lastFinishedAt: 0 }),
  );
  assert.equal(error.retry, 'later');
  const { disk: which, sr: on, retry_after_seconds: after, ...numbers } = error.details;
  assert.deepEqual(which, { vdi_uuid: 'vdi-0', name: 'disk 0', userdevice: '0' });
  assert.deepEqual(on, { uuid: 'sr-1', name: 'local', type: 'ext' });
  assert.equal(after, 900);
  assert.deepEqual(numbers, {
    chain_depth: 9,
    chain_limit: 8,
    chain_max: 30,
    uncoalesced: true,
    since: '1970-01-01T00:00:00.000Z',
  });
  const young = run(vm({ disks: [disk('0', { chainDepth: 2, uncoalesced: true })] }));
  assert.match(
    young.warnings.join(),
    /disk 0.*not coalesced yet \(chain of 2, backups stop at 8\)/,
  );
});

test('a machine that moves is left alone, whatever XenAPI allows', () => {
  for (const operation of ['pool_migrate', 'migrate_send']) {
    const moving = vm({ currentOperations: [operation], allowedOperations: ['snapshot'] });
    const error = refusal(() => run(moving));
    assert.equal(error.retry, 'later');
    assert.equal(error.details.retry_after_seconds, 120);
    assert.deepEqual(error.details.current_operations, [operation]);
  }
});

test('a pool at work on itself is left alone', () => {
  for (const operation of ['ha_enable', 'ha_disable', 'designate_new_master']) {
    const error = refusal(() => run(vm(), [], { ...pool(), currentOperations: [operation] }));
    assert.equal(error.code, 'snapshot_refused');
    assert.equal(error.retry, 'later');
    assert.match(error.message, new RegExp(operation));
    assert.equal(error.details.retry_after_seconds, 120);
  }
  const upgrade = refusal(() => run(vm(), [], { ...pool(), upgrading: true }));
  assert.match(upgrade.message, /being upgraded/);
  assert.equal(upgrade.details.retry_after_seconds, 1800);
  assert.equal(run(vm(), [], { ...pool(), currentOperations: ['sync_bundle'] }).disks.length, 2);
});

test('a machine HA is about to start is left alone, others get a warning', () => {
  const host = { uuid: 'h', nameLabel: 'host-2', address: '', enabled: true, live: false };
  const hosts = [{ ...host, productBrand: '', productVersion: '', xapiVersion: '' }];
  const failing = { ...pool(), haEnabled: true, hosts };
  const error = refusal(() =>
    run(vm({ powerState: 'Halted', haRestartPriority: 'restart' }), [], failing),
  );
  assert.equal(error.retry, 'later');
  assert.match(error.message, /HA is on, host host-2 is dead/);
  assert.match(run(vm(), [], failing).warnings.join(), /host-2 is dead/);
  assert.deepEqual(run(vm(), [], { ...failing, haEnabled: false }).warnings, []);
});

test('a thin SR needs room for the leaves, and warns where the expected growth does not fit', () => {
  const MiB = 1024 ** 2;
  const on = (freeBytes: number) => {
    const full = sr({ physicalUtilisationBytes: 100 * GiB - freeBytes });
    return run(vm({ disks: [disk('0', { sr: full }), disk('1', { sr: full })] }));
  };
  const error = refusal(() => on(15 * MiB));
  assert.equal(error.retry, 'after-fix');
  assert.equal(error.details.provisioning, 'thin');
  assert.equal(error.details.needed_bytes, 16 * MiB);
  assert.equal(error.details.free_bytes, 15 * MiB);
  assert.match(on(17 * MiB).warnings.join(), /nearly full/);
  assert.deepEqual(on(50 * GiB).warnings, []);
});

test('what XenAPI allows is only believed together with a reason', () => {
  assert.equal(run(vm({ allowedOperations: [] })).disks.length, 2);
  assert.equal(run(vm({ currentOperations: ['snapshot'] })).disks.length, 2);
  assert.equal(run(vm({ hasVusbs: true, powerState: 'Halted' })).disks.length, 2);
});

test('a thick SR needs the full virtual size free, a thin one does not', () => {
  const nearlyFull = { physicalUtilisationBytes: 85 * GiB };
  const thick = sr({ thick: true, type: 'lvm', ...nearlyFull });
  const error = refusal(() =>
    run(vm({ disks: [disk('0', { sr: thick }), disk('1', { sr: thick })] })),
  );
  assert.equal(error.code, 'snapshot_refused');
  assert.equal(error.details.free_bytes, 15 * GiB);
  assert.ok((error.details.needed_bytes as number) > 20 * GiB);
  assert.equal(run(vm({ disks: [disk('0', { sr: thick })] })).disks.length, 1);
  const thin = sr(nearlyFull);
  assert.equal(
    run(vm({ disks: [disk('0', { sr: thin }), disk('1', { sr: thin })] })).disks.length,
    2,
  );
});

test('an SR that does not tell its size is left to the pool', () => {
  const silent = sr({ thick: true, physicalSizeBytes: -1, physicalUtilisationBytes: 0 });
  assert.equal(run(vm({ disks: [disk('0', { sr: silent })] })).disks.length, 1);
});

test('an export that cannot finish within a day is refused with the hours', () => {
  const big = disk('0', { virtualSizeBytes: 20e12, physicalUtilisationBytes: 15e12 });
  const error = refusal(() => run(vm({ disks: [big] })));
  assert.equal(error.code, 'vm_not_supported');
  assert.match(error.message, /40 hours/);
  assert.equal(error.details.limit_seconds, 86_400);
  const fast = preflight({
    vm: vm({ disks: [big] }),
    pool: pool(),
    excludeDisks: [],
    lastRate: 300e6,
  });
  assert.equal(fast.disks.length, 1);
});

test('a huge but nearly empty disk only gets a warning', () => {
  const sparse = disk('0', {
    virtualSizeBytes: 16e12,
    physicalUtilisationBytes: 1e9,
    chainDepth: 1,
  });
  assert.match(run(vm({ disks: [sparse] })).warnings.join(), /24 hours/);
});

test('what will not be in the backup is said', () => {
  assert.match(run(vm({ disks: [] })).warnings.join(), /no disk/);
  assert.match(run(vm(), ['0', '1']).warnings.join(), /every disk is excluded/);
  assert.match(run(vm({ powerState: 'Suspended' })).warnings.join(), /memory/);
});
