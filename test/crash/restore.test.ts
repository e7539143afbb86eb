/**
 * kill -9 in the middle of a restore: the next process removes what is there of it and begins again, and in the end there is
 * exactly one machine, whole, without a mark, and nothing else.
 *
 * The killed one is `xvault restore`, which does the work itself; its heir is `xvault serve`, started when it is dead. The
 * default suite kills at one boundary, with XVAULT_TEST_LONG=1 at all of them.
 */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { Job } from '../../src/catalog/record.ts';
import { NEVER } from '../../src/signals.ts';
import { settingsFor, startProgram } from '../e2e/program.ts';
import { assertSameDisks, openPool } from '../e2e/restore-world.ts';
import { map, type Rec, text } from '../sim/xapi/values.ts';
import { type Cluster, type Seen, startCluster } from './cluster.ts';

const LONG = process.env.XVAULT_TEST_LONG === '1';
const options = { signal: NEVER };
/** As `check` of a cluster: what a killed process may leave. */
const OF_THE_DEAD = /session of|open connections|^task .* (success|failure|cancelled)/;

interface Boundary {
  title: string;
  short?: boolean;
  wish?: string[];
  /** The answer of a call was lost: what it makes carries no mark of ours, and is only told of. */
  unclear?: boolean;
  /** `job` as it was last recorded. */
  at(seen: Seen, job: Job): boolean;
}

const recorded = (phase: string) => (seen: Seen) =>
  seen.job?.phase === phase && seen.job.status === 'running';
const isSending = (_: Seen, job: Job) => (job.checkpoint.restore?.tasks.length ?? 0) > 0;
const after = (name: string) => (seen: Seen) => seen.name === name && seen.done;
const before = (name: string) => (seen: Seen) => seen.name === name && !seen.done;

const BOUNDARIES: Boundary[] = [
  { title: 'phase importing was recorded', at: recorded('importing') },
  { title: 'the task was made and nothing sent', at: before('/import') },
  { title: 'the task was recorded', at: isSending },
  {
    title: 'bytes are on their way',
    at: (seen, job) => isSending(seen, job) && after('GetObject archive')(seen),
    short: true,
  },
  { title: 'the machine is there and nobody knows', at: after('/import') },
  { title: 'phase verifying was recorded', at: recorded('verifying') },
  {
    title: 'the machine was started and nobody knows',
    wish: ['--via', 'stream', '--start'],
    at: after('Async.VM.start'),
  },
  { title: 'phase cleaning was recorded', at: recorded('cleaning') },
  { title: 'the mark is being taken away', at: before('VM.remove_from_other_config') },
  {
    title: 'the host was asked to read the archive by itself',
    wish: ['--via', 'url'],
    at: after('Async.VM.import'),
    unclear: true,
  },
  { title: 'the host reads the archive by itself', wish: ['--via', 'url'], at: isSending },
];

function restoreJob(cluster: Cluster): Job | undefined {
  return cluster.jobs().find(({ kind }) => kind === 'restore');
}

describe('kill -9 in a restore', { concurrency: LONG ? 2 : 1 }, () => {
  for (const boundary of BOUNDARIES.filter(({ short }) => LONG || short)) {
    test(`killed when ${boundary.title}: begun again by another process, once and whole`, async () => {
      await crash(boundary);
    });
  }
});

async function crash({ at, wish = ['--via', 'stream'], unclear }: Boundary): Promise<void> {
  await using cluster = await startCluster();
  const { sim, s3 } = cluster;
  const first = await cluster.start('a');
  const made = await cluster.ended(await first.backUpWhenFree('m0'));
  first.kill();
  await first.program.ended;
  const backup = made.result;
  assert.ok(backup);
  const network = '*=VM network';
  const words = ['restore', backup.id, '--name', 'back', '--network', network, ...wish];
  const victim = startProgram(words, { ...settingsFor(sim, s3), XVAULT_LEASE_SECONDS: '15' });
  let struck = false;
  const unwatch = cluster.watch((seen) => {
    const job = restoreJob(cluster);
    if (struck || job === undefined || !at(seen, job)) return undefined;
    struck = true;
    victim.child.kill('SIGKILL');
    return 'cut';
  });
  await victim.ended;
  unwatch();
  assert.ok(struck, victim.output.err);
  await cluster.expireLeases();
  const heir = await cluster.start('b');
  const { id } = restoreJob(cluster) as Job;
  const job = await cluster.ended(id);
  assert.equal(job.status, 'succeeded', JSON.stringify(job.error));
  assert.equal(cluster.takeovers(id), 1);
  const machines = sim.world.all('VM').filter(([, vm]) => vm.name_label === 'back');
  assert.equal(machines.length, 1, 'one machine of the name');
  const [ref, record] = machines[0] as (typeof machines)[number];
  assert.equal(text(record, 'uuid'), job.restored?.vm?.uuid);
  assert.equal('xvault:restore' in map(record, 'other_config'), false);
  assertSameDisks(sim, ref, sim.machine('m0'));
  await cluster.until('the job to be let go', () => {
    const keys = s3.inspect.keys('backups');
    return !keys.some((key) => key.startsWith('xv/leases/'));
  });
  await using pool = openPool(sim, { name: 'dc1' });
  await pool.removeAgain(ref);
  const told = job.restored?.warnings.some((warning) => /answer was lost/.test(warning));
  assert.equal(told, unclear ?? false);
  const isStray = ([found, vm]: [string, Rec]) =>
    vm.name_label === 'm0' && found !== sim.machine('m0').ref;
  for (const [stray] of sim.world.all('VM').filter(isStray)) await pool.removeAgain(stray);
  heir.kill();
  await heir.program.ended;
  assert.deepEqual(await sim.auditWhenQuiet({ ignore: OF_THE_DEAD }), []);
  assert.deepEqual(await pool.findImported({}, options), []);
}
