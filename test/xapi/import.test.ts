/** The import side of the port `Pool` against the simulated pool: archives by stream, what is refused, what goes wrong. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import type { RestoreRefusal } from '../../src/imports.ts';
import type { SrRef, VmRef } from '../../src/ports.ts';
import { assertSameDisks, type Source, startSource } from '../sim/import-world.ts';
import { DEFAULT_MACHINES } from '../sim/machines.ts';
import type { FaultName, FaultParams, SimPoolOptions } from '../sim/pool.ts';
import { refusalOf, send, signal, startImportBench, writeAll } from './import-bench.ts';

let source: Source;
let archive: Buffer;

before(async () => {
  source = await startSource();
  archive = await source.archive();
});
after(() => source.pool.close());

const LABEL = { label: 'xvault: restore', description: 'xvault:job-1' };
const inputOf = (sr: SrRef, sizeBytes: number) => ({
  ...LABEL,
  sr,
  sizeBytes,
  keepIdentity: false,
});

for (const compression of [undefined, 'zstd'] as const) {
  test(`an archive goes in by stream, compression ${compression ?? 'none'}`, async (t) => {
    const bench = await startImportBench(t);
    const bytes = await source.archive(compression);
    const tasks: string[] = [];
    const made = await send(bench, bytes, { onTask: (task) => void tasks.push(task) });
    const [vm] = made as [VmRef];
    bench.kept.push(vm);
    assert.equal(made.length, 1);
    assertSameDisks(source.pool, bench.sim, vm);
    const machine = await bench.pool.describeMachine(vm, { signal });
    assert.equal(machine.nameLabel, 'two disks');
    assert.equal(machine.autoPoweron, true);
    assert.equal(machine.haRestartPriority, 'restart');
    assert.equal(machine.mark, undefined);
    assert.deepEqual(
      machine.disks.map(({ userdevice, sr }) => [userdevice, sr.ref]),
      [
        ['0', bench.sr('nfs')],
        ['1', bench.sr('nfs')],
      ],
    );
    assert.equal(machine.networks.length, 2);
    const [found] = await bench.pool.findImported({ tasks }, { signal });
    assert.equal(
      found?.ref,
      vm,
      'a machine is found by the task that made it, though that is gone',
    );
  });
}

test('what the host has no use for is taken and dropped: padding behind the end', async (t) => {
  const bench = await startImportBench(t);
  const padded = Buffer.concat([archive, Buffer.alloc(24 * 1_048_576)]);
  bench.kept.push(...(await send(bench, padded)));
});

test('a host that holds the storage is asked directly', async (t) => {
  const bench = await startImportBench(t);
  if (bench.sim.urls.length < 2) return t.skip('needs two loopback addresses');
  const input = inputOf(bench.sr('local:1'), archive.length);
  await using stream = await bench.pool.openImport(input, { signal });
  assert.equal(stream.host.address, new URL(bench.sim.urls[1] ?? '').hostname);
  assert.notEqual(stream.host.xapiVersion, '');
  await writeAll(stream, archive);
  bench.kept.push(...(await stream.settle({ signal })));
});

test('targets: storages, networks, versions and whom an import may collide with', async (t) => {
  const bench = await startImportBench(t, {
    sim: { persona: '8.2', machines: DEFAULT_MACHINES.slice(0, 1) },
  });
  const targets = await bench.pool.importTargets({ signal });
  assert.deepEqual(targets.version, { major: 1, minor: 20 });
  assert.deepEqual(
    [targets.readsZstd, targets.readsXxhash, targets.upgrading],
    [true, true, false],
  );
  const [first] = targets.srs;
  assert.equal(first?.isDefault, true);
  assert.equal(first?.ref, bench.sr('nfs'));
  const takes = new Set(targets.srs.filter((sr) => sr.takesDisks).map(({ type }) => type));
  assert.ok(takes.has('nfs') && takes.has('lvmoiscsi') && !takes.has('iso') && !takes.has('udev'));
  const local = targets.srs.find(({ ref }) => ref === bench.sr('local:1'));
  assert.deepEqual(
    local?.attachedHosts.map(({ address }) => address),
    [new URL(bench.sim.urls.at(-1) ?? '').hostname],
  );
  assert.deepEqual(
    targets.networks.map(({ nameLabel, bridge }) => [nameLabel, bridge]),
    [
      ['Pool-wide network associated with eth0', 'xenbr0'],
      ['VM network', 'xenbr1'],
    ],
  );
  const web = targets.machines.find(({ nameLabel }) => nameLabel === DEFAULT_MACHINES[0]?.name);
  assert.match(web?.macSeed ?? '', /^[0-9a-f-]{36}$/);
  assert.match(web?.macs[0] ?? '', /^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/);
  bench.kept.push(...targets.machines.map(({ ref }) => ref));
});

const storage = (name: string, more: object = {}) =>
  ({ name, nameLabel: name, type: 'nfs', shared: true, ...more }) as const;

const REFUSALS: [string, RestoreRefusal, SimPoolOptions, string?][] = [
  ['a full storage', 'sr_full', { storages: [storage('nfs', { freeBytes: 6 * 1_048_576 })] }],
  [
    'an ISO library',
    'sr_unsuitable',
    { storages: [storage('nfs', { type: 'iso', contentType: 'iso' })] },
  ],
  [
    'a storage that nobody has plugged',
    'sr_unsuitable',
    { storages: [storage('nfs', { hosts: [] })] },
  ],
  ['a storage that is not there', 'sr_unsuitable', {}, 'OpaqueRef:no-such-storage'],
  ['an older pool', 'pool_too_old', { persona: '8.2' }],
];

for (const [name, reason, sim, sr] of REFUSALS) {
  test(`refused, with nothing left: ${name}`, async (t) => {
    const bench = await startImportBench(t, { sim });
    const refused = await refusalOf(
      send(bench, archive, sr === undefined ? {} : { sr: sr as SrRef }),
    );
    assert.deepEqual([refused.code, refused.reason], ['restore_refused', reason], refused.message);
  });
}

test('refused, with nothing left: a copy that keeps the identity of a machine that is there', async (t) => {
  const bench = await startImportBench(t);
  const [vm = ''] = await send(bench, archive, { keepIdentity: true });
  bench.kept.push(vm);
  const again = await refusalOf(send(bench, archive, { keepIdentity: true }));
  assert.deepEqual([again.code, again.reason], ['restore_refused', 'machine_exists']);
  const other = Buffer.from(archive);
  const { uuid } = bench.sim.world.get('VM', vm) as { uuid: string };
  const at = other.indexOf(uuid);
  other.write(uuid.startsWith('0') ? '1' : '0', at);
  const copy = await refusalOf(send(bench, other, { keepIdentity: true }));
  assert.deepEqual([copy.code, copy.reason], ['restore_refused', 'mac_conflict'], copy.message);
});

test('refused, with nothing left: a pool that is being upgraded', async (t) => {
  const bench = await startImportBench(t);
  const [[ref = ''] = []] = bench.sim.world.all('pool');
  bench.sim.world.set('pool', ref, { other_config: { rolling_upgrade_in_progress: 'true' } });
  assert.equal((await bench.pool.importTargets({ signal })).upgrading, true);
  const refused = await refusalOf(send(bench, archive));
  assert.deepEqual([refused.code, refused.reason], ['restore_refused', 'upgrading']);
});

const MID = { afterBytes: 3_000_000 };
const FAULTS: [FaultName, FaultParams[FaultName], RegExp][] = [
  ['import-refused', { code: 'INTERNAL_ERROR', params: ['x'] }, /^start import: .*INTERNAL_ERROR/],
  ['import-no-response', {}, /^start import: the host closed the connection before it took/],
  ['import-hangs', {}, /neither bytes nor progress/],
  ['import-error', { ...MID, code: 'VDI_IO_ERROR' }, /could not write.*VDI_IO_ERROR/],
  ['import-reset', MID, /^import machine/],
  ['import-task-failure', { code: 'INTERNAL_ERROR' }, /^import machine: .*INTERNAL_ERROR/],
];

for (const [fault, params, message] of FAULTS) {
  test(`failed, with nothing left: ${fault}`, async (t) => {
    const bench = await startImportBench(t);
    bench.sim.faults.set(fault, params as never);
    const failed = await refusalOf(send(bench, archive));
    assert.equal(failed.code, 'target_failed', failed.message);
    assert.match(failed.message, message);
  });
}

for (const [fault, params, status] of [
  ['import-killed', MID, 'pending'],
  ['import-task-vanishes', {}, 'gone'],
  ['import-task-pending', {}, 'pending'],
] as [FaultName, FaultParams[FaultName], string][]) {
  test(`what ${fault} leaves is found by its task and removed`, async (t) => {
    const bench = await startImportBench(t, { ignore: /^task/ });
    bench.sim.faults.set(fault, params as never);
    const tasks: string[] = [];
    const failed = await refusalOf(
      send(bench, archive, { onTask: (task) => void tasks.push(task) }),
    );
    assert.equal(failed.code, 'target_failed', failed.message);
    assert.equal(failed.details.task_status, status);
    const found = await bench.pool.findImported({ tasks }, { signal });
    assert.deepEqual(
      found.map(({ kind, nameLabel }) => [kind, nameLabel]),
      [['machine', 'two disks']],
    );
    for (const one of found) await bench.pool.removeImported(one, { signal });
    for (const one of found) await bench.pool.removeImported(one, { signal });
  });
}

test('a host that pauses is waited for as long as it is not too long', async (t) => {
  const bench = await startImportBench(t);
  bench.sim.faults.set('import-silent', { ...MID, silentMs: 50 });
  bench.kept.push(...(await send(bench, archive)));
});

test('an import that is given up in the middle leaves nothing', async (t) => {
  const bench = await startImportBench(t);
  const stream = await bench.pool.openImport(inputOf(bench.sr('nfs'), archive.length), { signal });
  await stream.write(archive.subarray(0, 3_000_000), { signal });
  await stream[Symbol.asyncDispose]();
  await stream[Symbol.asyncDispose]();
  assert.deepEqual(await bench.pool.findImported({ tasks: [stream.task] }, { signal }), []);
});

test('a write that waits for a host that reads nothing ends with its signal, and nothing is left', async (t) => {
  const bench = await startImportBench(t, { pool: { stallTimeoutMs: 3600_000 } });
  bench.sim.faults.set('import-silent', { afterBytes: 600_000, silentMs: 800 });
  const sizeBytes = 256 * 1_048_576;
  const cancel = new AbortController();
  await using stream = await bench.pool.openImport(inputOf(bench.sr('nfs'), sizeBytes), { signal });
  const writing = (async () => {
    await stream.write(archive, { signal: cancel.signal });
    for (;;) await stream.write(Buffer.alloc(4_194_304), { signal: cancel.signal });
  })();
  const seen = refusalOf(writing).catch((error: unknown) => error);
  while (stream.sentBytes === 0) await new Promise((resolve) => setImmediate(resolve));
  cancel.abort(new Error('enough'));
  await assert.rejects(writing, /enough/);
  await seen;
});

test('more or fewer bytes than promised are a mistake of the caller', async (t) => {
  const bench = await startImportBench(t);
  const more = await refusalOf(send(bench, archive, { sizeBytes: archive.length - 1 }));
  assert.equal(more.code, 'internal');
  const fewer = await refusalOf(send(bench, archive, { sizeBytes: archive.length + 1 }));
  assert.equal(fewer.code, 'internal');
});
