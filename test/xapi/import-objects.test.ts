/** The import side of the port `Pool` against the simulated pool: links, single disks, marks, guests, what is swept. */
import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { after, before, test } from 'node:test';
import { RESTORE_MARK } from '../../src/imports.ts';
import type { Pool, VdiRef, VmRef } from '../../src/ports.ts';
import { createSparseDisk } from '../sim/disk.ts';
import { assertSameDisks, type Source, startSource } from '../sim/import-world.ts';
import {
  type ImportBench,
  refusalOf,
  send,
  signal,
  startImportBench,
  writeAll,
} from './import-bench.ts';

const MIB = 1_048_576;
const options = { signal };
const LABEL = { label: 'xvault: restore', description: 'xvault:job-1' };

let source: Source;
let archive: Buffer;
/** Serves the archive under /archive, and a status under its number. */
const server = createServer((request, response) => {
  const path = new URL(request.url ?? '/', 'http://x').pathname.slice(1);
  if (path !== 'archive') return void response.writeHead(Number(path)).end('no');
  response.writeHead(200, { 'content-length': archive.length }).end(archive);
});
const linkTo = (path: string) =>
  `http://127.0.0.1:${(server.address() as AddressInfo).port}/${path}?X-Amz-Signature=top-secret`;

before(async () => {
  source = await startSource();
  archive = await source.archive();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
});
after(async () => {
  server.close();
  await source.pool.close();
});

const byLink = ({ pool, sr }: ImportBench, url: string, more: object = {}) =>
  pool.importFromUrl({ ...LABEL, url, sr: sr('nfs'), keepIdentity: false, ...more }, options);

test('a host reads the archive from a link itself, and the link is told to nobody', async (t) => {
  const bench = await startImportBench(t);
  const tasks: string[] = [];
  const made = await byLink(bench, linkTo('archive'), {
    onTask: (task: string) => void tasks.push(task),
  });
  const [vm] = made as [VmRef];
  bench.kept.push(vm);
  assertSameDisks(source.pool, bench.sim, vm);
  assert.equal((await bench.pool.findImported({ tasks }, options))[0]?.ref, vm);
  await bench.pool.markMachine({ vm, mark: 'job-1' }, options);
  assert.equal((await bench.pool.describeMachine(vm, options)).mark, 'job-1');
  assert.doesNotMatch(bench.log.text(), /top-secret/);
});

for (const [path, fetch] of [
  ['404', true],
  ['archive', undefined],
] as const) {
  test(`a link that ends in ${path === '404' ? 'an error' : 'a machine that fails'} is told apart, with nothing left`, async (t) => {
    const bench = await startImportBench(t);
    if (fetch === undefined) bench.sim.faults.set('import-error', { afterBytes: 3 * MIB });
    const failed = await refusalOf(byLink(bench, linkTo(path)));
    assert.equal(failed.code, 'target_failed', failed.message);
    assert.equal(failed.details.fetch, fetch);
    assert.doesNotMatch(JSON.stringify([failed, bench.log.text()]), /top-secret/);
  });
}

test('a storage that is full refuses an import by link, too', async (t) => {
  const storages = [{ name: 'nfs', nameLabel: 'n', type: 'nfs', freeBytes: 5 * MIB }] as const;
  const bench = await startImportBench(t, { sim: { storages } });
  const refused = await refusalOf(byLink(bench, linkTo('archive')));
  assert.deepEqual([refused.code, refused.reason], ['restore_refused', 'sr_full']);
});

/** A disk on a new machine, filled with some bytes. */
async function importDisk(bench: ImportBench, bytes: Uint8Array) {
  const disk = await bench.pool.createDisk(
    {
      sr: bench.sr('lvm'),
      sizeBytes: bytes.length,
      nameLabel: 'data',
      nameDescription: 'from a backup',
      mark: 'job-1',
    },
    options,
  );
  const input = { ...LABEL, vdi: disk.ref, sizeBytes: bytes.length };
  await using stream = await bench.pool.openDiskImport(input, options);
  await writeAll(stream, bytes);
  await stream.settle(options);
  return disk;
}

