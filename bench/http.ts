/**
 * How fast a job can be polled: GET /v1/jobs/{id} with a token, over HTTP/1.1 with kept connections.
 *
 * The front runs in a process of its own, on a service in memory; what is measured is routing, token check, view,
 * JSON and entity tag. The client's time is in the latency too: they share the machine, as they do in a pod.
 * Run: node bench/http.ts [seconds]
 */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { serve } from '@hono/node-server';
import { Pool } from 'undici';
import type { Service } from '../src/backup/service.ts';
import { systemClock, systemIds } from '../src/clock.ts';
import { createApp } from '../src/http/app.ts';
import type { Log } from '../src/ports.ts';
import { createFakeService } from '../test/http/fake-service.ts';
import { TOKENS } from '../test/http/harness.ts';
import { exampleJob } from '../test/http/records.ts';

const CONNECTIONS = 16;
const WARM_UP_MS = 2000;
const AUTHORIZATION = 'Bearer all-token';

export interface HttpFigures {
  name: string;
  requestsPerSecond: number;
  p50Ms: number;
  p99Ms: number;
  maxMs: number;
  /** CPU of the server's process for one request. */
  cpuMicroseconds: number;
}

/** Measures polling: the whole job, and 304 for one that has not changed. */
export async function measureHttp(seconds: number): Promise<HttpFigures[]> {
  const server = fork(fileURLToPath(import.meta.url), ['--server']);
  try {
    const [{ port }] = (await once(server, 'message')) as [{ port: number }];
    const pool = new Pool(`http://127.0.0.1:${port}`, { connections: CONNECTIONS });
    const path = `/v1/jobs/${exampleJob().id}`;
    const headers = { authorization: AUTHORIZATION };
    const first = await pool.request({ method: 'GET', path, headers });
    const etag = String(first.headers.etag);
    await first.body.dump();
    const figures: HttpFigures[] = [];
    for (const [name, extra] of [
      ['GET job', {}],
      ['GET job, 304', { 'if-none-match': etag }],
    ] as const) {
      const run = { pool, path, headers: { ...headers, ...extra } };
      await hammer({ ...run, ms: WARM_UP_MS });
      const before = await cpuOf(server);
      const times = await hammer({ ...run, ms: seconds * 1000 });
      const cpu = (await cpuOf(server)) - before;
      figures.push({ name, ...summary(times, seconds), cpuMicroseconds: cpu / times.length });
    }
    await pool.close();
    return figures;
  } finally {
    server.kill();
  }
}

interface Hammering {
  pool: Pool;
  path: string;
  headers: Record<string, string>;
  ms: number;
}

/** Asks on every connection as fast as it answers; gives the milliseconds of each request. */
async function hammer({ pool, path, headers, ms }: Hammering): Promise<number[]> {
  const until = performance.now() + ms;
  const times: number[] = [];
  const ask = async () => {
    while (performance.now() < until) {
      const startedAt = performance.now();
      const { statusCode, body } = await pool.request({ method: 'GET', path, headers });
      await body.dump();
      if (statusCode !== 200 && statusCode !== 304) throw new Error(`status ${statusCode}`);
      times.push(performance.now() - startedAt);
    }
  };
  await Promise.all(Array.from({ length: CONNECTIONS }, ask));
  return times;
}

function summary(times: number[], seconds: number) {
  const sorted = times.toSorted((a, b) => a - b);
  const at = (share: number) => sorted[Math.floor((sorted.length - 1) * share)] ?? Number.NaN;
  return {
    requestsPerSecond: times.length / seconds,
    p50Ms: at(0.5),
    p99Ms: at(0.99),
    maxMs: at(1),
  };
}

async function cpuOf(server: ChildProcess): Promise<number> {
  server.send('cpu');
  const [{ cpu }] = (await once(server, 'message')) as [{ cpu: number }];
  return cpu;
}

function runServer(): void {
  const jobs = new Map([[exampleJob().id, exampleJob()]]);
  const service: Service = { ...createFakeService(), getJob: async (id) => jobs.get(id) };
  const quiet = () => undefined;
  const log: Log = { debug: quiet, info: quiet, warn: quiet, error: quiet, child: () => log };
  const app = createApp(
    {
      service,
      idempotency: { run: () => Promise.reject(new Error('not measured')) },
      log,
      clock: systemClock,
      ids: systemIds,
      tokens: TOKENS,
      version: '0.0.0-bench',
    },
    {
      loopbackWithoutToken: false,
      metricsOpen: false,
      concurrency: 4,
      linkSeconds: 3600,
      maxAgeSeconds: 93_600,
    },
  );
  serve({ fetch: app.fetch, port: 0, hostname: '127.0.0.1' }, ({ port }) => {
    process.send?.({ port });
  });
  process.on('message', () => {
    const { user, system } = process.cpuUsage();
    process.send?.({ cpu: user + system });
  });
}

if (process.argv[2] === '--server') runServer();
else if (import.meta.main) {
  const figures = await measureHttp(Number(process.argv[2] ?? 5));
  console.table(
    figures.map((row) => ({ ...row, requestsPerSecond: Math.round(row.requestsPerSecond) })),
  );
}
