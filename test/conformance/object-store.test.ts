/** The suites of the object store against the embedded server, plain and with R2's rules. */
import '../fewer-collections.ts';
import { after, before } from 'node:test';
import { type SimS3, startSimS3 } from '../sim/s3/index.ts';
import { testObjectCopy } from './object-copy.ts';
import { testObjectFaults } from './object-faults.ts';
import { testObjectRead } from './object-read.ts';
import { testRules } from './object-rules.ts';
import { testObjectStore } from './object-store.ts';
import { testObjectUpload } from './object-upload.ts';
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
  testObjectUpload(name, server);
  testObjectFaults(name, server);
  // What sends no parts has no checksums to take.
  if (sharedMemory) return;
  testObjectStore(name, server);
  testObjectCopy(name, server);
  testRules(name, server);
  testObjectRead(name, server);
}

testEmbedded('embedded', {});
testEmbedded('embedded with equal parts', { equalParts: true });
testEmbedded('embedded, checksums by a thread', { sharedMemory: true });
