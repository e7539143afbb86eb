/**
 * The bucket in trouble while a backup runs, seen through the HTTP API and with real time-outs: what hangs, outages at the
 * worst moments, and a few of the faults that test/scenarios/ has all of (XVAULT_TEST_LONG=1: more of them).
 */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import type { Fault } from '../sim/s3/index.ts';
import { assertOutcome, type Expected, type FaultWorld, startFaultWorld } from './faults-world.ts';

const LONG = process.env.XVAULT_TEST_LONG === '1';

interface Case {
  what: string;
  /** Also in the default run. */
  short?: true;
  faults: Fault[];
  expected: Expected | 'succeeds';
}

const ARCHIVE = /\.xva$/;
const BUSY = { kind: 'status', status: 503, code: 'SlowDown', retryAfterSeconds: 1 } as const;
const BROKEN = { kind: 'status', status: 500, code: 'InternalError' } as const;
const ALWAYS = Number.POSITIVE_INFINITY;

const PARTS: Case[] = [
  {
    what: 'a storm of 503 over every call',
    short: true,
    faults: [{ effect: BUSY, probability: 0.3, times: 40 }],
    expected: 'succeeds',
  },
  {
    what: 'a part that hangs',
    short: true,
    faults: [{ effect: { kind: 'hang' }, operation: 'UploadPart' }],
    expected: 'succeeds',
  },
  {
    what: 'a part stored one byte short',
    faults: [{ effect: { kind: 'store-short' }, operation: 'UploadPart' }],
    expected: { code: 'data_corrupt', says: /stored|sent/ },
  },
  {
    what: 'the right to write lost in the middle',
    short: true,
    faults: [
      {
        effect: { kind: 'status', status: 403, code: 'AccessDenied' },
        operation: 'UploadPart',
        times: ALWAYS,
      },
    ],
    expected: { code: 'store_credentials', retry: 'after-fix', says: /s3:PutObject/ },
  },
];

const ENDINGS: Case[] = [
  {
    what: 'an upload that somebody aborted',
    short: true,
    faults: [
      {
        effect: { kind: 'status', status: 404, code: 'NoSuchUpload' },
        operation: 'CompleteMultipartUpload',
      },
    ],
    expected: {
      code: 'store_refused',
      retry: 'later',
      says: /aborted by somebody else or by a rule/,
    },
  },
  {
    what: 'a completed object one byte short',
    faults: [
      { effect: { kind: 'store-short' }, operation: 'CompleteMultipartUpload', key: ARCHIVE },
    ],
    expected: { code: 'data_corrupt' },
  },
  {
    what: 'an outage of some seconds when the index is written',
    faults: [{ effect: BROKEN, key: /blocks\.idx$/, times: 8 }],
    expected: 'succeeds',
  },
  {
    what: 'an outage of some seconds when the record is written',
    short: true,
    faults: [{ effect: BROKEN, key: /backup\.json$/, operation: 'PutObject', times: 8 }],
    expected: 'succeeds',
  },
  {
    what: 'job records that cannot be written for a while',
    faults: [{ effect: BROKEN, key: /jobs\//, operation: 'PutObject', skip: 2, times: 4 }],
    expected: 'succeeds',
  },
  {
    what: 'a lease that cannot be deleted at once',
    faults: [{ effect: BROKEN, key: /leases\//, operation: 'DeleteObject', times: 3 }],
    expected: 'succeeds',
  },
];

function testCases(name: string, cases: readonly Case[]): void {
  describe(name, { concurrency: 1 }, () => {
    let world: FaultWorld;
    before(async () => {
      world = await startFaultWorld();
    });
    after(() => world[Symbol.asyncDispose]());
    for (const { what, faults, expected } of cases.filter(({ short }) => LONG || short)) {
      test(what, async () => {
        assert.ok(world.s3);
        const struck = () =>
          Object.values(world.s3?.faults.struck ?? {}).reduce((a, b) => a + b, 0);
        const before = struck();
        for (const fault of faults) world.s3.faults.add(fault);
        await assertOutcome(world, expected);
        assert.ok(struck() > before, 'the fault has struck');
        assert.deepEqual(world.s3.stats.internalErrors, []);
      });
    }
  });
}

describe('faults of the bucket', { concurrency: true }, () => {
  testCases('a backup meets', PARTS);
  testCases('at the end a backup meets', ENDINGS);
});
