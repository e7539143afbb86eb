/**
 * The simulated pool's other ways in: a link the host reads, raw disks, constructors, and what a started guest reports.
 */
import assert from 'node:assert/strict';
import { createServer, type RequestListener } from 'node:http';
import type { AddressInfo } from 'node:net';
import { test } from 'node:test';
import { createSimClock } from './clock.ts';
import { PAGE_BYTES } from './disk.ts';
import { assertSameDisks, startSource, startTarget, type Target } from './import-world.ts';
import type { SimPoolOptions } from './pool.ts';
import { put } from './raw-client.ts';

const MIB = 1_048_576;

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

/** Starts the call and waits for its task. */
async function runTask({ pool, caller }: Target, method: string, ...params: unknown[]) {
  const task = await caller.call(`Async.${method}`, ...params);
  for (;;) {
    const { status = '', error_info, result, other_config } = pool.world.get('task', task);
    if (status !== 'pending') {
      await caller.call('task.destroy', task);
      return { status, error: error_info as string[], result: String(result), other_config };
    }
    await new Promise<void>((resolve) => {
      const stop = pool.world.onChange(() => {
        stop();
        resolve();
      });
    });
  }
}

test('VM.import reads a link, follows redirects, wants 200 and a plain body', async () => {
  const source = await startSource();
  const archive = await source.archive();
  const answers: Record<string, RequestListener> = {
    '/archive?signature=a%2Bb': (_request, response) => {
      response.setHeader('content-length', archive.length);
      response.end(archive);
    },
    '/moved': (_request, response) => {
      response.writeHead(302, { location: `${base}/archive?signature=a%2Bb` }).end();
    },
    '/round': (_request, response) =>
      void response.writeHead(302, { location: `${base}/round` }).end(),
    '/denied': (_request, response) => void response.writeHead(403).end('no'),
    '/chunked': (_request, response) => {
      response.write(archive);
      response.end();
    },
    '/cut': (_request, response) => {
      response.setHeader('content-length', archive.length);
      response.write(archive.subarray(0, 2 * MIB), () => response.destroy());
    },
  };
  const server = createServer((request, response) =>
    answers[request.url ?? '']?.(request, response),
  );
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const base = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  try {
    await withTarget({}, async (target) => {
      const { pool, left } = target;
      const { ref: sr } = pool.storage('nfs');
      const read = (path: string) =>
        runTask(target, 'VM.import', `${base}${path}`, sr, false, false);
      const done = await read('/moved');
      assert.deepEqual(done.other_config, { object_creation: 'complete' });
      const [, vm = ''] = /<value>(OpaqueRef:[^<]+)<\/value>/.exec(done.result) ?? [];
      assertSameDisks(source.pool, pool, vm);
      for (const [path, ...error] of [
        ['/round', 'IMPORT_ERROR', 'Maximum redirect limit reached'],
        ['/denied', 'IMPORT_ERROR', '403 Forbidden'],
        ['/chunked', 'IMPORT_ERROR_PREMATURE_EOF'],
        ['/cut', 'IMPORT_ERROR_PREMATURE_EOF'],
      ]) {
        const { status, error: info } = await read(path ?? '');
        assert.deepEqual([status, ...info], ['failure', ...error]);
      }
      assert.deepEqual(await left([vm]), []);
    });
  } finally {
    server.closeAllConnections();
    server.close();
    await source.pool.close();
  }
});

