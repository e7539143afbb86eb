/** What the simulated pool exports, and how exports go wrong. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { after, before, test } from 'node:test';
import { gunzipSync, zstdDecompressSync } from 'node:zlib';
import { createGeneratedDisk, createSparseDisk, digestDisk } from './disk.ts';
import { type MachineSpec, type SimPool, type SimPoolOptions, startSimPool } from './pool.ts';
import {
  assemble,
  type Caller,
  get,
  logIn,
  type Member,
  type RawAnswer,
  readMembers,
} from './raw-client.ts';

const MIB = 1_048_576;

const SMALL: MachineSpec = {
  name: 'small',
  disks: [
    {
      name: 'small root',
      storage: 'nfs',
      open: () => createGeneratedDisk({ sizeBytes: 40 * MIB + 1536, seed: 3, density: 0.2 }),
    },
    {
      name: 'small data',
      storage: 'nfs',
      open: () => createGeneratedDisk({ sizeBytes: 9 * MIB, seed: 4, density: 0.5 }),
    },
  ],
};

let pool: SimPool;
let caller: Caller;

before(async () => {
  pool = await startSimPool({ machines: [SMALL], progressIntervalMs: 1 });
  caller = await logIn(pool);
});

after(async () => {
  await pool.close();
});

interface Export extends RawAnswer {
  task: string;
  record: { status: string; error_info: string[]; progress: number };
}

/** Exports with a task of its own, following one redirect. */
async function exportVm(
  from: { pool: SimPool; caller: Caller },
  vm: string,
  query = '',
): Promise<Export> {
  const task = await from.caller.call('task.create', 'export', '');
  const path = `/export?ref=${vm}&task_id=${task}${query}`;
  const cookie = [`Cookie: session_id=${from.caller.session}`];
  let answer = await get(from.pool.url, path, cookie);
  const location = answer.headers.get('location');
  if (location !== undefined && answer.statusLine.includes('302')) {
    const { origin, pathname, search } = new URL(location);
    answer = await get(origin, pathname + search, cookie);
  }
  const record = await from.caller.call<Export['record']>('task.get_record', task);
  return { ...answer, task, record };
}

async function withPool<T>(
  options: SimPoolOptions,
  run: (from: { pool: SimPool; caller: Caller }) => Promise<T>,
): Promise<T> {
  const started = await startSimPool(options);
  try {
    return await run({ pool: started, caller: await logIn(started) });
  } finally {
    await started.close();
  }
}

function assertSameDisks(members: Member[], machine: SimPool['machines'][number]): void {
  const ids = [...new Set(members.slice(1).map(({ name }) => name.split('/')[0] ?? ''))];
  assert.deepEqual(ids, [...ids].sort(), 'disks come in text order of their ids');
  const wanted = new Set(machine.disks.map(({ disk }) => digestDisk(disk)));
  for (const id of ids) {
    const size = Math.max(...machine.disks.map(({ disk }) => disk.sizeBytes));
    const scratch = createSparseDisk(size);
    const end = assemble(members, id, (offset, bytes) => scratch.write(offset, bytes));
    const image = createSparseDisk(end);
    assemble(members, id, (offset, bytes) => image.write(offset, bytes));
    assert.ok(wanted.delete(digestDisk(image)), `disk ${id} reads back as it was`);
  }
  assert.equal(wanted.size, 0);
}

for (const persona of ['8.0', '8.2', '8.3', 'xs9'] as const) {
  test(`an export of persona ${persona} holds every disk bit for bit`, async () => {
    await withPool({ persona, machines: [SMALL] }, async (from) => {
      const machine = from.pool.machine('small');
      const answer = await exportVm(from, machine.ref);
      assert.equal(answer.statusLine, 'HTTP/1.0 200 OK');
      assert.equal(answer.headers.get('content-length'), undefined);
      assert.equal(answer.headers.get('task-id'), answer.task);
      assert.equal(answer.record.status, 'success');
      assert.equal(answer.record.progress, 1);
      const { members, rest } = readMembers(answer.body);
      assert.equal(rest.length, 1024);
      assert.equal(members[0]?.name, 'ova.xml');
      assertSameDisks(members, machine);
      const kind = persona === '8.0' ? 'checksum' : 'xxhash';
      assert.match(members[2]?.name ?? '', new RegExp(`/00000000\\.${kind}$`));
    });
  });
}

