/**
 * The HTTP API over a whole test world: what a user with curl meets.
 *
 * The app is the real one over the real service; only the socket is left out (test/http/socket.test.ts has it).
 */
import { createHash } from 'node:crypto';
import { createIdempotency } from '../../src/catalog/idempotency.ts';
import { createKeys } from '../../src/catalog/keys.ts';
import type { Problem } from '../../src/catalog/record.ts';
import { systemClock, systemIds } from '../../src/clock.ts';
import { createApp } from '../../src/http/app.ts';
import { SCOPES } from '../../src/http/auth.ts';
import type { JobView } from '../../src/http/views.ts';
import { createMetrics } from '../../src/metrics.ts';
import { startWorld, type TestWorld, type WorldOptions } from './world.ts';

/** May do all but restore. */
export const TOKEN = 'token-of-the-nightly-schedule';
/** May only read. */
export const READ_TOKEN = 'token-of-the-monitoring';

export interface Answered {
  status: number;
  headers: Headers;
  text: string;
  /** The body as JSON. */
  json<T = Record<string, unknown>>(): T;
  problem(): Problem & { links?: { job?: string } };
}

export interface HttpWorld extends TestWorld {
  /** The app itself, for a socket. */
  fetch(request: Request): Response | Promise<Response>;
  call(
    method: string,
    path: string,
    input?: { body?: unknown; raw?: string; headers?: Record<string, string>; token?: string },
  ): Promise<Answered>;
  /** POST and wait for the end; the job as the API shows it. */
  run(vm: string, body?: object): Promise<JobView>;
  /** Ids of the complete backups of a machine, newest first. */
  backupsOf(vm: string): Promise<string[]>;
}

/** Starts a world and the API over its service. */
export async function startHttpWorld(options: WorldOptions = {}): Promise<HttpWorld> {
  const figures = () => Promise.resolve({ machines: [], pools: [], goneAtRisk: 0 });
  const metrics = createMetrics({ clock: systemClock, version: '0.0.0-test', figures });
  const service = { catalogTtlMs: 0, ...options.service };
  const world = await startWorld({ meter: metrics.meter, ...options, service });
  const app = createTestApp(world, metrics.render);
  const call: HttpWorld['call'] = async (method, path, input = {}) => {
    const { body, token = TOKEN } = input;
    const text = input.raw ?? (body === undefined ? undefined : JSON.stringify(body));
    const headers = {
      ...(token === '' ? {} : { authorization: `Bearer ${token}` }),
      ...(text === undefined ? {} : { 'content-type': 'application/json' }),
      ...input.headers,
    };
    const request = { method, headers, ...(text === undefined ? {} : { body: text }) };
    return await answered(await app.request(path, request));
  };
  return Object.assign(world, {
    fetch: (request: Request) => app.fetch(request),
    call,
    run: async (vm: string, body: object = {}) => {
      const path = `/v1/vms/${encodeURIComponent(vm)}/backups`;
      const begun = await call('POST', path, { body, headers: { prefer: 'wait=55' } });
      if (begun.status >= 300) throw new Error(`${begun.status} ${begun.text}`);
      return begun.json<JobView>();
    },
    backupsOf: async (vm: string) => {
      const page = await call('GET', `/v1/vms/${encodeURIComponent(vm)}/backups`);
      return page.json<{ backups: { id: string }[] }>().backups.map(({ id }) => id);
    },
  });
}

function createTestApp(
  world: TestWorld,
  metrics: () => Promise<{ body: string; contentType: string }>,
) {
  const shared = { clock: systemClock, ids: systemIds, log: world.log };
  const idempotency = createIdempotency({ ...shared, store: world.store, keys: createKeys('xv') });
  const all = SCOPES.filter((scope) => scope !== 'restore');
  const tokens = [
    { name: 'nightly', sha256: sha256(TOKEN), scopes: all },
    { name: 'monitoring', sha256: sha256(READ_TOKEN), scopes: ['read' as const] },
  ];
  const { service } = world;
  return createApp(
    { ...shared, service, idempotency, metrics, tokens, version: '0.0.0-test' },
    {
      loopbackWithoutToken: false,
      metricsOpen: false,
      concurrency: 4,
      linkSeconds: 3600,
      maxAgeSeconds: 93_600,
    },
  );
}

async function answered(response: Response): Promise<Answered> {
  const text = await response.text();
  return {
    status: response.status,
    headers: response.headers,
    text,
    json: () => JSON.parse(text),
    problem: () => JSON.parse(text),
  };
}

function sha256(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}
