/**
 * One small machine, the real service and the real listener, on a clock that runs eight times faster: a backup that takes half a
 * minute on the page, with its progress written every two seconds, is over in a few.
 */
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { createIdempotency } from '../../src/catalog/idempotency.ts';
import { createKeys } from '../../src/catalog/keys.ts';
import { systemClock, systemIds } from '../../src/clock.ts';
import { createListener } from '../../src/commands/listener.ts';
import { createApp } from '../../src/http/app.ts';
import { SILENT_LOG } from '../../src/log.ts';
import type { Clock } from '../../src/ports.ts';
import { startWorld } from '../e2e/world.ts';
import { createGeneratedDisk } from '../sim/disk.ts';

const FACTOR = 8;
const MIB = 1_048_576;
/** In the middle of the export the host is silent until all was looked at, however slow the browser is. */
const SILENCE = { afterBytes: 6 * MIB, silentMs: 60_000 };

/** Time of day and durations alike: what is computed from records is right, too. */
function createQuickClock(): Clock {
  const [nowMs, elapsedMs] = [systemClock.now(), systemClock.elapsed()];
  const passed = () => (systemClock.elapsed() - elapsedMs) * FACTOR;
  return {
    now: () => nowMs + passed(),
    elapsed: passed,
    sleep: (ms, options) => systemClock.sleep(ms / FACTOR, options),
  };
}

/** Listens on a free loopback port; nobody needs a token. The machine is `web-1`. */
export async function startLiveWorld() {
  const open = () => createGeneratedDisk({ sizeBytes: 16 * MIB, seed: 5, density: 0.9 });
  const disks = [{ name: 'root', storage: 'nfs' as const, open, bootable: true }];
  const world = await startWorld({
    pool: { machines: [{ name: 'web-1', power: 'Running', disks }] },
  });
  const spoken = new AbortController();
  world.sim.faults.set('export-silent', { ...SILENCE, until: spoken.signal });
  const clock = createQuickClock();
  const service = world.secondService({ clock });
  const shared = { clock, ids: systemIds, log: SILENT_LOG };
  const idempotency = createIdempotency({ ...shared, store: world.store, keys: createKeys('xv') });
  const app = createApp(
    { ...shared, service, idempotency, tokens: [], version: '0.0.0-test' },
    {
      loopbackWithoutToken: true,
      metricsOpen: false,
      concurrency: 4,
      linkSeconds: 3600,
      maxAgeSeconds: 93_600,
    },
  );
  const listener = createListener({ fetch: app.fetch, log: SILENT_LOG, clock });
  listener.listen(0, '127.0.0.1');
  await once(listener, 'listening');
  return {
    /** Ends the silence. */
    goOn: () => spoken.abort(),
    origin: `http://127.0.0.1:${(listener.address() as AddressInfo).port}`,
    [Symbol.asyncDispose]: async () => {
      spoken.abort();
      listener.closeAllConnections();
      listener.close();
      await service.drain({ drainMs: 0 });
      await world[Symbol.asyncDispose]();
    },
  };
}
