/**
 * Leases and the whole engine against every S3 server there is: embedded (over https), real Ceph RGW, and the local R2,
 * which insists on parts of equal size. Ceph has all machines; the others, in the default run, those that the tests of
 * the embedded server over http (backup.test.ts, delta.test.ts) do not stand in for.
 *
 * A machine that cannot have a server skips its part and says why.
 */
import '../fewer-collections.ts';
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { testLeases } from '../conformance/lease.ts';
import { importXva } from '../importer.ts';
import {
  type S3Server,
  type Skipped,
  startCeph,
  startEmbedded,
  startR2,
} from '../servers/index.ts';
import { assertDaysRestore, LIVING } from './delta-days.ts';
import { assertSameBytes, createDraw, createLab, writeNoise } from './delta-world.ts';
import { contentDigest, readObject, startWorld, type TestWorld } from './world.ts';

const isLong = process.env.XVAULT_TEST_LONG !== undefined;

const PERSONAS = ['8.0', '8.2', '8.3', 'xs9'] as const;

/** Several disks, an odd size, no disk at all, little in much. */
const MACHINES = ['db-01', 'mail-01', 'pxe-kiosk', 'web-01', 'archive-01'];

interface Wish {
  provider?: string;
  /** Of the default run. */
  machines?: readonly string[];
  deltas?: boolean;
}

function testServer(
  name: string,
  start: () => Promise<S3Server | Skipped>,
  { provider, machines = MACHINES, deltas = true }: Wish = {},
): void {
  describe(`engine and leases on ${name}`, () => {
    let server: S3Server | undefined;
    let world: TestWorld | undefined;
    let skipped = '';
    before(async () => {
      const started = await start();
      if ('skipped' in started) {
        skipped = started.skipped;
        return;
      }
      server = started;
      world = await startWorld({ store: await settingsFor(started, provider) });
    });
    after(async () => {
      await world?.[Symbol.asyncDispose]();
      await server?.stop();
    });

    testLeases(name, () => world?.store ?? { skipped });

    test(`${name}: machines are backed up at once, import bit for bit, and nothing is left`, async (t) => {
      if (world === undefined) return t.skip(skipped);
      const { sim, store, audit, backup } = world;
      const jobs = await Promise.all((isLong ? MACHINES : machines).map((vm) => backup(vm)));
      for (const job of jobs) {
        assert.equal(job.status, 'succeeded', JSON.stringify(job.error));
        const imported = await importXva(readObject(store, job.result?.archive.key ?? ''));
        const disks = sim.machine(job.vm.name).disks;
        const want = disks.map(({ userdevice, disk }) => [userdevice, contentDigest(disk)]);
        const got = imported.disks.map(({ userdevice, image }) => [
          userdevice,
          contentDigest(image),
        ]);
        assert.deepEqual(Object.fromEntries(got), Object.fromEntries(want), job.vm.name);
      }
      assert.deepEqual(await audit(), []);
    });

    test(`${name}: a delta and a full of the same snapshot have the same bytes`, async (t) => {
      if (world === undefined) return t.skip(skipped);
      if (!(isLong || deltas)) return t.skip('in the long run');
      await assertSameBytes(createLab(world, 'web-01'), { seed: 41, rounds: 1 });
    });

    for (const persona of PERSONAS) {
      test(`${name}: so have those of a pool of version ${persona}`, async (t) => {
        if (server === undefined) return t.skip(skipped);
        if (!isLong) return t.skip('in the long run');
        await using other = await startWorld({
          store: await settingsFor(server, provider),
          pool: { persona, seed: 29, machines: [LIVING] },
        });
        await assertSameBytes(createLab(other, 'living'), { seed: 47, rounds: 2 });
      });
    }

    test(`${name}: so have compressed ones`, { skip: !isLong && 'in the long run' }, async (t) => {
      if (world === undefined) return t.skip(skipped);
      const lab = createLab(world, 'web-01');
      // else too little is left to be copied
      for (const disk of lab.machine.disks)
        writeNoise(disk, { offset: 0, bytes: 24 * 1_048_576 }, createDraw(3));
      const wish = { seed: 43, rounds: 1, compression: 'zstd', leastCopiedBytes: 1 } as const;
      await assertSameBytes(lab, wish);
    });

    test(`${name}: thirty days restore each alone`, async (t) => {
      if (server === undefined) return t.skip(skipped);
      if (!isLong) return t.skip('in the long run');
      await using days = await startWorld({
        store: await settingsFor(server, provider),
        pool: { seed: 23, machines: [LIVING] },
      });
      await assertDaysRestore(createLab(days, 'living'), { seed: 51, days: 30 });
    });
  });
}

async function settingsFor(server: S3Server, provider?: string) {
  const { accessKeyId, secretAccessKey, region, endpoint, endpointTls, caPem } = server;
  return {
    bucket: await server.createBucket('engine'),
    prefix: 'xv',
    endpoint: endpointTls ?? endpoint,
    caPem,
    region,
    pathStyle: true,
    credentials: { accessKeyId, secretAccessKey },
    provider,
  };
}

testServer('embedded over https', startEmbedded, {
  machines: ['db-01', 'pxe-kiosk'],
  deltas: false,
});
testServer('ceph', startCeph);
// a delta made of cells: embedded in delta.test.ts, on the local R2 itself in test/conformance/real-stores.test.ts
testServer('local r2', startR2, {
  provider: 'r2',
  machines: ['db-01', 'mail-01', 'pxe-kiosk'],
  deltas: false,
});