test('headers are V7: no magic, seven checksum digits, mode by release', async () => {
  const { body } = await exportVm({ pool, caller }, pool.machine('small').ref);
  const { members } = readMembers(body);
  const header = members[1]?.header ?? Buffer.alloc(0);
  assert.equal(header.toString('latin1', 100, 108), '0000400\0');
  assert.equal(header.toString('latin1', 124, 136), '00004000000\0');
  assert.match(header.toString('latin1', 148, 156), /^[0-7]{7}\0$/);
  assert.ok(header.subarray(156).every((byte) => byte === 0));
});

test('SHA-1 sums of the old persona are right', async () => {
  await withPool({ persona: '8.0', machines: [SMALL] }, async (from) => {
    const { body } = await exportVm(from, from.pool.machine('small').ref);
    const { members } = readMembers(body);
    for (let at = 1; at < members.length; at += 2) {
      const sum = createHash('sha1')
        .update(members[at]?.content ?? '')
        .digest('hex');
      assert.equal(members[at + 1]?.content.toString('latin1'), sum);
    }
  });
});

test('external ids are drawn from a counter: two exports name the disks differently', async () => {
  const names = async () => {
    const { body } = await exportVm({ pool, caller }, pool.machine('small').ref);
    return readMembers(body).members[1]?.name ?? '';
  };
  assert.notEqual(await names(), await names());
});

test('a snapshot exported by itself stays a template with its own name', async () => {
  const machine = pool.machine('small');
  const snapshot = await caller.call('VM.snapshot', machine.ref, 'snap-7');
  const { body } = await exportVm({ pool, caller }, snapshot);
  const xml = readMembers(body).members[0]?.content.toString('utf8') ?? '';
  assert.match(xml, /<name>name_label<\/name><value>snap-7<\/value>/);
  assert.match(xml, /<name>is_a_template<\/name><value><boolean>1<\/boolean><\/value>/);
  assert.doesNotMatch(
    xml,
    /<name>is_a_snapshot<\/name><value><boolean>1<\/boolean><\/value>.*<name>power_state/,
  );
  assert.match(xml, /<name>export_vsn<\/name><value>2<\/value>/);
});

test('writes after the snapshot are not in its export', async () => {
  await withPool({ machines: [SMALL] }, async (from) => {
    const machine = from.pool.machine('small');
    const before = machine.disks.map(({ disk }) => digestDisk(disk)).sort();
    const snapshot = await from.caller.call('VM.snapshot', machine.ref, 'before');
    machine.disks[0]?.disk.write(5 * MIB, Buffer.from('written while running'));
    const { body } = await exportVm(from, snapshot);
    const { members } = readMembers(body);
    const ids = [...new Set(members.slice(1).map(({ name }) => name.split('/')[0] ?? ''))];
    const got = ids.map((id) => {
      const image = createSparseDisk(assemble(members, id, () => undefined));
      assemble(members, id, (offset, bytes) => image.write(offset, bytes));
      return digestDisk(image);
    });
    assert.deepEqual(got.sort(), before);
  });
});

test('a long hole makes empty blocks that use up numbers', async () => {
  const sparse: MachineSpec = {
    name: 'sparse',
    disks: [
      {
        name: 'sparse',
        storage: 'nfs',
        open() {
          const disk = createSparseDisk(100 * MIB);
          disk.write(90 * MIB, Buffer.from('far out'));
          return disk;
        },
      },
    ],
  };
  const options = { persona: '8.2', machines: [sparse], keepAliveBlockMs: 10 } as const;
  await withPool(options, async (from) => {
    const { body } = await exportVm(from, from.pool.machine('sparse').ref);
    const { members } = readMembers(body);
    const empty = members.filter(({ content }) => content.length === 0);
    assert.equal(empty.length / 2 >= 0 && empty.length > 5, true);
    const sum = members[members.indexOf(empty[0] as Member) + 1];
    assert.equal(sum?.content.toString('latin1'), 'EF46DB3751D8E999');
    assertSameDisks(members, from.pool.machine('sparse'));
  });
});

test('compression is one gzip member or one zstd frame, and an old host ignores zstd', async () => {
  const { ref } = pool.machine('small');
  const gzip = await exportVm({ pool, caller }, ref, '&use_compression=true');
  assert.equal(readMembers(gunzipSync(gzip.body)).rest.length, 1024);
  const zstd = await exportVm({ pool, caller }, ref, '&use_compression=zstd');
  assert.equal(readMembers(zstdDecompressSync(zstd.body)).rest.length, 1024);
  await withPool({ persona: '8.0', machines: [SMALL] }, async (from) => {
    const plain = await exportVm(from, from.pool.machine('small').ref, '&use_compression=zstd');
    assert.equal(readMembers(plain.body).rest.length, 1024);
  });
});

