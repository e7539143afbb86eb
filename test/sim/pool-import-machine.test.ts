/**
 * The simulated pool takes machines in as a host does: PUT /import, what it makes, what it refuses.
 */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { after, before, test } from 'node:test';
import { ImportRefused, importXva } from '../importer.ts';
import {
  assertSameDisks,
  type Source,
  startSource,
  startTarget,
  type Target,
} from './import-world.ts';
import type { PersonaName, SimPoolOptions } from './pool.ts';
import { exchange, put } from './raw-client.ts';
import { text } from './xapi/values.ts';

const OTHER_UUID = '0badcafe-0000-4000-8000-000000000000';

let source: Source;
let archive: Buffer;

before(async () => {
  source = await startSource();
  archive = await source.archive();
});
after(() => source.pool.close());

async function withTarget(
  options: SimPoolOptions,
  work: (target: Target) => Promise<void>,
): Promise<void> {
  const target = await startTarget(options);
  try {
    await work(target);
  } finally {
    await target.pool.close();
  }
}

/** The archive with other words in ova.xml; the padding of the member keeps everything else in place. */
function edited(from: string, to: string): Buffer {
  const sizeBytes = Number.parseInt(archive.toString('latin1', 124, 135), 8);
  const xml = archive.toString('utf8', 512, 512 + sizeBytes);
  assert.ok(xml.includes(from), `ova.xml has no ${from}`);
  const changed = Buffer.from(xml.replaceAll(from, to));
  const padded = Buffer.alloc(Math.ceil(changed.length / 512) * 512);
  padded.set(changed);
  const header = Buffer.from(archive.subarray(0, 512));
  header.write(changed.length.toString(8).padStart(11, '0'), 124);
  header.fill(' ', 148, 156);
  const sum = header.reduce((total, byte) => total + byte, 0);
  header.write(`${sum.toString(8).padStart(7, '0')}\0`, 148);
  const rest = archive.subarray(512 + Math.ceil(sizeBytes / 512) * 512);
  return Buffer.concat([header, padded, rest]);
}

for (const compression of [undefined, 'gzip', 'zstd'] as const) {
  test(`a machine comes out of another pool and goes in, compression ${compression ?? 'none'}`, async () => {
    const bytes = await source.archive(compression);
    await withTarget({}, async ({ pool, send, left }) => {
      const { answer, task, vms } = await send(bytes);
      assert.match(answer.statusLine, /^HTTP\/1\.1 200 OK$/);
      assert.match(answer.headers.get('task-id') ?? '', /^OpaqueRef:/);
      assert.deepEqual([task.status, task.error_info, task.progress], ['success', [], 1]);
      const [vm = ''] = vms;
      assert.equal(vms.length, 1);
      assertSameDisks(source.pool, pool, vm);
      assert.deepEqual(await left([vm]), []);
      assert.equal((await left()).length, 5, 'the machine, two disks, two cards');
    });
  });
}

test('a new machine has new uuids, addresses and seed; networks are found by name', async () => {
  await withTarget({}, async ({ pool, caller, send }) => {
    const [vm = ''] = (await send(archive)).vms;
    const [original = { ref: '', uuid: '' }] = source.pool.machines;
    const before = source.pool.world.get('VM', original.ref);
    const record = pool.world.get('VM', vm);
    assert.equal(record.name_label, 'two disks');
    assert.equal(record.power_state, 'Halted');
    assert.notEqual(record.uuid, original.uuid);
    assert.equal(record.version, 0);
    assert.equal(
      record.ha_restart_priority,
      'restart',
      'as in ova.xml: whoever sends it clears it',
    );
    const config = record.other_config as Record<string, string>;
    assert.equal(config.auto_poweron, 'true');
    assert.notEqual(config.mac_seed, (before.other_config as Record<string, string>).mac_seed);
    assert.match(config.import_task ?? '', /^OpaqueRef:/);
    assert.notEqual(record.generation_id, before.generation_id);
    const macs = (from: typeof pool, refs: unknown) =>
      (refs as string[]).map((ref) => from.world.get('VIF', ref).MAC);
    const [first, second] = macs(pool, record.VIFs);
    assert.match(String(first), /^[0-9a-f][26ae](:[0-9a-f]{2}){5}$/);
    assert.notEqual(first, second);
    assert.ok(!macs(source.pool, before.VIFs).includes(first ?? ''));
    const names = (record.VIFs as string[]).map((ref) =>
      text(pool.world.get('network', text(pool.world.get('VIF', ref), 'network')), 'name_label'),
    );
    assert.deepEqual(names.sort(), ['Pool-wide network associated with eth0', 'VM network']);
    const drives =
      await caller.call<Record<string, Record<string, unknown>>>('VBD.get_all_records');
    const cd = Object.values(drives).find(({ type, VM }) => type === 'CD' && VM === vm);
    assert.equal(cd?.empty, false, 'the ISO of this name is in the library here too');
  });
});

