/**
 * Proof that the simulated pool is no mirror of our own client: the public client `xen-api` works against it.
 *
 * It prefers JSON-RPC, watches events, pins nothing, and knows nothing of xvault.
 */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { type SimPool, startSimPool } from './pool.ts';

interface Resource {
  statusCode: number;
  body: AsyncIterable<Buffer>;
  task: Promise<unknown>;
}

interface XapiObject {
  $ref: string;
  $type: string;
  uuid: string;
  name_label: string;
  is_a_snapshot?: boolean;
  VBDs: string[];
}

/** The part of xen-api's client the test uses; the package has no types. */
interface Client {
  connect(): Promise<void>;
  disconnect(): Promise<void>;
  objectsFetched: Promise<void>;
  objects: { all: Record<string, XapiObject> };
  pool: { name_label: string };
  call(method: string, ...args: unknown[]): Promise<unknown>;
  callAsync(method: string, ...args: unknown[]): Promise<unknown>;
  barrier(ref?: string): Promise<XapiObject>;
  getAllRecords(type: string): Promise<XapiObject[]>;
  getField(type: string, ref: string, field: string): Promise<unknown>;
  getResource(path: string, options: { query: Record<string, string> }): Promise<Resource>;
}

type CreateClient = (options: Record<string, unknown>) => Client;

let pool: SimPool;

before(async () => {
  pool = await startSimPool();
});

after(async () => {
  await pool.close();
});

async function openClient(transport: string, url = pool.url): Promise<Client> {
  // Untyped package: the name is kept from the type checker.
  const name: string = 'xen-api';
  const { createClient } = (await import(name)) as { createClient: CreateClient };
  const client = createClient({
    url,
    auth: { user: pool.username, password: pool.password },
    allowUnauthorized: true,
    transport,
    debounce: 10,
  });
  await client.connect();
  return client;
}

async function drain(body: AsyncIterable<Buffer>): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of body) chunks.push(chunk);
  return Buffer.concat(chunks);
}

async function removeSnapshot(client: Client, snapshot: string): Promise<void> {
  const vbds = (await client.getField('VM', snapshot, 'VBDs')) as string[];
  const disks: string[] = [];
  for (const vbd of vbds) {
    if ((await client.getField('VBD', vbd, 'type')) !== 'Disk') continue;
    disks.push((await client.getField('VBD', vbd, 'VDI')) as string);
  }
  await client.callAsync('VM.destroy', snapshot);
  for (const disk of disks) await client.callAsync('VDI.destroy', disk);
}

for (const transport of ['auto', 'xml-rpc']) {
  test(`xen-api logs in, lists, watches, snapshots, exports and deletes over ${transport}`, async () => {
    const client = await openClient(transport);
    try {
      await client.objectsFetched;
      const machine = pool.machine('db-01');
      const listed = Object.values(client.objects.all).find(({ uuid }) => uuid === machine.uuid);
      assert.equal(listed?.name_label, 'db-01');
      assert.equal(client.pool.name_label, 'simulated pool');
      const machines = await client.getAllRecords('VM');
      assert.ok(
        machines.length > pool.machines.length,
        'templates and control domains are listed too',
      );

      const snapshot = (await client.callAsync('VM.snapshot', machine.ref, 'xo test')) as string;
      const seen = await client.barrier(snapshot);
      assert.equal(seen.name_label, 'xo test');
      assert.equal(seen.is_a_snapshot, true);

      const resource = await client.getResource('/export/', {
        query: { ref: snapshot, use_compression: 'false' },
      });
      const archive = await drain(resource.body);
      await resource.task;
      assert.equal(archive.length % 512, 0);
      assert.ok(archive.subarray(-1024).every((byte) => byte === 0));
      assert.equal(archive.toString('latin1', 0, 7), 'ova.xml');

      await pool.auditWhenQuiet({ ignore: /^(?!disk on dom0)/ });
      await removeSnapshot(client, snapshot);
    } finally {
      await client.disconnect();
    }
    const left = await pool.auditWhenQuiet({ ignore: /connection|session/ });
    assert.deepEqual(left, []);
  });
}

test('xen-api finds the master when it was given another member', async () => {
  const client = await openClient('auto', pool.urls[1]);
  try {
    await client.objectsFetched;
    assert.equal(await client.call('VM.get_name_label', pool.machine('web-01').ref), 'web-01');
  } finally {
    await client.disconnect();
  }
});
