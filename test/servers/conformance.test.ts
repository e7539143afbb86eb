/**
 * The embedded S3 server is held to the answers of a real Ceph RGW 20, and its R2 mode to those of the local R2.
 *
 * The real servers are held to the same files, so that the files stay true when a server's version moves: Ceph, whose
 * version is Debian's, in every run; the local R2, whose version is in package.json, with XVAULT_TEST_LONG=1. What the
 * store does with R2 is tried on it in every run (test/conformance/real-stores.test.ts, test/e2e/servers.test.ts).
 */

import { after, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { CEPH_DAY_SECONDS, CEPH_KMS_KEY } from './ceph.ts';
import { CHECKS, R2_MODE_CHECKS } from './checks/index.ts';
import { conform, type Expectation } from './conformance.ts';
import { type S3Server, type Skipped, startCeph, startEmbedded, startR2 } from './index.ts';
import type { Trial } from './trial.ts';

const CEPH: Expectation = { file: 'ceph.json' };
const EMBEDDED: Expectation = { file: 'embedded.json', base: CEPH };
const R2: Expectation = { file: 'r2.json', base: CEPH };
const EMBEDDED_AS_R2: Expectation = { file: 'embedded-as-r2.json', base: R2 };

const LONG = process.env.XVAULT_TEST_LONG === '1';
const DAY_MS = 24 * 3600 * 1000;
/** A real gateway runs its rules in the background: given this many of its days to do it. */
const PATIENCE_DAYS = 12;
const POLL_MS = 250;

const running: S3Server[] = [];
after(async () => {
  for (const server of running) await server.stop();
});

function keep<T extends S3Server | Skipped>(server: T): T {
  if (!('skipped' in server)) running.push(server);
  return server;
}

/** Days of the embedded server pass by its clock. */
function createDays(): { clock: { now(): number }; afterDays: Trial['afterDays'] } {
  let offset = 0;
  return {
    clock: { now: () => Date.now() + offset },
    afterDays: async (days, state) => {
      offset += days * DAY_MS;
      return state();
    },
  };
}

/** Days of a real server are waited for; a state that stays wrong is returned as it is. */
const waitDays: Trial['afterDays'] = async (_days, state, wanted) => {
  const until = Date.now() + PATIENCE_DAYS * CEPH_DAY_SECONDS * 1000;
  for (;;) {
    const now = await state();
    if (now === wanted || Date.now() > until) return now;
    await sleep(POLL_MS);
  }
};

test('the embedded server answers as Ceph RGW 20 does', async (t) => {
  const { clock, afterDays } = createDays();
  const server = keep(await startEmbedded({ clock, kmsKeys: [CEPH_KMS_KEY] }));
  await conform(t, server, { checks: CHECKS, expectation: EMBEDDED, afterDays });
});

test('the embedded server in equal-part mode answers as R2 does', async (t) => {
  const { clock, afterDays } = createDays();
  const server = keep(await startEmbedded({ clock, equalParts: true, region: 'auto' }));
  await conform(t, server, { checks: R2_MODE_CHECKS, expectation: EMBEDDED_AS_R2, afterDays });
});

test('Ceph RGW 20 answers as it did', async (t) => {
  const server = keep(await startCeph());
  await conform(t, server, { checks: CHECKS, expectation: CEPH, afterDays: waitDays });
});

test('local R2 answers as it did', async (t) => {
  if (!LONG) return t.skip('in the long form: its version is fixed in package.json');
  const server = keep(await startR2());
  await conform(t, server, { checks: CHECKS, expectation: R2, afterDays: waitDays });
});