test('a CD whose image nobody has is ejected, and a network nobody has is made', async () => {
  const networks = [{ name: 'management', bridge: 'xenbr9' }];
  const storages = [{ name: 'nfs', nameLabel: 'here', type: 'nfs' as const }];
  await withTarget({ networks, storages }, async ({ pool, send, left }) => {
    const [vm = ''] = (await send(archive)).vms;
    const names = pool.networks().map(({ name }) => name);
    assert.deepEqual(names.slice(1).sort(), [
      'Pool-wide network associated with eth0',
      'VM network',
    ]);
    const cds = pool.world.all('VBD').filter(([, vbd]) => vbd.VM === vm && vbd.type === 'CD');
    assert.deepEqual(
      cds.map(([, vbd]) => [vbd.empty, vbd.VDI]),
      [[true, 'OpaqueRef:NULL']],
    );
    assert.deepEqual(await left([vm]), []);
  });
});

test('a network of another name is found by its bridge', async () => {
  const networks = [
    { name: 'renamed', bridge: 'xenbr0' },
    { name: 'also', bridge: 'xenbr1' },
  ];
  await withTarget({ networks }, async ({ pool, send }) => {
    assert.equal((await send(archive)).task.status, 'success');
    assert.equal(pool.networks().length, 2);
  });
});

test('a restore keeps uuid, addresses and seed, and is refused beside another machine of the seed', async () => {
  await withTarget({}, async ({ pool, send, left }) => {
    const [vm = ''] = (await send(archive, { query: '&restore=true' })).vms;
    const [original = { ref: '', uuid: '' }] = source.pool.machines;
    const before = source.pool.world.get('VM', original.ref);
    const record = pool.world.get('VM', vm);
    assert.equal(record.uuid, original.uuid);
    assert.equal(record.version, 1);
    const macs = (from: typeof pool, refs: unknown) =>
      (refs as string[]).map((ref) => from.world.get('VIF', ref).MAC).sort();
    assert.deepEqual(macs(pool, record.VIFs), macs(source.pool, before.VIFs));
    const { mac_seed: seed = '' } = before.other_config as Record<string, string>;
    const other = edited(`<value>${original.uuid}</value>`, `<value>${OTHER_UUID}</value>`);
    const { task } = await send(other, { query: '&restore=true' });
    assert.deepEqual(task.error_info, ['DUPLICATE_MAC_SEED', seed]);
    const again = await send(archive, { query: '&restore=true' });
    assert.deepEqual(again.task.error_info, ['VM_TO_IMPORT_IS_NOT_NEWER_VERSION', vm, '1', '0']);
    assert.deepEqual(await left([vm]), []);
  });
});

test('a halted machine of the same uuid is replaced by a newer one; its old disks stay', async () => {
  await withTarget({}, async ({ pool, send, left }) => {
    const [old = ''] = (await send(archive, { query: '&restore=true' })).vms;
    const disks = pool.disksOf(old).map(({ ref }) => ref);
    pool.world.set('VM', old, { power_state: 'Running' });
    const busy = await send(archive, { query: '&restore=true' });
    assert.deepEqual(busy.task.error_info, ['VM_BAD_POWER_STATE', old, 'Halted', 'Running']);
    pool.world.set('VM', old, { power_state: 'Halted', version: -1 });
    const [vm = ''] = (await send(archive, { query: '&restore=true' })).vms;
    assert.notEqual(vm, old);
    assert.equal(pool.world.find('VM', old), undefined);
    const left1 = await left([vm]);
    assert.deepEqual(left1.sort(), disks.map((ref) => `disk ${name(ref)} (${ref})`).sort());
    function name(ref: string): string {
      return text(pool.world.get('VDI', ref), 'name_label');
    }
  });
});

