/**
 * The service itself: from start to first answer, how fast a job can be polled, how often that asks the bucket.
 *
 * Node keeps compiled code between starts; `first` is a start without it. Polling is measured twice: requests per second
 * on a service in memory (http.ts), and, on the real program, reads of the bucket while 16 clients ask as fast as they can
 * for a job that another instance runs.
 */
import { mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { Pool } from 'undici';
import { measureHttp } from './http.ts';
import { median } from './measure.ts';
import type { Bench, Section } from './report.ts';
import { startServe } from './serve.ts';
import { startWorld, type World } from './world.ts';

const STARTS = 10;
const QUICK_STARTS = 3;
const POLL_SECONDS = 5;
const WARM_UP_SECONDS = 2;
const CLIENTS = 16;
const FIRST_ANSWER_SECONDS = 0.6;
const REQUESTS_PER_SECOND = 2000;
const P99_MS = 20;

/** Starts and polls. */
export const measureService: Bench = async ({ quick, folder, log }) => {
  const section: Section = { name: 'service', tables: [], targets: [], notes: [] };
  await using world = await startWorld({ machines: 1, backups: 1 });
  const cache = join(folder, 'compile-cache');
  mkdirSync(cache, { recursive: true });
  const env = { ...world.env, NODE_COMPILE_CACHE: cache };
  const times: number[] = [];
  for (let start = 0; start <= (quick ? QUICK_STARTS : STARTS); start += 1) {
    await using serving = await startServe(env);
    times.push(serving.firstAnswerMs / 1000);
    log(`start ${start}: ${Math.round(serving.firstAnswerMs)} ms`);
  }
  const [first = Number.NaN, ...later] = times;
  const reads = await countReads(world, env);
  rmSync(cache, { recursive: true });
  log('polled the program');
  const figures = await measureHttp(quick ? 1 : POLL_SECONDS);
  const [polled] = figures;
  section.tables.push(
    {
      title: 'Start of `xvault serve` to the first 200 of /livez',
      columns: ['starts', 'without compiled code, s', 'median, s', 'slowest, s'],
      rows: [[String(later.length), first, median(later), Math.max(...later)]],
    },
    {
      title: 'Polling one job, 16 connections',
      columns: ['request', 'requests/s', 'median ms', 'p99 ms', 'CPU µs'],
      rows: figures.map((row) => [
        row.name,
        row.requestsPerSecond,
        row.p50Ms,
        row.p99Ms,
        row.cpuMicroseconds,
      ]),
    },
    {
      title: 'The same of the real program: reads of the bucket',
      columns: ['requests/s', 'reads of the bucket/s'],
      rows: [[reads.requestsPerSecond, reads.readsPerSecond]],
    },
  );
  const { requestsPerSecond = Number.NaN, p99Ms = Number.NaN } = polled ?? {};
  section.targets.push(
    {
      name: 'start to first answer, s',
      value: median(later),
      limit: FIRST_ANSWER_SECONDS,
      kind: 'most',
    },
    {
      name: 'GET job: requests/s',
      value: requestsPerSecond,
      limit: REQUESTS_PER_SECOND,
      kind: 'least',
    },
    { name: 'GET job: p99 ms', value: p99Ms, limit: P99_MS, kind: 'most' },
    { name: 'GET job: reads of the bucket/s', value: reads.readsPerSecond, limit: 1, kind: 'most' },
  );
  return section;
};

async function countReads(world: World, env: NodeJS.ProcessEnv) {
  await using serving = await startServe(env);
  const pool = new Pool(serving.url, { connections: CLIENTS });
  const path = `/v1/jobs/${world.jobId}`;
  const ask = async () => {
    const { statusCode, body } = await pool.request({ method: 'GET', path });
    await body.dump();
    if (statusCode !== 200) throw new Error(`${path} answers ${statusCode}`);
  };
  const poll = async (seconds: number) => {
    const until = performance.now() + seconds * 1000;
    let requests = 0;
    const client = async () => {
      for (; performance.now() < until; requests += 1) await ask();
    };
    await Promise.all(Array.from({ length: CLIENTS }, client));
    return requests;
  };
  // The start itself looks for jobs of dead instances: not counted.
  await poll(WARM_UP_SECONDS);
  const before = await readsOf(world);
  const startedAt = performance.now();
  const requests = await poll(POLL_SECONDS);
  const seconds = (performance.now() - startedAt) / 1000;
  const reads = (await readsOf(world)) - before;
  await pool.close();
  return { requestsPerSecond: requests / seconds, readsPerSecond: reads / seconds };
}

async function readsOf(world: World): Promise<number> {
  const { GetObject = 0, HeadObject = 0 } = await world.requests();
  return GetObject + HeadObject;
}
