/**
 * The suites of the object store against real servers: Ceph RGW (http), and the local R2 for what equal parts make
 * different. With XVAULT_TEST_LONG=1 all of them on both, else Ceph has a few of each, and the local R2 what
 * it does with objects and parts: how we read, and our proxy's faults, are tried on the embedded server in its R2 mode.
 *
 * A machine that cannot have one skips its suites and says why.
 */
import '../fewer-collections.ts';
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { type S3Server, type Skipped, startCeph, startR2 } from '../servers/index.ts';
import { testObjectCopy } from './object-copy.ts';
import { testObjectDelta } from './object-delta.ts';
import { testDeltaFaults } from './object-delta-faults.ts';
import { testObjectFaults } from './object-faults.ts';
import { testObjectRead } from './object-read.ts';
import { testRules } from './object-rules.ts';
import { testObjectStore } from './object-store.ts';
import { testObjectUpload } from './object-upload.ts';
import { BRIEF, openRig, type ServerUnderTest } from './store-target.ts';

const LONG = process.env.XVAULT_TEST_LONG === '1';

function testReal(
  name: string,
  start: () => Promise<S3Server | Skipped>,
  rules: Pick<ServerUnderTest, 'expected' | 'provider' | 'slow' | 'brief'>,
): void {
  describe(name, () => {
    let server: S3Server | undefined;
    let target: ServerUnderTest | undefined;
    let reason = '';
    before(async () => {
      const started = await start();
      if ('skipped' in started) {
        reason = started.skipped;
        return;
      }
      server = started;
      target = { ...started, bucket: await started.createBucket('store'), ...rules };
    });
    after(async () => await server?.stop());
    const get = () => target ?? { skipped: reason };
    testObjectStore(name, get);
    testObjectCopy(name, get);
    testRules(name, get);
    // Faults are our proxy's, orders of sections and memory our arithmetic: of those a few on a real server.
    const few = () => (target === undefined ? { skipped: reason } : { ...target, brief: !LONG });
    testObjectUpload(name, few);
    testObjectDelta(name, few);
    const alike = () => (target?.brief ? { skipped: BRIEF } : few());
    testObjectRead(name, alike);
    testObjectFaults(name, alike);
    testDeltaFaults(name, alike);

    test('a bucket with object lock (so versioned) is not trusted with leases', async (t) => {
      if (server === undefined || target === undefined) return t.skip(reason);
      if (name !== 'ceph') return t.skip('no object lock here');
      const bucket = await server.createBucket('locked', { objectLock: true });
      await using rig = await openRig({ ...target, bucket }, {}, { asks: true });
      const { signal } = new AbortController();
      assert.equal((await rig.store.facts({ signal })).conditionalWrites, false);
    });
  });
}

testReal('ceph', startCeph, {
  expected: {
    conditionalWrites: true,
    conditionalComplete: true,
    equalParts: false,
    checksum: true,
    listUploads: true,
  },
});

testReal('local r2', startR2, {
  provider: 'r2',
  slow: true,
  brief: !LONG,
  expected: {
    conditionalWrites: true,
    conditionalComplete: false,
    equalParts: true,
    checksum: false,
    listUploads: false,
  },
});
