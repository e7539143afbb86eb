/** The sweep on real wires: everything a dead run can leave, beside what is not ours and what is in use. */
import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, test } from 'node:test';
import type { SweepReport } from '../../src/backup/service.ts';
import type { Job } from '../../src/catalog/record.ts';
import { systemIds } from '../../src/clock.ts';
import { BackupError } from '../../src/errors.ts';
import type { Pool } from '../../src/ports.ts';
import { NEVER } from '../../src/signals.ts';
import { READ_TOKEN } from './app.ts';
import {
  ahead,
  archiveKey,
  HOUR_MS,
  keys,
  type SweepWorld,
  startSweepWorld,
} from './sweep-world.ts';
import { BUCKET } from './world.ts';

const options = { signal: NEVER };
let world: SweepWorld;

async function post(body: object = {}): Promise<SweepReport> {
  const answer = await world.call('POST', '/v1/sweep', { body });
  assert.equal(answer.status, 200, answer.text);
  return answer.json() as unknown as SweepReport;
}

/** One of each kind that a dead run may leave, all of jobs that have ended. */
async function litter(): Promise<void> {
  const job = await world.record();
  await world.snapshotOf(job);
  const unmarked = await world.record({ status: 'cancelled' });
  await world.snapshot(`xvault:${unmarked.id}`);
  const orphaned = await world.record({ status: 'succeeded' });
  world.destroyRecord(await world.snapshotOf(orphaned));
  world.task(`xvault:${job.id}`);
  await world.upload(archiveKey(job));
  await world.upload(`${keys.staging(job.id)}part`);
  await world.store.put(`${keys.staging(job.id)}1`, 'x', options);
  await world.store.put(`${keys.staging(job.id)}2`, 'x', options);
  await world.lease(job, Date.now() - HOUR_MS);
}

const LITTER = [
  'lease',
  'snapshot',
  'snapshot',
  'snapshot_disk',
  'snapshot_disk',
  'staging',
  'task',
  'upload',
  'upload',
];

function kindsOf(report: SweepReport, action: string): string[] {
  return report.findings
    .filter((finding) => finding.action === action)
    .map(({ kind }) => kind)
    .sort();
}

/** Left by others, or not surely ours. */
async function foreign(): Promise<void> {
  const { sim } = world;
  const job = await world.record();
  const other = systemIds.uuid();
  await world.snapshot('before the upgrade');
  await world.snapshot('xvault:by-hand');
  await world.snapshot(`xvault:${other}`, { 'xvault:job': other });
  await world.snapshot('a copy', { 'xvault:job': job.id });
  await world.snapshot(`xvault:${job.id}`, { 'xvault:job': other });
  const elsewhere = await world.record({ vm: { ...job.vm, pool: 'dc2' } });
  await world.snapshot(`xvault:${elsewhere.id}`);
  world.destroyRecord(await world.snapshot('of another product'));
  const cloned = await world.snapshotOf(job);
  for (const { vdiRef } of cloned.disks) {
    // as a snapshot of a clone of our disk has it
    const marker = { 'xvault:disk': systemIds.uuid(), 'xvault:job': job.id };
    sim.world.set('VDI', vdiRef, { other_config: marker });
  }
  world.destroyRecord(cloned);
  world.task('');
  world.task('xvault: something');
  await world.upload('xv/backups/somebody/else.bin');
  await world.upload('other/file.xva');
  const parts = { retention: 'daily', pool: 'dc1', vmUuid: job.vm.uuid, backupId: other };
  await world.upload(keys.archive(parts, 'younger than two days'));
}

/** A job at work in another process, and all that is its. */
async function runningJob(): Promise<Job> {
  const job = await world.record({ status: 'running', phase: 'exporting' });
  await world.lease(job, Date.now() + HOUR_MS);
  await world.snapshotOf(job);
  world.task(`xvault:${job.id}`);
  await world.upload(archiveKey(job));
  await world.upload(`${keys.staging(job.id)}part`);
  await world.store.put(`${keys.staging(job.id)}1`, 'x', options);
  return job;
}