test('export_metadata is only ova.xml, with a length, and may be asked of a running machine', async () => {
  const running: MachineSpec = { ...SMALL, power: 'Running' };
  await withPool({ machines: [running] }, async (from) => {
    const path = `/export_metadata?uuid=${from.pool.machine('small').uuid}`;
    const cookie = [`Cookie: session_id=${from.caller.session}`];
    const answer = await get(from.pool.url, path, cookie);
    assert.equal(answer.headers.get('content-length'), String(answer.body.length));
    const { members } = readMembers(answer.body);
    assert.deepEqual(
      members.map(({ name }) => name),
      ['ova.xml'],
    );
    assert.match(members[0]?.content.toString('utf8') ?? '', /<value>Running<\/value>/);
  });
});

test('a running machine is refused before the headers, and the task has the same error', async () => {
  await withPool({ machines: [{ ...SMALL, power: 'Running' }] }, async (from) => {
    const { ref } = from.pool.machine('small');
    const answer = await exportVm(from, ref);
    assert.match(answer.statusLine, /^HTTP\/1\.1 500 /);
    const error = ['VM_BAD_POWER_STATE', ref, 'halted, suspended', 'running'];
    assert.deepEqual(answer.record.error_info, error);
    const text = `VM_BAD_POWER_STATE: [ ${error.slice(1).join('; ')} ]`;
    assert.ok(answer.body.toString('utf8').includes(text));
  });
});

test('an unknown machine is a 500 and leaves the task pending', async () => {
  const answer = await exportVm({ pool, caller }, 'OpaqueRef:nobody');
  assert.match(answer.statusLine, / 500 /);
  assert.equal(answer.record.status, 'pending');
});

test('without a session there is a 401 with a challenge, with Basic there is an export', async () => {
  const path = `/export?uuid=${pool.machine('small').uuid}`;
  const refused = await get(pool.url, path);
  assert.match(refused.statusLine, / 401 /);
  assert.match(refused.headers.get('www-authenticate') ?? '', /^Basic/);
  const basic = Buffer.from(`${pool.username}:${pool.password}`).toString('base64');
  const answer = await get(pool.url, path, [`Authorization: Basic ${basic}`]);
  assert.equal(readMembers(answer.body).rest.length, 1024);
});

test('cookies are split as the release splits them', async () => {
  const path = `/export?uuid=${pool.machine('small').uuid}`;
  const spaced = await get(pool.url, path, [`Cookie: a=1; session_id=${caller.session}`]);
  assert.match(spaced.statusLine, / 401 /);
  const tight = await get(pool.url, path, [`Cookie: a=1;session_id=${caller.session}`]);
  assert.match(tight.statusLine, / 200 /);
});

test('a host that cannot see the storage redirects to one that can, with host and port', async () => {
  const elsewhere: MachineSpec = {
    name: 'elsewhere',
    disks: [{ name: 'd', storage: 'local:1', open: () => createSparseDisk(MIB) }],
  };
  await withPool({ machines: [elsewhere] }, async (from) => {
    const { ref } = from.pool.machine('elsewhere');
    const cookie = [`Cookie: session_id=${from.caller.session}`];
    const answer = await get(from.pool.url, `/export?ref=${ref}`, cookie);
    assert.match(answer.statusLine, / 302 /);
    assert.equal(answer.headers.get('location'), `${from.pool.urls[1]}/export?ref=${ref}`);
    assert.equal((await exportVm(from, ref)).record.status, 'success');
  });
});

test('storage no host sees ends the connection without any answer and fails the task', async () => {
  const split: MachineSpec = {
    name: 'split',
    disks: [0, 1].map((index) => ({
      name: `d${index}`,
      storage: `local:${index}` as const,
      open: () => createSparseDisk(MIB),
    })),
  };
  await withPool({ machines: [split] }, async (from) => {
    const answer = await exportVm(from, from.pool.machine('split').ref);
    assert.equal(answer.statusLine, '');
    assert.equal(answer.record.error_info[0], 'VM_REQUIRES_SR');
  });
});

const CUT = { afterBytes: 3 * MIB };