test('a disk is made, filled, hung on a machine, and goes with it', async (t) => {
  const bench = await startImportBench(t);
  const { pool, sim } = bench;
  const [vm] = (await send(bench, archive)) as [VmRef];
  await pool.markMachine({ vm, mark: 'job-1' }, options);
  const content = createSparseDisk(5 * MIB);
  content.write(3 * MIB + 17, Buffer.from('the one file'));
  const bytes = Buffer.alloc(content.sizeBytes);
  content.read(0, bytes);
  const disk = await importDisk(bench, bytes);
  const alone = await pool.findImported({ mark: 'job-1' }, options);
  assert.deepEqual(
    alone.map(({ kind, nameLabel }) => [kind, nameLabel]),
    [
      ['machine', 'two disks'],
      ['disk', 'data'],
    ],
  );
  const attach = { vm, vdi: disk.ref, userdevice: '5', bootable: false, readOnly: false };
  await pool.attachDisk(attach, options);
  const machine = await pool.describeMachine(vm, options);
  assert.deepEqual(
    machine.disks.map(({ userdevice }) => userdevice),
    ['0', '1', '5'],
  );
  const copy = sim.disksOf(vm).at(-1)?.disk;
  assert.ok(copy !== undefined && disk.virtualSizeBytes >= bytes.length);
  const read = Buffer.alloc(bytes.length);
  copy.read(0, read);
  assert.ok(read.equals(bytes));
  const [one, ...others] = await pool.findImported({ mark: 'job-1' }, options);
  assert.deepEqual(others, [], 'a disk that hangs on a machine goes with it');
  assert.ok(one !== undefined);
  await pool.removeImported(one, options);
});

test('a disk whose import breaks off is removed by its mark', async (t) => {
  const bench = await startImportBench(t);
  const { pool } = bench;
  bench.sim.faults.set('import-error', { afterBytes: MIB });
  const failed = await refusalOf(importDisk(bench, Buffer.alloc(4 * MIB, 1)));
  assert.equal(failed.code, 'target_failed', failed.message);
  const [found, ...others] = await pool.findImported({}, options);
  assert.deepEqual([found?.kind, found?.mark, others], ['disk', 'job-1', []]);
  assert.ok(found !== undefined);
  await pool.removeImported(found, options);
  await pool.removeImported(found, options);
});

test('a disk is refused where there is no room', async (t) => {
  const storages = [{ name: 'lvm', nameLabel: 'l', type: 'lvm', freeBytes: 2 * MIB }] as const;
  const bench = await startImportBench(t, { sim: { storages } });
  const refused = await refusalOf(importDisk(bench, Buffer.alloc(64 * MIB)));
  assert.deepEqual([refused.code, refused.reason], ['restore_refused', 'sr_full']);
});

test('what lost its mark, or another job marked, is not removed', async (t) => {
  const bench = await startImportBench(t);
  const { pool } = bench;
  const [vm] = (await send(bench, archive)) as [VmRef];
  bench.kept.push(vm);
  await pool.markMachine({ vm, mark: 'job-1' }, options);
  await pool.markMachine({ vm, mark: 'job-2' }, options);
  assert.deepEqual(await pool.findImported({ mark: 'job-1' }, options), []);
  const [found] = await pool.findImported({ mark: 'job-2' }, options);
  assert.ok(found !== undefined);
  const [leftover, ...rest] = await pool.findLeftovers({ prefix: 'xvault:' }, options);
  assert.deepEqual(rest, []);
  assert.deepEqual(
    [leftover?.kind, leftover?.label, leftover?.running],
    ['restored_machine', 'xvault:job-2', false],
  );
  await pool.markMachine({ vm, mark: undefined }, options);
  await pool.markMachine({ vm, mark: undefined }, options);
  for (const { ref } of bench.sim.disksOf(vm)) {
    const config = bench.sim.world.get('VDI', ref).other_config as Record<string, string>;
    assert.equal(config[RESTORE_MARK], undefined);
  }
  assert.ok(leftover !== undefined);
  for (const removing of [
    pool.removeImported(found, options),
    pool.removeLeftover(leftover, options),
  ]) {
    assert.equal((await refusalOf(removing)).code, 'precondition_failed');
  }
  await pool.renameMachine({ vm, nameLabel: 'mine now' }, options);
  assert.equal((await pool.describeMachine(vm, options)).nameLabel, 'mine now');
});