describe('a sweep', () => {
  beforeEach(async () => {
    world = await startSweepWorld();
  });
  afterEach(() => world[Symbol.asyncDispose]());

  test('removes what dead runs left, of every kind, and nothing else', async () => {
    const good = await world.backup('app');
    assert.equal(good.status, 'succeeded');
    const before = world.everything();
    await litter();
    const report = await post();
    assert.deepEqual(kindsOf(report, 'removed'), LITTER, JSON.stringify(report, undefined, 1));
    assert.deepEqual(report.errors, []);
    const records = /^xv\/jobs\//;
    assert.deepEqual(
      world.everything().filter((line) => !records.test(line)),
      before.filter((line) => !records.test(line)),
    );
    assert.deepEqual(await world.audit(), []);
    assert.deepEqual((await post()).findings, []);
  });

  test('that is dry shows the same and changes nothing', async () => {
    await litter();
    const before = world.everything();
    const report = await post({ dry_run: true });
    assert.equal(report.dry_run, true);
    assert.deepEqual(kindsOf(report, 'would_remove'), LITTER);
    assert.deepEqual(report.counts, { removed: 0, would_remove: LITTER.length, kept: 0 });
    assert.deepEqual(world.everything(), before);
    const snapshots = report.findings.filter(({ kind }) => kind === 'snapshot');
    for (const { name, job_id, reason, pool, age_seconds } of snapshots) {
      assert.equal(name, `xvault:${job_id}`);
      assert.match(reason, /has ended/);
      assert.equal(pool, 'dc1');
      assert.ok(age_seconds !== undefined && age_seconds < 600);
    }
  });

  test('touches nothing of another product, of another installation, or of doubtful origin', async () => {
    await foreign();
    const before = world.everything();
    const report = await post();
    assert.deepEqual(world.everything(), before);
    assert.equal(report.counts.removed, 0);
    const shown = report.findings.map(({ kind, reason }) => `${kind}: ${reason}`);
    assert.ok(
      shown.some((line) => /^snapshot: .*no record of its job/.test(line)),
      shown.join('\n'),
    );
    assert.ok(shown.some((line) => /^snapshot: .*different jobs/.test(line)));
    assert.ok(shown.some((line) => /^snapshot: .*pool dc2/.test(line)));
    assert.ok(shown.some((line) => /^upload: .*not older/.test(line)));
    assert.ok(!report.findings.some(({ name }) => /before|a copy|somebody|other/.test(name)));
    assert.ok(!report.findings.some(({ kind }) => kind === 'snapshot_disk'));
  });

  test('takes away what a failed restore left, and nothing that came in whole or was started', async () => {
    const { sim, record, pool } = world;
    const failed = await record({ kind: 'restore' });
    const done = await record({ kind: 'restore', status: 'succeeded' });
    const marked = (job: Job, name: string) => {
      const { ref, disks } = sim.machine(name);
      const objects = [['VM', ref], ...disks.map((disk) => ['VDI', disk.ref])] as const;
      for (const [cls = '', object = ''] of objects) {
        sim.world.set(cls, object, { other_config: { 'xvault:restore': job.id } });
      }
    };
    marked(failed, 'app');
    marked(failed, 'stick');
    marked(done, 'other');
    const report = await post();
    assert.deepEqual(
      report.findings.map(({ kind, action, id }) => [kind, action, id]),
      [
        ['restored_machine', 'kept', sim.machine('app').uuid],
        ['restored_machine', 'kept', sim.machine('other').uuid],
        ['restored_machine', 'removed', sim.machine('stick').uuid],
      ],
      JSON.stringify(report, undefined, 1),
    );
    const reasons = report.findings.map(({ reason }) => reason);
    assert.match(
      reasons.join(),
      /somebody has started it.*only the mark was left.*has ended: failed/,
    );
    const names = (await pool.listVms(options)).map(({ nameLabel }) => nameLabel);
    assert.deepEqual(names, ['app', 'other', 'twin', 'twin']);
  });

  test('touches nothing of a running job', async () => {
    const job = await runningJob();
    const before = world.everything();
    const report = await post();
    assert.deepEqual(world.everything(), before);
    assert.deepEqual(kindsOf(report, 'kept'), ['snapshot', 'staging', 'task', 'upload', 'upload']);
    for (const finding of report.findings) {
      assert.equal(finding.job_id, job.id);
      assert.equal(finding.reason, 'its job is running');
    }
    const { text } = await world.call('GET', '/metrics');
    assert.match(text, /^xvault_leftover_snapshots\{pool="dc1"\} 0$/m);
  });
});

