/**
 * The front door in workerd: Miniflare with a bucket, which the tests reach over its S3 endpoint as an engine would, and a
 * stand-in for the engines that tells this process what it is asked.
 */
import { createHash } from 'node:crypto';
import { convertV4MiniflareOptions, Miniflare, Response as MiniflareResponse } from 'miniflare';
import { createArena } from '../../src/arena.ts';
import { createService } from '../../src/backup/create-service.ts';
import { createIdempotency } from '../../src/catalog/idempotency.ts';
import { createKeys } from '../../src/catalog/keys.ts';
import { systemClock, systemIds } from '../../src/clock.ts';
import { ARENA_UNIT_BYTES } from '../../src/commands/wire.ts';
import { createApp } from '../../src/http/app.ts';
import { SILENT_LOG as log } from '../../src/log.ts';
import type { ObjectStore } from '../../src/ports.ts';
import { createS3Store } from '../../src/s3/store.ts';
import { findPorts } from '../servers/daemon.ts';
import { bundle, readConfig } from './bundle.ts';

export const TOKEN = 'a-token-of-the-tests';
export const READ_TOKEN = 'one-that-only-reads';
export const SECRET = 'a secret of sixteen characters';
const BUCKET = 'xvault';
const CREDENTIALS = { accessKeyId: 'local', secretAccessKey: 'local-secret' };
const RETENTION = { daily: 14, weekly: 60 };
const METER = { count: () => {}, observe: () => {} };

export const TOKENS = [
  { name: 'reader', sha256: sha256(READ_TOKEN), scopes: ['read' as const] },
  { name: 'token', sha256: sha256(TOKEN), scopes: ['backup', 'read', 'admin'] as const },
];

/** What the stand-in was asked. */
export interface Asked {
  engine: string;
  method: string;
  path: string;
  headers: Record<string, string>;
  body: Buffer;
}

/** The whole Worker, but for the class Engine. */
const SOURCE = `
export { default } from '../../src/worker.ts';
export class Engine {
  constructor(state, env) { this.name = state.id.name; this.env = env; }
  async fetch(request) {
    const headers = new Headers(request.headers);
    headers.set('x-engine', this.name ?? '');
    return await this.env.TELL.fetch(new Request(request, { headers }));
  }
}
`;

export type FrontWorld = Awaited<ReturnType<typeof startFrontWorld>>;

/** Starts it. */
export async function startFrontWorld() {
  const asked: Asked[] = [];
  const script = await bundle({ source: SOURCE });
  const config = readConfig();
  // settings name the endpoint, which is Miniflare's own: it must be known before
  const port = await findPorts(1);
  const endpoint = `http://127.0.0.1:${port}/cdn-cgi/local/r2/s3`;
  const world = {
    /** The engines cannot be had; a text is their Retry-After. */
    refuse: false as boolean | string,
    /** Called with each request that comes, after it was decided what it gets. */
    onAsked: (_asked: Asked) => {},
  };
  const lines: string[] = [];
  const optionsWith = (bindings: Record<string, string>) =>
    convertV4MiniflareOptions({
      host: '127.0.0.1',
      handleStructuredLogs: ({ message }: { message: string }) => lines.push(message),
      port,
      modules: script.modules,
      compatibilityDate: config.compatibility_date as string,
      compatibilityFlags: config.compatibility_flags as string[],
      bindings: {
        XVAULT_BUCKET: BUCKET,
        XVAULT_PREFIX: 'xv',
        XVAULT_S3_ENDPOINT: endpoint,
        AWS_ACCESS_KEY_ID: CREDENTIALS.accessKeyId,
        AWS_SECRET_ACCESS_KEY: CREDENTIALS.secretAccessKey,
        XVAULT_TOKEN: TOKEN,
        XVAULT_TOKENS: JSON.stringify(TOKENS.slice(0, 1)),
        XVAULT_RETENTION_DAYS: JSON.stringify(RETENTION),
        XVAULT_HOOK_GITHUB_SECRET: SECRET,
        XVAULT_HOOK_SLACK_SECRET: SECRET,
        XVAULT_LOG_LEVEL: 'warn',
        ...bindings,
      },
      r2Buckets: {
        BUCKET: { id: BUCKET, s3Credentials: CREDENTIALS },
        STATE_BUCKET: { id: 'state', s3Credentials: CREDENTIALS },
      },
      durableObjects: { ENGINE: { className: 'Engine', useSQLite: true } },
      serviceBindings: {
        TELL: async (request: Request) => {
          const one = {
            engine: request.headers.get('x-engine') ?? '',
            method: request.method,
            path: new URL(request.url).pathname,
            headers: Object.fromEntries(request.headers),
            body: Buffer.from(await request.arrayBuffer()),
          };
          asked.push(one);
          const { refuse } = world;
          world.onAsked(one);
          if (refuse === false) {
            const headers = { 'x-engine': 'said so' };
            return new MiniflareResponse('{}', { status: 202, headers });
          }
          const headers = typeof refuse === 'string' ? { 'retry-after': refuse } : {};
          return new MiniflareResponse('{}', { status: 503, headers });
        },
      },
    } as unknown as Parameters<typeof convertV4MiniflareOptions>[0]);
  const miniflare = new Miniflare(optionsWith({}));
  const url = await miniflare.ready;
  const arena = createArena({ totalBytes: 16 * ARENA_UNIT_BYTES, unitBytes: ARENA_UNIT_BYTES });
  const store = createS3Store(
    {
      endpoint,
      bucket: BUCKET,
      prefix: 'xv',
      provider: 'r2',
      region: 'auto',
      credentials: CREDENTIALS,
    },
    { clock: systemClock, log, arena, meter: METER },
  );
  return Object.assign(world, {
    miniflare,
    endpoint,
    store,
    asked,
    /** What it logs. */
    lines,
    /** With these put over its settings. */
    restart: async (bindings: Record<string, string>) =>
      await miniflare.setOptions(optionsWith(bindings)),
    /** A request to the Worker. */
    front: async (path: string, init: RequestInit = {}) =>
      (await miniflare.dispatchFetch(
        new URL(path, url),
        init as Parameters<Miniflare['dispatchFetch']>[1],
      )) as unknown as Response,
    /** The same request to a process of Node. */
    node: createNode(store, url),
    close: async () => {
      store.close();
      await miniflare.dispose();
    },
  });
}

/** What `serve` would answer over the same bucket, from S3. */
function createNode(store: ObjectStore, url: URL) {
  const shared = { clock: systemClock, ids: systemIds, log };
  const service = createService(
    { ...shared, pools: [], store, stateStore: store, meter: METER },
    {
      prefix: 'xv',
      concurrency: 4,
      concurrencyPerPool: 2,
      concurrencyPerSr: 1,
      queueLimit: 100,
      retentionClasses: Object.keys(RETENTION),
      retentionDays: RETENTION,
      instance: 'node',
      poolsElsewhere: true,
    },
  );
  const idempotency = createIdempotency({ ...shared, store, keys: createKeys('xv') });
  const app = createApp(
    { ...shared, service, idempotency, tokens: TOKENS, version: '0.1.0' },
    {
      loopbackWithoutToken: false,
      metricsOpen: false,
      concurrency: 4,
      linkSeconds: 3600,
      maxAgeSeconds: 93_600,
    },
  );
  return async (path: string, init: RequestInit = {}) =>
    await app.fetch(new Request(new URL(path, url), init));
}

function sha256(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}