test('a disk that another machine uses stays; one that the control domain let go does not', async (t) => {
  const bench = await startImportBench(t);
  const { pool, sim } = bench;
  const { world } = sim;
  const [vm, other] = [...(await send(bench, archive)), ...(await send(bench, archive))] as VmRef[];
  assert.ok(vm !== undefined && other !== undefined);
  bench.kept.push(other);
  await pool.markMachine({ vm, mark: 'job-1' }, options);
  const [root, data] = sim.disksOf(vm);
  const hang = { bootable: false, readOnly: false, userdevice: '7' };
  await pool.attachDisk({ ...hang, vm: other, vdi: root?.ref as VdiRef }, options);
  const dom0 = world.all('VM').find(([, record]) => record.is_control_domain === true)?.[0] ?? '';
  await pool.attachDisk({ ...hang, vm: dom0 as VmRef, vdi: data?.ref as VdiRef }, options);
  await removeAll(pool);
  assert.equal(world.find('VM', vm), undefined);
  assert.notEqual(world.find('VDI', root?.ref ?? ''), undefined);
  assert.equal(world.find('VDI', data?.ref ?? ''), undefined);
});

test('a network that the host made for the machine goes with it', async (t) => {
  const networks = [{ name: 'management', bridge: 'xenbr9' }];
  const bench = await startImportBench(t, { sim: { networks } });
  const [vm] = (await send(bench, archive)) as [VmRef];
  assert.ok((await bench.pool.importTargets(options)).networks.length > 1);
  await bench.pool.markMachine({ vm, mark: 'job-1' }, options);
  await removeAll(bench.pool);
  assert.equal((await bench.pool.importTargets(options)).networks.length, 1);
});

test('an import by link that is cancelled leaves nothing', async (t) => {
  const bench = await startImportBench(t, { pool: { stallTimeoutMs: 3600_000 } });
  bench.sim.faults.set('import-silent', { afterBytes: 3 * MIB, silentMs: 600_000 });
  const cancel = new AbortController();
  const given = { ...LABEL, sr: bench.sr('nfs'), keepIdentity: false, url: linkTo('archive') };
  const onTask = () => void setImmediate(() => cancel.abort(new Error('enough')));
  const work = bench.pool.importFromUrl({ ...given, onTask }, { signal: cancel.signal });
  await assert.rejects(work, /enough/);
});

async function startedMachine(bench: ImportBench): Promise<VmRef> {
  const { pool } = bench;
  const [vm] = (await send(bench, archive)) as [VmRef];
  await pool.markMachine({ vm, mark: 'job-1' }, options);
  await pool.startVm(vm, options);
  return vm;
}

const removeAll = async (pool: Pool) => {
  for (const found of await pool.findImported({ mark: 'job-1' }, options)) {
    await pool.removeImported(found, options);
  }
};

test('a guest is waited for until its tools report after the start', async (t) => {
  const bench = await startImportBench(t);
  const { pool } = bench;
  const [vm] = (await send(bench, archive)) as [VmRef];
  await pool.markMachine({ vm, mark: 'job-1' }, options);
  const halted = await pool.waitForGuest({ vm, timeoutMs: 3_000 }, options);
  assert.equal(halted, undefined, 'what the archive brought along is no report');
  await pool.startVm(vm, options);
  const guest = await pool.waitForGuest({ vm, timeoutMs: 600_000 }, options);
  assert.equal(guest?.toolsVersion, '7.30.0');
  assert.match(guest?.osName ?? '', /Debian/);
  assert.ok((guest?.addresses.length ?? 0) > 0);
  await pool.stopVm(vm, options);
  await pool.stopVm(vm, options);
  await removeAll(pool);
  assert.equal((await refusalOf(pool.describeMachine(vm, options))).code, 'not_found');
});

test('a guest that says nothing is given up, and a running machine is stopped before it is removed', async (t) => {
  const bench = await startImportBench(t);
  bench.sim.faults.set('guest-silent', {});
  const vm = await startedMachine(bench);
  assert.equal(await bench.pool.waitForGuest({ vm, timeoutMs: 30_000 }, options), undefined);
  await removeAll(bench.pool);
});
