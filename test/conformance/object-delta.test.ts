/** Deltas and sections against the embedded server, plain and with R2's rules. */
import '../fewer-collections.ts';
import { after, before } from 'node:test';
import { type SimS3, startSimS3 } from '../sim/s3/index.ts';
import { testObjectDelta } from './object-delta.ts';
import { testDeltaFaults } from './object-delta-faults.ts';
import type { ServerUnderTest } from './store-target.ts';

const LONG = process.env.XVAULT_TEST_LONG === '1';

function testEmbedded(
  name: string,
  { equalParts = false, sharedMemory = false }: { equalParts?: boolean; sharedMemory?: boolean },
): void {
  let sim: SimS3;
  before(async () => {
    sim = await startSimS3({ buckets: ['store'], equalParts, etag: 'fast' });
  });
  after(async () => await sim.close());
  const server = (): ServerUnderTest => ({
    ...sim,
    bucket: 'store',
    sharedMemory,
    copyConditions: !equalParts,
    // What is special about cells.
    brief: equalParts && !LONG,
    ...(equalParts ? { provider: 'r2' } : {}),
    expected: {
      conditionalWrites: true,
      conditionalComplete: !equalParts,
      equalParts,
      checksum: !equalParts,
      listUploads: !equalParts,
    },
  });
  testObjectDelta(name, server);
  testDeltaFaults(name, server);
}

testEmbedded('embedded', {});
testEmbedded('embedded with equal parts', { equalParts: true });
testEmbedded('embedded, checksums by a thread', { sharedMemory: true });