describe('a sweep beside others', () => {
  beforeEach(async () => {
    world = await startSweepWorld();
  });
  afterEach(() => world[Symbol.asyncDispose]());

  test('leaves a backup that runs alone', async () => {
    const reports: Promise<SweepReport>[] = [];
    const unwatch = world.sim.world.onChange(() => {
      if (reports.length < 5) reports.push(world.service.sweep({ dryRun: false }, options));
    });
    const job = await world.backup('app');
    unwatch();
    assert.equal(job.status, 'succeeded', JSON.stringify(job.error));
    for (const report of await Promise.all(reports)) assert.equal(report.counts.removed, 0);
    assert.deepEqual(await world.audit(), []);
  });

  test('does no harm when two instances sweep at once', async () => {
    await litter();
    const second = world.secondService();
    const reports = await Promise.all([
      world.service.sweep({ dryRun: false }, options),
      second.sweep({ dryRun: false }, options),
    ]);
    await second.drain({ drainMs: 0 });
    assert.deepEqual(
      reports.flatMap(({ errors }) => errors),
      [],
    );
    assert.deepEqual(await world.audit(), []);
  });

  test('hands a job whose instance died to whoever goes on with it', async () => {
    const job = await world.record({ status: 'running', phase: 'exporting', attempt: 1 });
    await world.lease(job, Date.now() - HOUR_MS);
    await world.snapshotOf(job);
    world.task(`xvault:${job.id}`);
    const dry = await post({ dry_run: true });
    assert.deepEqual(dry.counts, { removed: 0, would_remove: 0, kept: 3 });
    assert.deepEqual(dry.taken_over, []);
    const report = await post();
    assert.deepEqual(report.taken_over, [job.id]);
    const ended = await world.service.waitJob(job.id, { timeoutMs: 60_000 }, options);
    assert.equal(ended?.status, 'succeeded', JSON.stringify(ended?.error));
    await post(); // the task of the dead instance: now its job has ended
    assert.deepEqual(await world.audit(), []);
  });

  test('removes what nobody can be asked about when it is old', async () => {
    const unknown = systemIds.uuid();
    const { uuid: vmUuid } = world.sim.machine('app');
    const parts = { retention: 'daily', pool: 'dc1', vmUuid, backupId: unknown };
    await world.upload(keys.archive(parts, 'app'));
    await world.store.put(`${keys.staging(unknown)}1`, 'x', options);
    await world.store.put('xv/probe/dead/a', 'x', options);
    await world.upload('xv/probe/dead/b');
    await world.snapshot(`xvault:${unknown}`, { 'xvault:job': unknown });
    const sweepAfter = async (hours: number) => {
      const later = world.secondService({ clock: ahead(hours * HOUR_MS) });
      const report = await later.sweep({ dryRun: false }, options);
      await later.drain({ drainMs: 0 });
      return kindsOf(report, 'removed');
    };
    assert.deepEqual(await sweepAfter(0), []);
    assert.deepEqual(await sweepAfter(2), ['probe', 'probe']);
    assert.deepEqual(await sweepAfter(49), ['staging', 'upload']);
    assert.deepEqual(await sweepAfter(1000), []); // the snapshot may be another installation's
  });

  test('says which pool does not answer, and sweeps the rest', async () => {
    await litter();
    const away = new Proxy(world.pool, {
      get: (pool, name: keyof Pool) =>
        name === 'findLeftovers'
          ? () => Promise.reject(new BackupError('pool_unavailable', 'reach the pool'))
          : pool[name],
    });
    const service = world.secondService({ pool: away });
    const report = await service.sweep({ dryRun: false }, options);
    await service.drain({ drainMs: 0 });
    assert.deepEqual(report.errors, [
      { where: 'pool dc1', code: 'pool_unavailable', detail: 'reach the pool' },
    ]);
    assert.deepEqual(kindsOf(report, 'removed'), ['lease', 'staging', 'upload', 'upload']);
  });

  test('keeps and reports what the pool does not let go', async () => {
    const job = await world.record();
    const made = await world.snapshotOf(job);
    const stuck = new Proxy(world.pool, {
      get: (pool, name: keyof Pool) =>
        name === 'removeLeftover'
          ? () => Promise.reject(new BackupError('pool_refused', 'destroy disk: in use'))
          : pool[name],
    });
    const service = world.secondService({ pool: stuck });
    const report = await service.sweep({ dryRun: false }, options);
    await service.drain({ drainMs: 0 });
    assert.deepEqual(report.counts, { removed: 0, would_remove: 0, kept: 1 });
    assert.match(report.findings[0]?.reason ?? '', /could not be removed: destroy disk: in use/);
    assert.equal(report.errors[0]?.where, `snapshot ${made.uuid}`);
  });
});