test('a raw disk is written from its beginning, through the host that sees it', async () => {
  await withTarget({}, async ({ pool, caller, left }) => {
    const send = async (query: string, body: Uint8Array, url = pool.url) => {
      const task = await caller.call('task.create', 'disk', '');
      const path = `/import_raw_vdi?task_id=${task}&${query}`;
      const answer = await put(url, path, body, [`Cookie: session_id=${caller.session}`]);
      const { status, error_info, result } = pool.world.get('task', task);
      await caller.call('task.destroy', task);
      return { line: answer.statusLine, status, error: error_info as string[], result };
    };
    const create = (SR: string, virtual_size: number) =>
      caller.call('VDI.create', {
        SR,
        virtual_size,
        name_label: 'new',
        type: 'user',
        sharable: false,
        read_only: false,
        other_config: { mark: 'ours' },
      });
    const vdi = await create(pool.storage('local:1').ref, 3 * MIB);
    assert.equal(pool.world.get('VDI', vdi).virtual_size, 4 * MIB, 'VHDs are whole 2 MiB');
    const body = Buffer.alloc(3 * MIB);
    body.fill('x', PAGE_BYTES, 2 * PAGE_BYTES);
    const elsewhere = await send(`vdi=${vdi}`, body);
    assert.deepEqual([elsewhere.line, elsewhere.status], ['HTTP/1.1 302 Found', 'pending']);
    const done = await send(`vdi=${vdi}&format=raw`, body, pool.urls[1]);
    assert.deepEqual([done.status, done.result], ['success', `<value>${vdi}</value>`]);
    const read = Buffer.alloc(3 * MIB);
    pool.disks.get(vdi)?.read(0, read);
    assert.ok(read.equals(body));
    const larger = await send(`vdi=${vdi}`, Buffer.alloc(5 * MIB, 1), pool.urls[1]);
    assert.deepEqual(larger.error, ['VDI_IO_ERROR', 'Device I/O errors']);
    const other = await send(`vdi=${vdi}&format=odd`, body, pool.urls[1]);
    assert.deepEqual([other.line, ...other.error].slice(0, 2), [
      'HTTP/1.1 404 Not Found',
      'INTERNAL_ERROR',
    ]);
    assert.deepEqual((await send('', body)).error, ['VDI_MISSING']);
    assert.equal((await send('vdi=nonsense', body)).status, 'pending', 'nobody took the task');
    const made = await send(`sr_uuid=${pool.storage('nfs').uuid}`, body);
    const [, fresh = ''] = /<value>(.*)<\/value>/.exec(String(made.result)) ?? [];
    assert.equal(pool.world.get('VDI', fresh).name_label, 'Imported VDI');
    await caller.call('VDI.destroy', vdi);
    await caller.call('VDI.destroy', fresh);
    await assert.rejects(create(pool.storage('iso').ref, MIB), /SR_OPERATION_NOT_SUPPORTED/);
    assert.deepEqual(await left(), []);
  });
});

const QOS = { qos_algorithm_type: '', qos_algorithm_params: {} };

test('drives and cards are made and removed with the refusals of a host', async () => {
  const source = await startSource();
  try {
    const { caller, pool } = source;
    const [machine] = pool.machines;
    const [disk] = machine?.disks ?? [];
    const drive = { VM: machine?.ref, VDI: disk?.ref, userdevice: 'autodetect', bootable: false };
    const common = { mode: 'RW', type: 'Disk', empty: false, other_config: {}, ...QOS };
    const vbd = await caller.call('VBD.create', { ...drive, ...common });
    assert.equal(pool.world.get('VBD', vbd).userdevice, '2', '0 and 1 are disks, 3 is the CD');
    await assert.rejects(
      caller.call('VBD.create', { ...drive, ...common, userdevice: '2' }),
      /DEVICE_ALREADY_EXISTS 2/,
    );
    await assert.rejects(caller.call('VBD.create', { ...drive }), /INTERNAL_ERROR .*"mode"/);
    await caller.call('VBD.destroy', vbd);
    const card = { VM: machine?.ref, network: pool.networks()[0]?.ref, device: '2', MTU: 1500 };
    const vif = await caller.call('VIF.create', { ...card, MAC: '', other_config: {}, ...QOS });
    assert.match(String(pool.world.get('VIF', vif).MAC), /^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/);
    await assert.rejects(
      caller.call('VIF.create', { ...card, device: '3', MAC: 'no', other_config: {}, ...QOS }),
      /MAC_INVALID no/,
    );
    await caller.call('VIF.destroy', vif);
  } finally {
    await source.pool.close();
  }
});

test('the guest reports some time after the start, old reports are gone at once, and some never do', async () => {
  const clock = createSimClock();
  const source = await startSource({ clock, guestBootMs: 20_000 });
  try {
    const { caller, pool } = source;
    const [machine] = pool.machines;
    const vm = machine?.ref ?? '';
    const guest = () => {
      const ref = String(pool.world.get('VM', vm).guest_metrics);
      return { ref, ...pool.world.get('VM_guest_metrics', ref) } as Record<string, unknown>;
    };
    const old = guest();
    await caller.call('VM.start', vm, false, false);
    assert.equal(pool.world.get('VM', vm).ha_always_run, true, 'its priority is restart');
    assert.notEqual(guest().ref, old.ref);
    assert.deepEqual([guest().live, guest().os_version], [true, {}]);
    await assert.rejects(caller.call('VM.start', vm, false, false), /VM_BAD_POWER_STATE/);
    await assert.rejects(caller.call('VM.destroy', vm), /VM_BAD_POWER_STATE/);
    await clock.advance(20_000);
    assert.deepEqual(guest().networks, { '0/ip': '192.0.2.10', '1/ip': '192.0.2.11' });
    assert.match(JSON.stringify(guest().os_version), /Debian/);
    await caller.call('VM.hard_shutdown', vm);
    await assert.rejects(caller.call('VM.hard_shutdown', vm), /VM_BAD_POWER_STATE .* halted/);
    pool.faults.set('guest-silent', {});
    await caller.call('VM.start', vm, false, false);
    await clock.advance(60_000);
    assert.deepEqual(guest().os_version, {});
  } finally {
    await source.pool.close();
  }
});
