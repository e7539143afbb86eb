/**
 * The rights docs/deploy.md asks for are enough for all xvault does, and none of them is to delete a backup.
 *
 * Every scenario runs against a server that enforces the very document users are given; a call it forbids fails the test
 * by its name, whether xvault would have noticed or not.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';
import type { Backup } from '../../src/catalog/record.ts';
import { systemClock, systemIds } from '../../src/clock.ts';
import { checkBucket } from '../../src/commands/doctor-bucket.ts';
import type { Report } from '../../src/commands/doctor-checks.ts';
import { checkProtection } from '../../src/commands/doctor-protection.ts';
import type { BackupView, JobView } from '../../src/http/views.ts';
import { NEVER } from '../../src/signals.ts';
import { archiveKey, type SweepWorld, startSweepWorld } from '../e2e/sweep-world.ts';
import { BUCKET } from '../e2e/world.ts';
import { enforce, readPolicy, type Watch } from './policy.ts';

const PREFIX = 'xv/';

test('no statement lets a backup be deleted, and docs/deploy.md shows the document as it is', () => {
  const document = readPolicy(BUCKET, PREFIX);
  const mayDelete = document.Statement.filter(({ Action }) =>
    Action.some((action) => /Delete|\*|Bypass|PutLifecycle|PutBucket/.test(action)),
  );
  for (const { Action, Resource } of mayDelete) {
    assert.deepEqual(
      Action.filter((action) => /Delete|\*|Bypass|Lifecycle|Bucket/.test(action)),
      ['s3:DeleteObject'],
    );
    for (const arn of Resource) {
      assert.match(
        arn,
        new RegExp(`^arn:aws:s3:::${BUCKET}/${PREFIX}(pinned|leases|staging|probe)/\\*$`),
      );
    }
  }
  const page = readFileSync(new URL('../../docs/deploy.md', import.meta.url), 'utf8');
  const file = readFileSync(new URL('../../infra/bucket-policy.json', import.meta.url), 'utf8');
  assert.ok(page.includes(file.trim()), 'docs/deploy.md has another policy than infra/');
});

describe('with the rights of infra/bucket-policy.json alone', () => {
  let watch: Watch;
  let world: SweepWorld;
  before(async () => {
    watch = enforce(readPolicy(BUCKET, PREFIX));
    world = await startSweepWorld({ s3: { policy: watch.policy } });
  });
  after(() => world[Symbol.asyncDispose]());

  test('machines are backed up, once and again, by key and by another instance', async () => {
    const first = await world.run('app');
    const again = await world.run('app');
    for (const job of [first, again]) assert.equal(job.status, 'succeeded', job.error?.detail);
    const headers = { 'idempotency-key': 'k', prefer: 'wait=50' };
    const path = '/v1/vms/other/backups';
    for (let repeat = 0; repeat < 2; repeat++) {
      assert.equal((await world.call('POST', path, { body: {}, headers })).status, 200);
    }
    const second = world.secondService();
    await second.start();
    await second.drain({ drainMs: 0 });
    assert.equal((await world.backupsOf('app')).length, 2);
    assert.deepEqual(watch.refused, []);
  });

  test('a backup that fails or is cancelled cleans up after itself', async () => {
    world.sim.faults.set('export-error', { afterBytes: 3_000_000 });
    assert.equal((await world.run('app')).status, 'failed');
    world.sim.faults.clear();
    const begun = await world.call('POST', '/v1/vms/app/backups', { body: {} });
    const { id } = begun.json<{ id: string }>();
    const headers = { prefer: 'wait=50' };
    await world.call('POST', `/v1/jobs/${id}/cancel`, { headers });
    assert.deepEqual(await world.audit(), []);
    assert.deepEqual(watch.refused, []);
  });

  test('a sweep removes what dead runs left in the bucket', async () => {
    const job = await world.record();
    await world.upload(archiveKey(job));
    await world.lease(job, Date.now() - 3_600_000);
    const signal = NEVER;
    await world.store.put(`xv/staging/${job.id}/1`, 'x', { signal });
    const answer = await world.call('POST', '/v1/sweep', { body: {} });
    const { counts, errors } = answer.json<{ counts: { removed: number }; errors: unknown[] }>();
    assert.deepEqual(errors, []);
    assert.ok(counts.removed >= 2, answer.text);
    assert.deepEqual(watch.refused, []);
  });

  test('a lost index is made anew beside the backups', async () => {
    const [id] = await world.backupsOf('app');
    const backup = (await world.call('GET', `/v1/backups/${id}`)).json<Backup>();
    await world.store.put(backup.index_key, 'lost', { signal: NEVER });
    const headers = { prefer: 'wait=50' };
    const answer = await world.call('POST', `/v1/backups/${id}/index`, { body: {}, headers });
    assert.equal(answer.status, 200);
    const { status, index, error } = answer.json<JobView>();
    assert.equal(status, 'succeeded', error?.detail);
    assert.equal(index?.key, `${PREFIX}indexes/${id}.idx`);
    assert.equal((await world.run('app')).result?.base?.backup_id, id);
    assert.deepEqual(watch.refused, []);
  });

  test('a backup is verified, and what was found is kept beside it', async () => {
    const [id] = await world.backupsOf('app');
    for (const query of ['', '?percent=10']) {
      const headers = { prefer: 'wait=50' };
      const path = `/v1/backups/${id}/verify${query}`;
      const { status, error } = (
        await world.call('POST', path, { body: {}, headers })
      ).json<JobView>();
      assert.equal(status, 'succeeded', error?.detail);
    }
    const { verified } = (await world.call('GET', `/v1/backups/${id}`)).json<BackupView>();
    assert.deepEqual([verified?.ok, verified?.kind], [true, 'sampled']);
    assert.deepEqual(watch.refused, []);
  });

  test('a backup is pinned, kept and put back, and what rules there are is told', async () => {
    const [id] = await world.backupsOf('app');
    const { vm } = (await world.call('GET', `/v1/backups/${id}`)).json<BackupView>();
    const folder = `${PREFIX}pinned/${vm.pool}/${vm.uuid}/${id}`;
    await world.upload(`${folder}/cut-off.xva`);
    const headers = { prefer: 'wait=50' };
    const body = { reason: 'audit' };
    const pinned = await world.call('POST', `/v1/backups/${id}/pin`, { body, headers });
    const { status, error } = pinned.json<JobView>();
    assert.equal(status, 'succeeded', error?.detail);
    assert.deepEqual(world.s3?.inspect.uploads(BUCKET), []);
    const shown = (await world.call('GET', `/v1/backups/${id}`)).json<BackupView>();
    assert.equal(shown.pinned?.reason, 'audit');
    assert.ok(shown.archive.key.startsWith(`${folder}/`));
    const renewed = await world.call('POST', '/v1/rotation/renew', { body: {} });
    assert.equal(renewed.json<{ counts: { failed: number } }>().counts.failed, 0);
    assert.equal((await world.call('GET', '/v1/rotation')).status, 200);
    const back = await world.call('DELETE', `/v1/backups/${id}/pin`);
    assert.equal(back.json<{ outcome: string }>().outcome, 'in_rotation');
    const left = world.s3?.inspect.keys(BUCKET).filter((key) => key.startsWith(folder));
    assert.deepEqual(left, []);
    assert.deepEqual(watch.refused, []);
  });

  test('lists, links, pages and the doctor find all they look for', async () => {
    const [id] = await world.backupsOf('app');
    const paths = ['/v1/vms', '/v1/jobs', '/v1/status', '/metrics', '/', '/readyz?verbose'];
    for (const path of [...paths, `/v1/backups/${id}`]) {
      assert.equal((await world.call('GET', path)).status, 200, path);
    }
    const link = (await world.call('GET', `/v1/backups/${id}/xva`)).headers.get('location') ?? '';
    assert.equal((await fetch(link, { headers: { range: 'bytes=0-7' } })).status, 206);
    const bad: string[] = [];
    const report: Report = ({ check, state, text }) => {
      if (state === 'fail' || state === 'warn') bad.push(`${check}: ${text}`);
    };
    const bucket = { store: world.store, prefix: PREFIX, archives: true, state: true };
    await checkBucket(bucket, { report, clock: systemClock, ids: systemIds }, { signal: NEVER });
    await checkProtection({ ...bucket, encryption: undefined, locks: {} }, report, {
      signal: NEVER,
    });
    assert.deepEqual(
      bad.filter((text) => !/lifecycle|rule/.test(text)),
      ['encryption: neither the bucket nor xvault encrypts'],
    );
    assert.deepEqual(watch.refused, []);
  });

  test('no backup can be deleted or its upload be hidden with these rights, and nothing is granted in vain', async () => {
    const keys =
      world.s3?.inspect.keys(BUCKET).filter((key) => key.startsWith('xv/backups/')) ?? [];
    assert.ok(keys.length >= 6);
    for (const key of keys) {
      await assert.rejects(world.store.delete(key, { signal: NEVER }), {
        code: 'store_credentials',
      });
    }
    assert.deepEqual(
      world.s3?.inspect.keys(BUCKET).filter((key) => key.startsWith('xv/backups/')),
      keys,
    );
    const granted = readPolicy(BUCKET, PREFIX).Statement.flatMap(({ Sid, Action }) =>
      // asked only of stores that give no checksum of an object of several parts
      Action.filter((action) => action !== 's3:ListMultipartUploadParts').map(
        (action) => `${Sid} ${action}`,
      ),
    );
    assert.deepEqual(
      granted.filter((one) => !watch.used.has(one)),
      [],
    );
  });
});
