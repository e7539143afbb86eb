/**
 * A service over a fleet: many scripted machines, a bucket in memory, simulated time, the real engine and HTTP front.
 *
 * For what number and hours do: the wire is not the point here, so an export is the machine's configuration after as
 * much simulated time as a test wants.
 */
import { createHash } from 'node:crypto';
import { createService, type ServiceSettings } from '../../src/backup/create-service.ts';
import { createIdempotency } from '../../src/catalog/idempotency.ts';
import { createKeys } from '../../src/catalog/keys.ts';
import { systemIds } from '../../src/clock.ts';
import { createApp } from '../../src/http/app.ts';
import { SILENT_LOG } from '../../src/log.ts';
import { createMetrics } from '../../src/metrics.ts';
import type { Meter, Pool, VmRef, VmState } from '../../src/ports.ts';
import { NEVER } from '../../src/signals.ts';
import { createScriptedPool, type ScriptedPool } from '../backup/scripted-pool.ts';
import { createSimClock, type SimClock } from '../sim/clock.ts';
import { createMemoryStore, type MemoryStore } from '../sim/memory-store.ts';

export const keys = createKeys('xv');
const TOKEN = 'token-of-the-fleet';

export interface Fleet {
  clock: SimClock;
  store: MemoryStore;
  pool: ScriptedPool;
  service: ReturnType<typeof createService>;
  /** Machines `vm-000`, `vm-001` …, with their uuids. */
  vms: readonly { name: string; uuid: string }[];
  /** Jobs at work, waiting, and the most that were at a time, as the meter was told. */
  gauges: { running: number; queued: number; mostRunning: number; mostQueued: number };
  /** Calls of the pool's listings, which cost a pool most. */
  listings(): number;
  call(method: string, path: string, body?: object): Promise<Response>;
}

/** Builds it; nothing runs yet. */
export async function createFleet(
  { machines, exportMs }: { machines: number; exportMs: () => number },
  settings: Partial<ServiceSettings> = {},
): Promise<Fleet> {
  const clock = createSimClock();
  const store = createMemoryStore(clock);
  const { put } = store;
  store.put = async (...input) => {
    // no bucket answers at once: others come in between
    await new Promise((resolve) => setImmediate(resolve));
    return await put(...input);
  };
  const scripted = createScriptedPool();
  const [template] = (await scripted.listVms({ signal: NEVER })) as VmState[];
  const vms = Array.from({ length: machines }, (_, at) => machineOf(template as VmState, at));
  let listed = 0;
  const pool: Pool = {
    ...scripted,
    listVms: async () => {
      listed += 1;
      return vms;
    },
    findVms: async (wanted) =>
      vms.filter(({ uuid, nameLabel }) => [uuid, nameLabel].includes(wanted)),
    inspectVm: async (ref) => vms.find((vm) => vm.ref === ref) as VmState,
    openExport: async (input, options) => {
      await clock.sleep(exportMs(), options);
      return await scripted.openExport(input, options);
    },
  };
  const gauges = { running: 0, queued: 0, mostRunning: 0, mostQueued: 0 };
  const metrics = createMetrics({ clock, version: '0' });
  const meter: Meter = {
    observe: metrics.meter.observe,
    count: (name, value, labels) => {
      metrics.meter.count(name, value, labels);
      if (name === 'jobs_running') gauges.running += value;
      if (name === 'jobs_queued') gauges.queued += value;
      gauges.mostRunning = Math.max(gauges.mostRunning, gauges.running);
      gauges.mostQueued = Math.max(gauges.mostQueued, gauges.queued);
    },
  };
  const shared = { clock, ids: systemIds, log: SILENT_LOG };
  const service = createService(
    { ...shared, pools: [pool], store, stateStore: store, meter },
    {
      prefix: 'xv',
      concurrency: 16,
      concurrencyPerPool: 16,
      concurrencyPerSr: 16,
      queueLimit: 1000,
      retentionClasses: ['daily'],
      instance: 'fleet',
      ...settings,
    },
  );
  const sha256 = createHash('sha256').update(TOKEN).digest('hex');
  const app = createApp(
    {
      ...shared,
      service,
      idempotency: createIdempotency({ ...shared, store, keys }),
      metrics: metrics.render,
      tokens: [{ name: 'fleet', sha256, scopes: ['read', 'backup', 'admin'] }],
      version: '0',
    },
    {
      loopbackWithoutToken: false,
      metricsOpen: false,
      concurrency: 16,
      linkSeconds: 3600,
      maxAgeSeconds: 93_600,
    },
  );
  return {
    clock,
    store,
    pool: scripted,
    service,
    vms: vms.map(({ nameLabel: name, uuid }) => ({ name, uuid })),
    gauges,
    listings: () => listed,
    call: async (method, path, body) =>
      await app.request(path, {
        method,
        headers: { authorization: `Bearer ${TOKEN}`, 'content-type': 'application/json' },
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      }),
  };
}

function machineOf(template: VmState, at: number): VmState {
  const number = String(at).padStart(3, '0');
  return {
    ...template,
    ref: `OpaqueRef:vm-${number}` as VmRef,
    uuid: `00000000-0000-4000-8000-${number.padStart(12, '0')}`,
    nameLabel: `vm-${number}`,
  };
}
