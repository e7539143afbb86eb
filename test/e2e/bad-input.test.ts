/**
 * Wrong requests against the whole service: each gets a clear problem, at once, and leaves nothing behind.
 */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { type HttpWorld, READ_TOKEN, startHttpWorld } from './app.ts';
import { SMALL_MACHINES } from './small-machines.ts';

const MIB = 1_048_576;

describe('a wrong request', () => {
  let world: HttpWorld;
  before(async () => {
    world = await startHttpWorld({ pool: { machines: SMALL_MACHINES } });
  });
  after(() => world[Symbol.asyncDispose]());

  /** POSTs, expects this problem, and that neither a job nor anything else came of it. */
  async function refuse(
    vm: string,
    want: { status: number; code: string; says?: RegExp },
    body = {},
  ) {
    const answer = await world.call('POST', `/v1/vms/${encodeURIComponent(vm)}/backups`, { body });
    await assertProblem(answer, want);
    return answer.problem();
  }

  async function assertProblem(
    answer: Awaited<ReturnType<HttpWorld['call']>>,
    want: { status: number; code: string; says?: RegExp },
  ) {
    assert.equal(answer.status, want.status, answer.text);
    assert.equal(answer.headers.get('content-type'), 'application/problem+json');
    const problem = answer.problem();
    assert.equal(problem.code, want.code, answer.text);
    assert.equal(problem.request_id, answer.headers.get('request-id'));
    if (want.says) assert.match(problem.detail, want.says);
    assert.equal((await world.call('GET', '/v1/jobs')).text.includes('"jobs":[]'), true);
    assert.deepEqual(await world.audit(), []);
  }

  test('for an unknown machine is a 404, by name and by uuid', async () => {
    await refuse('no-such-machine', { status: 404, code: 'not_found', says: /no-such-machine/ });
    const uuid = '00000000-0000-4000-8000-000000000000';
    await refuse(uuid, { status: 404, code: 'not_found', says: /0000/ });
  });

  test('for a name of odd characters is a 404 that quotes it', async () => {
    for (const name of ['"; drop', 'a"b\\c', '<script>', 'ü 🗄', '../../etc', 'x'.repeat(500)]) {
      await refuse(name, { status: 404, code: 'not_found' });
    }
  });

  test('for an ambiguous name is a 422 with the candidates, any of which then works', async () => {
    const { details } = await refuse('twin', {
      status: 422,
      code: 'vm_ambiguous',
      says: /2 machines/,
    });
    const candidates = details?.candidates as { uuid: string; name: string; pool: string }[];
    assert.equal(candidates.length, 2);
    assert.deepEqual(new Set(candidates.map(({ name }) => name)), new Set(['twin']));
    const [{ uuid = '' } = {}] = candidates;
    const answer = await world.call('POST', `/v1/vms/${uuid}/backups`, {
      body: { dry_run: true },
      headers: { prefer: 'wait=20' },
    });
    assert.equal(answer.json().status, 'succeeded', answer.text);
    // the next tests expect a list without jobs
    const { id } = answer.json<{ id: string }>();
    await world.store.delete(`xv/jobs/${id}.json`, { signal: new AbortController().signal });
  });

  test('for a control domain, a template or a snapshot is a 422 that says which', async () => {
    const says = { template: /a template/, control: /a control domain/, snapshot: /a snapshot/ };
    const want = { status: 422, code: 'vm_not_supported' };
    const all = world.sim.world.all('VM');
    const uuidOf = (field: string) => String(all.find(([, vm]) => vm[field] === true)?.[1].uuid);
    await refuse(uuidOf('is_control_domain'), { ...want, says: says.control });
    await refuse(uuidOf('is_a_template'), { ...want, says: says.template });
    const { ref } = world.sim.machine('app');
    const signal = new AbortController().signal;
    const snapshot = await world.pool.snapshotVm(
      { vm: ref as never, name: 'by hand', ignoreVdis: [] },
      { signal },
    );
    try {
      const answer = await world.call('POST', `/v1/vms/${snapshot.uuid}/backups`, { body: {} });
      assert.equal(answer.status, 422);
      assert.equal(answer.problem().code, 'vm_not_supported');
      assert.match(answer.problem().detail, says.snapshot);
      const byName = await world.call('POST', '/v1/vms/by%20hand/backups', { body: {} });
      assert.match(byName.problem().detail, says.snapshot);
    } finally {
      await world.pool.removeSnapshot(snapshot, { signal });
    }
    assert.deepEqual(await world.audit(), []);
  });

  test('for an unknown pool names those there are', async () => {
    const want = { status: 404, code: 'not_found', says: /pool=moon/ };
    const { details } = await refuse('app', want, { pool: 'moon' });
    assert.deepEqual(details?.pools, ['dc1']);
  });

  test('of broken JSON, no JSON or a JSON that is no object is refused', async () => {
    const path = '/v1/vms/app/backups';
    for (const raw of ['{', '{"note":}', 'mode=full', '\u0000', '{"note":"a"} trailing']) {
      const answer = await world.call('POST', path, { raw });
      await assertProblem(answer, { status: 400, code: 'invalid_request', says: /JSON/ });
    }
    for (const raw of ['[]', 'null', '"full"', '42']) {
      const answer = await world.call('POST', path, { raw });
      await assertProblem(answer, { status: 422, code: 'invalid_request' });
    }
    const form = await world.call('POST', path, {
      raw: 'mode=full',
      headers: { 'content-type': 'application/x-www-form-urlencoded' },
    });
    await assertProblem(form, { status: 415, code: 'invalid_request', says: /application\/json/ });
  });

  test('with unknown or wrong fields names every one of them', async () => {
    const body = { mode: 'partial', exclude_disk: ['1'], retention: 'Für immer', note: 7 };
    const want = { status: 422, code: 'invalid_request' };
    const { errors } = await refuse('app', want, body);
    assert.deepEqual(errors?.map(({ pointer }) => pointer).sort(), [
      '#/exclude_disk',
      '#/mode',
      '#/note',
      '#/retention',
    ]);
    const query = await world.call('GET', '/v1/jobs?stat=failed&page_size=many');
    await assertProblem(query, { ...want, says: /stat/ });
  });

  test('with a body beyond the limit is cut off with 413', async () => {
    const raw = JSON.stringify({ note: 'x'.repeat(2 * MIB) });
    const answer = await world.call('POST', '/v1/vms/app/backups', { raw });
    await assertProblem(answer, { status: 413, code: 'invalid_request', says: /1048576/ });
  });

  test('without token, with a bad one or with too small a scope gets nowhere', async () => {
    const path = '/v1/vms/app/backups';
    for (const token of ['', 'wrong', 'x'.repeat(5000)]) {
      const answer = await world.call('POST', path, { token, body: {} });
      await assertProblem(answer, { status: 401, code: 'unauthenticated' });
      assert.match(answer.headers.get('www-authenticate') ?? '', /^Bearer/);
      if (token.length > 4) assert.equal(answer.text.includes(token), false);
    }
    const answer = await world.call('POST', path, { token: READ_TOKEN, body: {} });
    await assertProblem(answer, { status: 403, code: 'forbidden', says: /backup/ });
  });

  test('for a disk that is not there is refused, one that cannot be snapshotted fails by name', async () => {
    const body = { exclude_disks: ['data disk'] };
    const missing = await world.call('POST', '/v1/vms/app/backups', { body });
    await assertProblem(missing, { status: 422, code: 'invalid_request', says: /data disk/ });
    const stick = await world.run('stick');
    assert.equal(stick.error?.code, 'snapshot_refused');
    assert.match(stick.error?.detail ?? '', /exclude_disks/);
    assert.deepEqual(await world.backupsOf('app'), []);
    assert.deepEqual(await world.audit(), []);
  });
});