describe('asking for a sweep', () => {
  beforeEach(async () => {
    world = await startSweepWorld();
  });
  afterEach(() => world[Symbol.asyncDispose]());

  test('is done by every service at its start', async () => {
    await litter();
    const gone = new Promise<void>((resolve) => {
      world.sim.world.onChange(() => {
        if (world.sim.audit().every((line) => !/snapshot/.test(line))) resolve();
      });
    });
    const service = world.secondService();
    await service.start();
    await gone;
    await service.drain({ drainMs: 0 });
  });

  test('is for admins, takes no unknown field, and repeats its answer for a key', async () => {
    const path = '/v1/sweep';
    assert.equal((await world.call('POST', path, { token: READ_TOKEN })).status, 403);
    const wrong = await world.call('POST', path, { body: { dryrun: true } });
    assert.equal(wrong.status, 422);
    await litter();
    const headers = { 'idempotency-key': '"once"' };
    const first = await world.call('POST', path, { headers });
    const second = await world.call('POST', path, { headers });
    assert.equal(first.text, second.text);
    assert.equal(second.headers.get('idempotency-replayed'), 'true');
  });

  test('sets the metrics of what is left', async () => {
    await litter();
    await foreign();
    await post({ dry_run: true });
    const before = (await world.call('GET', '/metrics')).text;
    const snapshots = /^xvault_leftover_snapshots\{pool="dc1"\} (\d+)$/m;
    assert.equal(snapshots.exec(before)?.[1], '8');
    assert.match(before, /^xvault_unfinished_uploads 3$/m);
    await post();
    const after = (await world.call('GET', '/metrics')).text;
    assert.equal(snapshots.exec(after)?.[1], '4');
    assert.match(after, /^xvault_unfinished_uploads 1$/m);
    assert.match(after, /^xvault_leftovers_removed_total\{kind="snapshot"\} 2$/m);
  });
});

test('where uploads cannot be listed, the records of failed jobs tell them', async (t) => {
  world = await startSweepWorld({ storeSettings: { quirks: { listUploads: false } } });
  t.after(() => world[Symbol.asyncDispose]());
  const job = await world.record();
  const uploadId = await world.upload(archiveKey(job));
  const checkpoint = { ...job.checkpoint, archive_key: archiveKey(job), upload_id: uploadId };
  await world.record({ ...job, checkpoint });
  const report = await post();
  assert.deepEqual(kindsOf(report, 'removed'), ['upload']);
  assert.match(report.findings[0]?.reason ?? '', /cannot list uploads/);
  assert.deepEqual(world.s3?.inspect.uploads(BUCKET), []);
  assert.deepEqual((await post()).findings, []);
});
