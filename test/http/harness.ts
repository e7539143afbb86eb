/** The HTTP front on a fake service, a bucket in memory and a clock that only moves when told to. */
import { createHash } from 'node:crypto';
import { createIdempotency } from '../../src/catalog/idempotency.ts';
import { createKeys } from '../../src/catalog/keys.ts';
import { type AppDeps, type AppSettings, createApp, type TokenTable } from '../../src/http/app.ts';
import { SCOPES } from '../../src/http/auth.ts';
import { readingHalf } from '../../src/http/elsewhere.ts';
import type { Log } from '../../src/ports.ts';
import { createSimClock } from '../sim/clock.ts';
import { createMemoryStore } from '../sim/memory-store.ts';
import { createFakeService } from './fake-service.ts';

/** One token for each scope, called like it, one with all and one with none. */
export const TOKENS: TokenTable = [
  ...SCOPES.map((scope) => ({ name: scope, sha256: sha256(`${scope}-token`), scopes: [scope] })),
  { name: 'nightly', sha256: sha256('all-token'), scopes: SCOPES },
  { name: 'idle', sha256: sha256('idle-token'), scopes: [] },
];

export const ALL = { authorization: 'Bearer all-token' };

/** A fresh app; `lines` collects its log. */
export function createHarness(
  settings: Partial<AppSettings> = {},
  tokens: TokenTable = TOKENS,
  more: Pick<AppDeps, 'reply' | 'elsewhere' | 'tellsChat'> = {},
) {
  const clock = createSimClock();
  const service = createFakeService();
  const store = createMemoryStore(clock);
  const lines: { level: string; message: string; fields: Record<string, unknown> }[] = [];
  let made = 0;
  const ids = { uuid: () => `019aaf4a-0000-7000-9000-${String(++made).padStart(12, '0')}` };
  const log = collectingLog(lines);
  const idempotency = createIdempotency({ store, keys: createKeys('x'), clock, ids, log });
  const app = createApp(
    {
      service: more.elsewhere === undefined ? service : readingHalf(service),
      idempotency,
      log,
      clock,
      ids,
      tokens,
      version: '0.0.0-test',
      ...more,
      metrics: async () => ({ body: 'xvault_up 1\n', contentType: 'text/plain; version=0.0.4' }),
    },
    {
      loopbackWithoutToken: false,
      metricsOpen: false,
      concurrency: 4,
      linkSeconds: 3600,
      maxAgeSeconds: 93_600,
      ...settings,
    },
  );
  const request = async (
    method: string,
    path: string,
    { headers = ALL, body }: { headers?: Record<string, string>; body?: string } = {},
  ): Promise<Response> =>
    await app.request(path, { method, headers, ...(body === undefined ? {} : { body }) });
  const post = (path: string, value: unknown, headers: Record<string, string> = {}) =>
    request('POST', path, {
      headers: { ...ALL, 'content-type': 'application/json', ...headers },
      body: JSON.stringify(value),
    });
  const get = (path: string, headers: Record<string, string> = {}) =>
    request('GET', path, { headers: { ...ALL, ...headers } });
  return { app, service, store, clock, lines, request, post, get };
}

function sha256(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}

function collectingLog(
  lines: { level: string; message: string; fields: Record<string, unknown> }[],
): Log {
  const at =
    (level: string) =>
    (message: string, fields: Readonly<Record<string, unknown>> = {}) => {
      lines.push({ level, message, fields });
    };
  const log: Log = {
    debug: at('debug'),
    info: at('info'),
    warn: at('warn'),
    error: at('error'),
    child: () => log,
  };
  return log;
}
