/**
 * The audit: what holds after every scenario, whatever happened in it. One function, no exceptions, no options.
 *
 * - Every job has ended, each failed one with a code of the closed list, a sentence, the mend and whether to try again.
 * - On the pool: no snapshot, no disk of one, no task, no session, no connection, no disk attached to dom0, no operation
 *   under way.
 * - In the bucket: no unfinished upload, no lease, no staging object, no object of the probe.
 * - The listing is exactly the jobs that succeeded, each once; every archive is taken by the independent importer, with
 *   the machine's disks bit for bit.
 * - Where somebody wants to hear of it: each end was told as it was, once, or twice where an instance died, or is owed.
 *
 * What goes by itself has gone first: an instance swept, if one died or a job said that a snapshot stays, and the pool
 * forgot what it drops within a day, if somebody died or an answer was lost.
 */
import assert from 'node:assert/strict';
import { type Backup, isEnded, type Job } from '../../src/catalog/record.ts';
import { ERROR_CODES, type ErrorCode } from '../../src/errors.ts';
import { NEVER } from '../../src/signals.ts';
import { contentDigest } from '../e2e/world.ts';
import { importXva } from '../importer.ts';
import { BUCKET, type Ground, type Instance, PREFIX } from './ground.ts';

/** Connections that are closed are gone a moment later, and dom0 lets disks go. */
const MOMENT_MS = 5000;
const LOOKS = 100;
const SNAPSHOT_TOLD = /may be left on pool/;
const SENTENCE = /^[a-z][^\n]{10,800}$/;
const NO_SENTENCE = /\[object|undefined|session=OpaqueRef| at .*\.ts:/;

/** The sweep leaves younger objects of the probe alone. */
const PROBE_AGE_MS = 61 * 60_000;

export interface Facts {
  /** Whoever is asked for the listing. */
  asked: Instance;
  /** Everybody who took part; those who live leave. */
  all: readonly Instance[];
  /** An instance was killed: what it knew alone is found by a sweep. */
  died: boolean;
  /** A fault struck with which something may stay (`leaves`). */
  left: boolean;
  /** Whoever took part tells. */
  tells?: boolean;
}

/** Reads all records of jobs. */
export function jobsOf({ s3 }: Pick<Ground, 's3'>): Job[] {
  return s3.inspect
    .keys(BUCKET)
    .filter((key) => key.startsWith(`${PREFIX}/jobs/`))
    .map((key) => JSON.parse(s3.inspect.read(BUCKET, key)?.toString('utf8') ?? '') as Job);
}

/** Promises that failed with nobody listening: they would end a real process. */
const unheard: unknown[] = [];
process.on('unhandledRejection', (reason) => unheard.push(reason));

/** Throws when anything is not as it has to be. */
export async function audit(ground: Ground, facts: Facts): Promise<void> {
  const { sim, s3 } = ground;
  assert.deepEqual(unheard.splice(0), [], 'no error that nobody hears');
  const jobs = jobsOf(ground);
  for (const job of jobs) assertEnded(job);
  const told = jobs.some((job) => SNAPSHOT_TOLD.test(saidBy(job)));
  if (facts.died || facts.left || told) await sweep(ground, facts.asked);
  await assertListing(ground, jobs, facts.asked);
  for (const instance of facts.all) await leave(instance);
  if (facts.tells) assertTold(ground, facts);
  for (
    let looks = 0;
    looks < LOOKS && sim.audit().join().includes('open connections');
    looks += 1
  ) {
    await ground.clock.sleep(MOMENT_MS, { signal: NEVER });
  }
  if (facts.died || facts.left) sim.forgetOld();
  const found = [
    ...sim.audit(),
    ...s3.inspect.uploads(BUCKET).map(({ key }) => `unfinished upload ${key}`),
    ...s3.inspect.keys(BUCKET).filter((key) => /^[^/]+\/(leases|staging|probe)\//.test(key)),
  ];
  assert.deepEqual(found, [], 'nothing is left on pool and bucket');
  assert.deepEqual(s3.stats.internalErrors, [], 'the S3 server has no bug');
}

/** Logs out and closes its connections, as a process that is told to stop. */
async function leave({ process, service, pool, store, giveBack }: Instance): Promise<void> {
  if (!process.alive) return;
  await process.run(async () => {
    await service.drain({ drainMs: 0 });
    await pool.close();
    store.close();
  });
  giveBack();
}

function saidBy({ error, result }: Job): string {
  return [error?.detail ?? '', ...(result?.warnings ?? [])].join('\n');
}

function assertEnded(job: Job): void {
  const text = JSON.stringify({ status: job.status, phase: job.phase, error: job.error });
  assert.ok(isEnded(job), `job has ended: ${text}`);
  if (job.status === 'succeeded') {
    assert.equal(job.error, undefined, text);
    assert.ok(job.result, text);
    return;
  }
  assert.ok(job.error, text);
  const { code, detail, title, retry } = job.error;
  assert.equal(title, ERROR_CODES[code as ErrorCode], `the mend of a code of the list: ${text}`);
  assert.match(detail, SENTENCE);
  assert.doesNotMatch(detail, NO_SENTENCE);
  assert.ok(retry, text);
  assert.equal(job.status === 'cancelled', code === 'cancelled', text);
  assert.equal(job.result, undefined, text);
  assert.notEqual(code, 'internal', text);
}

/** Each end was told, or is owed in the record; as it was, after the beginning; twice only by one that took over. */
function assertTold(ground: Ground, { died }: Facts): void {
  for (const job of jobsOf(ground)) {
    const events = ground.told.flatMap(({ about, event }) => (about === job.id ? [event] : []));
    const end = `backup.${job.status}`;
    const ends = events.filter((event) => event !== 'backup.started');
    const owed = job.notifications?.filter((one) => one.owed).map(({ event }) => event) ?? [];
    const text = JSON.stringify({ events, owed, status: job.status });
    assert.deepEqual([...new Set([...ends, ...owed])], [end], text);
    assert.ok(ends.length <= (died ? 2 : 1), text);
    assert.ok(ends.length === 1 || died, text);
    assert.ok(events.lastIndexOf('backup.started') <= 0, text);
  }
}

async function sweep({ clock, s3 }: Ground, { service, process }: Instance): Promise<void> {
  const probes = s3.inspect.keys(BUCKET).some((key) => key.startsWith(`${PREFIX}/probe/`));
  // of an instance that died while it tried the bucket: another might be at it yet
  if (probes) await clock.sleep(PROBE_AGE_MS, { signal: NEVER });
  const report = await process.run(() => service.sweep({ dryRun: false }, { signal: NEVER }));
  assert.deepEqual(report.errors, [], 'the sweep could remove all it found');
}

async function assertListing(ground: Ground, jobs: Job[], asked: Instance): Promise<void> {
  const { service, process } = asked;
  const page = await process.run(() => service.listBackups({ pageSize: 1000 }, { signal: NEVER }));
  const wanted = jobs.flatMap(({ status, result }) => (status === 'succeeded' ? [result?.id] : []));
  assert.deepEqual(
    page.items.map(({ id }) => id).sort(),
    wanted.sort(),
    'listed is what succeeded',
  );
  const records = ground.s3.inspect.keys(BUCKET).filter((key) => key.endsWith('/backup.json'));
  assert.equal(records.length, wanted.length);
  for (const backup of page.items) await assertArchive(ground, backup);
}

async function assertArchive({ s3, sim }: Ground, { archive, vm }: Backup): Promise<void> {
  const bytes = s3.inspect.read(BUCKET, archive.key);
  assert.equal(bytes?.length, archive.size_bytes, `${archive.key} is as long as its record says`);
  const pieces = (async function* () {
    yield bytes as Buffer;
  })();
  const { disks } = await importXva(pieces);
  const want = sim.machine(vm.name).disks.map(({ disk }) => contentDigest(disk));
  assert.deepEqual(disks.map(({ image }) => contentDigest(image)).sort(), want.sort(), vm.name);
}
