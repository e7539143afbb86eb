/**
 * Catalogue calls with 10,000 backups of 100 machines in the bucket: the first after a start, and later ones.
 *
 * `xvault serve` in one process, pool and bucket (embedded S3 server) in another. The first call of each kind is asked of
 * a program just started, so it lists the bucket; later ones are answered while the listing is fresh.
 */
import { median } from './measure.ts';
import type { Bench } from './report.ts';
import { startServe } from './serve.ts';
import { startWorld } from './world.ts';

const BACKUPS = 10_000;
const QUICK_BACKUPS = 1000;
const MACHINES = 100;
const LATER_CALLS = 50;

/** Times list, get and status. */
export const measureCatalog: Bench = async ({ quick, rounds, log }) => {
  const backups = quick ? QUICK_BACKUPS : BACKUPS;
  await using world = await startWorld({ machines: MACHINES, backups });
  log(`${backups} backups are in the bucket`);
  const calls = {
    'GET /v1/backups': '/v1/backups',
    'GET /v1/backups/{id}': `/v1/backups/${world.backupId}`,
    'GET /v1/status': '/v1/status',
  };
  const rows: [string, number, number][] = [];
  for (const [name, path] of Object.entries(calls)) {
    const first: number[] = [];
    const later: number[] = [];
    for (let round = 0; round < rounds; round += 1) {
      await using serving = await startServe(world.env);
      first.push(await timeCall(serving.url + path));
      for (let call = 0; call < LATER_CALLS; call += 1) {
        later.push(await timeCall(serving.url + path));
      }
    }
    rows.push([name, median(first), median(later)]);
    log(name);
  }
  return {
    name: 'catalog',
    tables: [
      {
        title: `Catalogue calls with ${backups} backups of ${MACHINES} machines`,
        columns: ['call', 'first, ms', 'later, ms'],
        rows,
      },
    ],
    targets: [],
    notes: [`Medians of ${rounds} starts, ${LATER_CALLS} later calls after each, one at a time.`],
  };
};

async function timeCall(url: string): Promise<number> {
  const startedAt = performance.now();
  const response = await fetch(url);
  const text = await response.text();
  if (response.status !== 200) throw new Error(`${url} answers ${response.status}: ${text}`);
  return performance.now() - startedAt;
}
