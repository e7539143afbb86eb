/**
 * Several instances on one bucket, killed at random while requests keep coming: no machine is backed up twice at once,
 * no job is lost, and the listing is exactly the complete backups. Two instances alone are in the long form: what they
 * do to each other, five do as well.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isEnded } from '../../src/catalog/record.ts';
import { type Cluster, type Instance, machines, startCluster } from './cluster.ts';
import { createRandom, type Random } from './random.ts';

const LONG = process.env.XVAULT_TEST_LONG === '1';

interface Storm {
  instances: number;
  machines: number;
  kills: number;
  jobs: number;
}

const TWO: Storm = { instances: 2, machines: 3, kills: 20, jobs: 20 };
const FIVE: Storm = { instances: 5, machines: 6, kills: 25, jobs: 30 };
const STORMS: Storm[] = LONG
  ? [TWO, TWO, TWO, FIVE, FIVE, FIVE, FIVE]
  : [{ instances: 5, machines: 4, kills: 4, jobs: 10 }];

/** Requests between two kills: about the length of a job, so that most kills find one running. */
const BETWEEN_KILLS = { min: 40, max: 500 };

const { seed } = createRandom();

for (const [index, storm] of STORMS.entries()) {
  const random = createRandom(seed + index);
  test(`seed ${random.seed}: ${storm.instances} instances, ${storm.kills} kills, ${storm.jobs} jobs`, async (t) => {
    await using cluster = await startCluster(machines(storm.machines));
    const overlaps = watchOverlaps(cluster);
    const names = Array.from({ length: storm.instances }, (_, index) => `i${index}`);
    const live = await Promise.all(names.map((name) => cluster.start(name)));
    const storming = { live, random, over: false };
    const killing = kill(cluster, { live, random, kills: storm.kills }).finally(() => {
      storming.over = true;
    });
    const [accepted] = await Promise.all([request(cluster, storm, storming), killing]);
    await cluster.until('the end of all jobs', () => cluster.jobs().every(isEnded));
    const jobs = cluster.jobs();
    const known = new Set(jobs.map(({ id }) => id));
    assert.deepEqual(
      accepted.filter((id) => !known.has(id)),
      [],
      'no accepted job is lost',
    );
    assert.deepEqual(overlaps, [], 'no machine twice at once');
    for (const { status, error, attempt } of jobs) {
      // five instances died with it: then it is given up, in words
      assert.ok(status === 'succeeded' || attempt > 5, JSON.stringify(error));
    }
    const [asked] = live;
    assert.ok(asked);
    await cluster.check(asked);
    const taken = jobs.reduce((sum, { attempt }) => sum + attempt - 1, 0);
    t.diagnostic(`${jobs.length} jobs, ${storm.kills} kills, ${taken} taken over`);
  });
}

/** Kills a random instance every so many requests and starts another in its place. */
async function kill(
  cluster: Cluster,
  { live, random, kills }: { live: Instance[]; random: Random; kills: number },
): Promise<void> {
  for (let done = 0; done < kills; done++) {
    let left = random.between(BETWEEN_KILLS.min, BETWEEN_KILLS.max);
    await cluster.until('the next kill', () => --left < 0);
    const index = random.between(0, live.length - 1);
    const victim = live[index] as Instance;
    victim.kill();
    await victim.program.ended;
    await cluster.expireLeases();
    live[index] = await cluster.start(victim.name);
  }
}

/** Asks random instances for backups of random machines until enough were accepted and all kills are done. */
async function request(
  cluster: Cluster,
  { jobs, machines: count }: Storm,
  storming: { live: Instance[]; random: Random; over: boolean },
): Promise<string[]> {
  const { live, random } = storming;
  const accepted: string[] = [];
  while (accepted.length < jobs || !storming.over) {
    const instance = random.pick(live);
    const id = await instance.backUp(`m${random.between(0, count - 1)}`);
    if (id !== undefined) accepted.push(id);
    else await cluster.until('anything to change', once());
  }
  return accepted;
}

/** False the first time. */
function once(): () => boolean {
  let asked = 0;
  return () => ++asked > 1;
}

/** Every export or snapshot of a machine that has another one at that time. */
function watchOverlaps({ watch, sim }: Cluster): string[] {
  const found: string[] = [];
  const exporting = new Map<string, number>();
  watch(({ name, key, done }) => {
    if (name === '/export') {
      const now = (exporting.get(key) ?? 0) + (done ? -1 : 1);
      exporting.set(key, now);
      if (now > 1) found.push(`${now} exports of ${key}`);
    }
    const owners = new Map<string, string>();
    for (const [, vm] of sim.world.all('VM')) {
      if (vm.is_a_snapshot !== true) continue;
      const other = owners.get(String(vm.snapshot_of));
      if (other !== undefined) found.push(`snapshots ${other} and ${vm.name_label}`);
      owners.set(String(vm.snapshot_of), String(vm.name_label));
    }
  });
  return found;
}