test('an export may end early, be reset, or have an HTTP 500 appended', async () => {
  const { ref } = pool.machine('small');
  pool.faults.set('export-ends-early', CUT);
  const early = await exportVm({ pool, caller }, ref);
  assert.equal(early.reset, false);
  assert.equal(early.body.length, CUT.afterBytes);
  assert.equal(early.record.status, 'failure');

  pool.faults.set('export-reset', CUT);
  const reset = await exportVm({ pool, caller }, ref);
  assert.equal(reset.reset, true);

  pool.faults.set('export-error', { ...CUT, code: 'SR_BACKEND_FAILURE_46', params: ['', 'x', ''] });
  const failed = await exportVm({ pool, caller }, ref);
  assert.equal(failed.record.error_info[0], 'SR_BACKEND_FAILURE_46');
  const tail = failed.body.subarray(CUT.afterBytes).toString('utf8');
  assert.match(tail, /^HTTP\/1\.1 500 Internal Error\r\n/);
  assert.match(tail, /SR_BACKEND_FAILURE_46: \[ ; x; {2}\]/);
});

test('a silent export goes on after its silence', async () => {
  pool.faults.set('export-silent', { ...CUT, silentMs: 5 });
  const answer = await exportVm({ pool, caller }, pool.machine('small').ref);
  assert.equal(answer.record.status, 'success');
  assertSameDisks(readMembers(answer.body).members, pool.machine('small'));
});

test('tasks may fail, vanish or stay pending after a complete body', async () => {
  const { ref } = pool.machine('small');
  pool.faults.set('task-failure', { code: 'VDI_IO_ERROR', params: ['Device I/O error'] });
  const failed = await exportVm({ pool, caller }, ref);
  assert.equal(readMembers(failed.body).rest.length, 1024);
  assert.equal(failed.record.status, 'failure');
  pool.faults.set('task-pending', {});
  assert.equal((await exportVm({ pool, caller }, ref)).record.status, 'pending');
  pool.faults.set('task-vanishes', {});
  await assert.rejects(exportVm({ pool, caller }, ref), /HANDLE_INVALID task/);
});

test('single blocks may be wrong, twice there, or missing', async () => {
  const { ref } = pool.machine('small');
  const numbers = async () => {
    const { body } = await exportVm({ pool, caller }, ref);
    const { members } = readMembers(body);
    return members.map(
      ({ name, content }) => [name.slice(name.indexOf('/') + 1), content] as const,
    );
  };
  const normal = await numbers();
  pool.faults.set('block-checksum', { block: 0 });
  assert.notDeepEqual((await numbers())[2]?.[1], normal[2]?.[1]);
  pool.faults.set('block-duplicate', { block: 0 });
  assert.equal((await numbers())[3]?.[0], '00000000');
  pool.faults.set('block-missing', { block: 0 });
  assert.equal((await numbers()).length, normal.length - 2);
});

test('the broken persona sends an odd-sized disk with its last block out of order', async () => {
  await withPool({ persona: 'broken-26.1.2', machines: [SMALL] }, async (from) => {
    const { body, record } = await exportVm(from, from.pool.machine('small').ref);
    assert.equal(record.status, 'success');
    const numbers = readMembers(body)
      .members.map(({ name }) => Number(/\/(\d{8})$/.exec(name)?.[1] ?? -1))
      .filter((number) => number >= 0);
    assert.notEqual(numbers.indexOf(40), -1);
    assert.equal(numbers[numbers.indexOf(40) - 1], 0, 'the short last one comes second');
  });
});

test('a cancelled task ends the export as cancelled, with the error appended', async () => {
  const { ref } = pool.machine('small');
  const task = await caller.call('task.create', 'export', '');
  pool.faults.set('export-silent', { ...CUT, silentMs: 60_000 });
  const exporting = get(pool.url, `/export?ref=${ref}&task_id=${task}`, [
    `Cookie: session_id=${caller.session}`,
  ]);
  await caller.call('task.cancel', task);
  const { body } = await exporting;
  assert.match(body.toString('latin1'), /TASK_CANCELLED/);
  assert.equal(await caller.call('task.get_status', task), 'cancelled');
});

test('disks stay attached to dom0 for a moment: VDI_IN_USE', async () => {
  const options = { machines: [SMALL], dom0DetachMs: 60_000 };
  await withPool(options, async (from) => {
    const snapshot = await from.caller.call('VM.snapshot', from.pool.machine('small').ref, 's');
    await exportVm(from, snapshot);
    assert.equal(from.pool.audit().filter((line) => line.startsWith('disk on dom0')).length, 2);
    const [vbd] = await from.caller.call<string[]>('VM.get_VBDs', snapshot);
    const vdi = await from.caller.call('VBD.get_VDI', vbd);
    await from.caller.call('VM.destroy', snapshot);
    await assert.rejects(from.caller.call('VDI.destroy', vdi), /^Error: VDI_IN_USE .* destroy$/);
  });
});
