/**
 * What the simulated pool exports is what an importer written by somebody else accepts: two readings of the format.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ImportRefused, importXva } from '../importer.ts';
import { digestDisk } from './disk.ts';
import { DEFAULT_MACHINES } from './machines.ts';
import { type PersonaName, startSimPool } from './pool.ts';
import { get, logIn } from './raw-client.ts';

const LONG = process.env.XVAULT_TEST_LONG === '1';

/** All machines whose snapshot the pool does not refuse. */
const ALL = DEFAULT_MACHINES.map(({ name }) => name).filter((name) => name !== 'usb-store');

/** One, odd-sized, several disks (one of them QCOW2): enough where the rest would only take time. */
const FEW = ['web-01', 'mail-01', 'db-01'];

const CASES: [PersonaName, string[]][] = [
  ['8.0', FEW],
  // All of them through xvault: test/e2e/backup.test.ts.
  ['8.2', LONG ? ALL : FEW],
  ['8.3', ALL],
];

async function* once(bytes: Buffer): AsyncGenerator<Buffer> {
  yield bytes;
}

async function exportAll(
  persona: PersonaName,
  names: string[],
  check: (name: string, archive: Buffer, digests: string[]) => Promise<void>,
): Promise<void> {
  const machines = DEFAULT_MACHINES.filter(({ name }) => names.includes(name));
  const pool = await startSimPool({ persona, machines, hosts: 1 });
  try {
    const { call, session } = await logIn(pool);
    for (const { ref, name, disks } of pool.machines) {
      const snapshot = await call('VM.snapshot', ref, `snapshot of ${name}`);
      const cookie = [`Cookie: session_id=${session}`];
      const { body } = await get(pool.url, `/export?ref=${snapshot}`, cookie);
      await check(name, body, disks.map(({ disk }) => digestDisk(disk)).sort());
    }
  } finally {
    await pool.close();
  }
}

for (const [persona, names] of CASES) {
  test(`an independent importer takes what persona ${persona} exports`, async () => {
    await exportAll(persona, names, async (name, archive, digests) => {
      const { vm, disks } = await importXva(once(archive));
      assert.equal(vm.name, `snapshot of ${name}`);
      assert.equal(vm.isATemplate, true, 'a snapshot exported as it is becomes a template');
      assert.deepEqual(disks.map(({ image }) => digestDisk(image)).sort(), digests, name);
    });
  });
}

test('an importer refuses or misreads what the broken persona exports', async () => {
  const wrong: string[] = [];
  await exportAll('broken-26.1.2', FEW, async (name, archive, digests) => {
    try {
      const { disks } = await importXva(once(archive));
      const got = disks.map(({ image }) => digestDisk(image)).sort();
      if (got.join() !== digests.join()) wrong.push(name);
    } catch (error) {
      if (!(error instanceof ImportRefused)) throw error;
      wrong.push(name);
    }
  });
  assert.ok(wrong.includes('mail-01'), 'its disk is no whole number of MiB');
  assert.ok(wrong.includes('db-01'), 'one of its disks is QCOW2');
  assert.ok(!wrong.includes('web-01'));
});