const PERSONA_CASES: [from: PersonaName, to: PersonaName, error: (string | RegExp)[]][] = [
  ['8.3', '8.2', ['IMPORT_INCOMPATIBLE_VERSION']],
  ['8.2', '8.3', []],
  ['8.0', '8.2', []],
  ['8.2', '8.0', ['IMPORT_ERROR', /^Expected to find an inline checksum, instead found a file/]],
];

for (const [from, to, error] of PERSONA_CASES) {
  test(`an archive of ${from} sent to ${to}: ${error[0] ?? 'taken'}`, async () => {
    const old = await startSource({ persona: from });
    try {
      const bytes = await old.archive();
      await withTarget({ persona: to }, async ({ send, left }) => {
        const { task, answer, vms } = await send(bytes);
        assert.equal(task.error_info.length, error.length);
        for (const [at, part] of error.entries()) {
          assert.match(
            task.error_info[at] ?? '',
            part instanceof RegExp ? part : new RegExp(`^${part}$`),
          );
        }
        assert.match(answer.statusLine, / 200 /, 'success or not: only the task tells');
        if (error.length > 0) assert.match(answer.body.toString(), /^HTTP\/1\.1 500 /);
        assert.deepEqual(await left(vms), []);
      });
    } finally {
      await old.pool.close();
    }
  });
}

for (const program of ['gzip', 'zstd'] as const) {
  test(`the program a host runs decompresses the archive too: ${program}`, async (t) => {
    if (spawnSync(program, ['--version']).error) return t.skip(`no ${program} command here`);
    const bytes = await source.archive(program);
    await withTarget({ realPrograms: true }, async ({ pool, send, left }) => {
      const { vms } = await send(bytes);
      assertSameDisks(source.pool, pool, vms[0] ?? '');
      const cut = await send(bytes.subarray(0, bytes.length - 100));
      assert.deepEqual(cut.task.error_info, ['IMPORT_ERROR_PREMATURE_EOF']);
      pool.faults.set('import-error', { afterBytes: bytes.length });
      assert.deepEqual((await send(bytes)).task.error_info, ['VDI_IO_ERROR', 'Device I/O error']);
      assert.deepEqual(await left(vms), []);
    });
  });
}

test('a host that writes no zstd reads none', async () => {
  const bytes = await source.archive('zstd');
  await withTarget({ persona: '8.0' }, async ({ send }) => {
    assert.deepEqual((await send(bytes)).task.error_info, ['IMPORT_ERROR_PREMATURE_EOF']);
  });
});

test('the host is chosen by the storage: 302 before any byte is read, the task untouched', async () => {
  await withTarget({ hosts: 2 }, async ({ pool, caller, send, left }) => {
    const { uuid } = pool.storage('local:1');
    const { answer, task } = await send(archive, { query: `&sr_uuid=${uuid}` });
    assert.match(answer.statusLine, /^HTTP\/1\.1 302 Found$/);
    assert.match(
      answer.headers.get('location') ?? '',
      new RegExp(`^${pool.urls[1]}/import\\?task_id=`),
    );
    assert.equal(task.status, 'pending');
    const there = await send(archive, { query: `&sr_uuid=${uuid}`, url: pool.urls[1] ?? '' });
    assert.equal(there.task.status, 'success');
    pool.world.set('pool', pool.world.all('pool')[0]?.[0] ?? '', { default_SR: 'OpaqueRef:NULL' });
    for (const [query, error] of [
      ['', /DEFAULT_SR_NOT_FOUND/],
      ['&sr_uuid=nonsense', /UUID_INVALID/],
      ['&sr_id=OpaqueRef:nonsense', /NO_HOSTS_AVAILABLE/],
    ] as const) {
      const refused = await send(archive, { query });
      assert.match(refused.answer.statusLine, / 500 /);
      assert.match(refused.answer.body.toString(), error);
      assert.equal(refused.task.status, 'pending', 'nobody took the task');
    }
    await caller.call('VM.get_all');
    assert.deepEqual(await left(there.vms), []);
  });
});

test('chunks, an ISO library and an upgrade are refused with a bare head and a page behind it', async () => {
  await withTarget({}, async ({ pool, caller, send, left }) => {
    const task = await caller.call('task.create', 'import', '');
    const lines = [
      `PUT /import?task_id=${task}&session_id=${caller.session} HTTP/1.1`,
      'Transfer-Encoding: chunked',
    ];
    const answer = await exchange(pool.url, `${lines.join('\r\n')}\r\n\r\n5\r\nhello\r\n0\r\n\r\n`);
    assert.match(answer.statusLine, /^HTTP\/1\.1 403 Forbidden$/);
    const info = await caller.call<string[]>('task.get_error_info', task);
    assert.deepEqual(info, ['IMPORT_ERROR_CANNOT_HANDLE_CHUNKED']);
    await caller.call('task.destroy', task);
    const iso = await send(archive, { query: `&sr_id=${pool.storage('iso').ref}` });
    assert.match(iso.answer.statusLine, /^HTTP\/1\.1 400 Bad Request$/);
    assert.deepEqual(iso.task.error_info, ['SR_OPERATION_NOT_SUPPORTED']);
    const [[ref] = ['']] = pool.world.all('pool');
    await caller.call('pool.add_to_other_config', ref, 'rolling_upgrade_in_progress', 'true');
    const upgrade = await send(archive);
    assert.deepEqual(upgrade.task.error_info, ['NOT_SUPPORTED_DURING_UPGRADE']);
    const stranger = await put(pool.url, '/import', archive, ['Cookie: session_id=OpaqueRef:no']);
    assert.match(stranger.statusLine, /^HTTP\/1\.1 401 /);
    assert.deepEqual(await left(), []);
  });
});

const FULL_CASES: [type: 'lvmoiscsi' | 'nfs', freeBytes: number, code: string][] = [
  ['lvmoiscsi', 20_000_000, 'SR_BACKEND_FAILURE_44'],
  ['nfs', 20_000_000, 'VDI_IO_ERROR'],
  ['nfs', 5_000_000, 'SR_BACKEND_FAILURE_44'],
];

for (const [type, freeBytes, code] of FULL_CASES) {
  test(`a full storage: ${type} with ${freeBytes} bytes free says ${code}`, async () => {
    const storages = [{ name: 'nfs', nameLabel: 'small', type, freeBytes }];
    await withTarget({ storages }, async ({ pool, send, left }) => {
      const { task, answer } = await send(archive);
      assert.equal(task.error_info[0], code);
      assert.match(answer.body.toString('latin1'), new RegExp(`^HTTP/1\\.1 500 .*${code}`, 's'));
      assert.deepEqual(await left(), []);
      assert.equal(pool.storage('nfs').freeBytes, freeBytes);
    });
  });
}

test('damage is refused and cleaned up after; forced, a wrong checksum passes and debris stays', async () => {
  const flipped = Buffer.from(archive);
  const at = flipped.indexOf('content 2 at');
  flipped.writeUInt8(flipped.readUInt8(at) ^ 1, at);
  await assert.rejects(
    importXva(
      (async function* () {
        yield flipped;
      })(),
    ),
    ImportRefused,
  );
  await withTarget({}, async ({ send, left }) => {
    const refused = await send(flipped);
    assert.equal(refused.task.error_info[0], 'IMPORT_ERROR');
    const cut = await send(archive.subarray(0, archive.length - 4_000_000));
    assert.deepEqual(cut.task.error_info, ['IMPORT_ERROR_PREMATURE_EOF']);
    const text = await send(Buffer.from('no archive at all'.repeat(100)));
    assert.deepEqual(text.task.error_info, ['IMPORT_ERROR_PREMATURE_EOF']);
    assert.deepEqual(await left(), []);
    const forced = await send(flipped, { query: '&force=true' });
    assert.equal(forced.task.status, 'success');
    const debris = await send(archive.subarray(0, 2_000_000), { query: '&force=true' });
    assert.deepEqual(debris.task.error_info, ['IMPORT_ERROR_PREMATURE_EOF']);
    assert.equal((await left(forced.vms)).length, 5);
  });
});
