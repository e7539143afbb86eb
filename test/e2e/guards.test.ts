/**
 * What stands in the way of a backup is found before the pool is touched: each a problem with its numbers and the mend.
 *
 * The pool's own records are changed to what a pool in that state tells; afterwards they are put back, and the machine
 * is backed up to prove that nothing else was in the way.
 */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import type { JobView } from '../../src/http/views.ts';
import { type HttpWorld, startHttpWorld } from './app.ts';
import { SMALL_MACHINES } from './small-machines.ts';

type Fields = Parameters<HttpWorld['sim']['world']['set']>[2];

interface Guard {
  what: string;
  /** Changes records through `set`, which remembers what they were. */
  arrange(world: HttpWorld, set: (cls: string, ref: string, fields: Fields) => void): void;
  says: RegExp;
  code?: string;
  retry: string;
  details: Record<string, unknown>;
}

const TB = 1e12;
const rootOf = ({ sim }: HttpWorld): string => sim.machine('app').disks[0]?.ref ?? '';
const poolRef = ({ sim }: HttpWorld): string => sim.world.all('pool')[0]?.[0] ?? '';

/** Hidden links under the disk, each with one child, as a storage leaves them that does not coalesce. */
function growChain({ sim }: HttpWorld, vdiRef: string, depth: number): string {
  const disk = sim.world.get('VDI', vdiRef);
  let parent: string | undefined;
  for (let link = 0; link < depth; link++) {
    const sm_config = parent === undefined ? {} : { 'vhd-parent': parent };
    const { SR = '', virtual_size = 0 } = disk;
    const ref = sim.world.create('VDI', { SR, virtual_size, managed: false, sm_config });
    parent = String(sim.world.get('VDI', ref).uuid);
  }
  return parent ?? '';
}

const GUARDS: Guard[] = [
  {
    what: 'a chain that is not coalesced',
    arrange: (world, set) => {
      const parent = growChain(world, rootOf(world), 9);
      set('VDI', rootOf(world), { sm_config: { 'vhd-parent': parent } });
    },
    says: /0 "app root": its chain has 9 links of at most 30, backups stop at 8: not coalesced yet, since 20\S+ at the latest/,
    retry: 'later',
    details: { chain_depth: 9, chain_limit: 8, retry_after_seconds: 900 },
  },
  {
    what: 'a full thick SR',
    arrange: ({ sim }, set) => {
      const [sr = ''] = sim.world.all('SR').find(([, one]) => one.type === 'lvmoiscsi') ?? [];
      set('VDI', sim.machine('app').disks[1]?.ref ?? '', { SR: sr });
      set('SR', sr, { physical_utilisation: 20 * 1_099_511_627_776 - 1_000_000 });
    },
    says: /SR iSCSI store \(lvmoiscsi, thick: .*needs \d+ bytes and 1000000 are free/,
    retry: 'after-fix',
    details: { provisioning: 'thick', free_bytes: 1_000_000 },
  },
  {
    what: 'a full thin SR',
    arrange: (world, set) => {
      const { SR = '' } = world.sim.world.get('VDI', rootOf(world));
      const { physical_size = 0 } = world.sim.world.get('SR', String(SR));
      set('SR', String(SR), { physical_utilisation: Number(physical_size) - 5000 });
    },
    says: /thin: one empty leaf for each disk.*5000 are free/,
    retry: 'after-fix',
    details: { provisioning: 'thin', free_bytes: 5000 },
  },
  {
    what: 'an export that would take days',
    arrange: (world, set) =>
      set('VDI', rootOf(world), { virtual_size: 40 * TB, physical_utilisation: 30 * TB }),
    says: /XenAPI ends an export after 24/,
    code: 'vm_not_supported',
    retry: 'after-fix',
    details: { limit_seconds: 86_400 },
  },
  {
    what: 'a migration',
    arrange: ({ sim }, set) => {
      const current_operations = { 'OpaqueRef:task': 'pool_migrate' };
      set('VM', sim.machine('app').ref, { current_operations });
    },
    says: /it is busy \(pool_migrate\)/,
    retry: 'later',
    details: { current_operations: ['pool_migrate'], retry_after_seconds: 120 },
  },
  {
    what: 'a disk the storage moves',
    arrange: (world, set) =>
      set('VDI', rootOf(world), { current_operations: { 'OpaqueRef:task': 'mirror' } }),
    says: /disk 0 "app root": the storage is at work on it \(mirror\)/,
    retry: 'later',
    details: { retry_after_seconds: 120 },
  },
  {
    what: 'a pool that switches HA on',
    arrange: (world, set) =>
      set('pool', poolRef(world), { current_operations: { 'OpaqueRef:task': 'ha_enable' } }),
    says: /at work on itself \(ha_enable\)/,
    retry: 'later',
    details: { retry_after_seconds: 120 },
  },
  {
    what: 'a machine HA is about to start',
    arrange: (world, set) => {
      const { sim } = world;
      set('pool', poolRef(world), { ha_enabled: true });
      const [, host = {}] = sim.world.all('host').at(-1) ?? [];
      set('host_metrics', String(host.metrics), { live: false });
      set('VM', sim.machine('app').ref, { power_state: 'Halted', ha_restart_priority: 'restart' });
    },
    says: /HA is on, host host-\d is dead and the machine is down/,
    retry: 'later',
    details: { retry_after_seconds: 120 },
  },
  {
    what: 'a rolling upgrade',
    arrange: (world, set) =>
      set('pool', poolRef(world), { other_config: { rolling_upgrade_in_progress: 'true' } }),
    says: /being upgraded/,
    retry: 'later',
    details: { retry_after_seconds: 1800 },
  },
];

describe('before the snapshot', { concurrency: 1 }, () => {
  let world: HttpWorld;
  let snapshots = 0;
  before(async () => {
    world = await startHttpWorld({ pool: { machines: SMALL_MACHINES } });
    world.sim.faults.watch = ({ method, done }) => {
      if (method === 'Async.VM.snapshot' && !done) snapshots += 1;
    };
    assert.equal((await world.run('app')).status, 'succeeded');
  });
  after(() => world[Symbol.asyncDispose]());

  for (const { what, arrange, says, code, retry, details } of GUARDS) {
    test(`${what} is refused with its numbers`, async () => {
      const undo: (() => void)[] = [];
      arrange(world, (cls, ref, fields) => {
        const record = world.sim.world.get(cls, ref);
        const was = Object.fromEntries(Object.keys(fields).map((key) => [key, record[key] ?? {}]));
        undo.unshift(() => world.sim.world.set(cls, ref, was));
        world.sim.world.set(cls, ref, fields);
      });
      const made = snapshots;
      const { status, error } = await world.run('app');
      for (const back of undo) back();
      assert.equal(status, 'failed');
      assert.equal(error?.code, code ?? 'snapshot_refused', JSON.stringify(error));
      assert.equal(error?.retry, retry);
      assert.match(error?.detail ?? '', says);
      for (const [name, value] of Object.entries(details)) {
        assert.deepEqual(error?.details?.[name], value, name);
      }
      assert.equal(snapshots, made, 'the pool was not touched');
      assert.deepEqual(await world.audit(), []);
    });
  }

  test('nothing else was in the way', async () => {
    const { status, error } = await world.run('app');
    assert.equal(status, 'succeeded', JSON.stringify(error));
  });
});

test('two heavy jobs do not meet on one SR: the second waits, says why, and is told when to ask again', async () => {
  await using world = await startHttpWorld({
    pool: { machines: SMALL_MACHINES },
    service: { concurrencyPerSr: 1 },
  });
  const { uuid: vm } = world.sim.machine('app');
  world.sim.faults.set('export-silent', { afterBytes: 6_000_000, silentMs: 600_000, vm });
  const begin = (vm: string) => world.call('POST', `/v1/vms/${vm}/backups`, { body: {} });
  const first = (await begin('app')).json<JobView>();
  const second = await begin('other');
  assert.equal(second.status, 202, second.text);
  const because = /1 of 1 jobs run on SR .+ \(XVAULT_CONCURRENCY_PER_SR\)/;
  assert.match(second.json<JobView>().waiting_because ?? '', because);
  const { id } = second.json<JobView>();
  const waiting = (await world.call('GET', `/v1/jobs/${id}`)).json<JobView>();
  assert.equal(waiting.status, 'queued');
  assert.match(waiting.waiting_because ?? '', because);
  const again = await begin('other');
  assert.equal(again.status, 409);
  assert.equal(again.headers.get('retry-after'), '30');
  assert.equal(again.problem().details?.retry_after_seconds, 30);
  await world.call('POST', `/v1/jobs/${first.id}/cancel`, { body: {} });
  const wait = { headers: { prefer: 'wait=50' } };
  const ended = (await world.call('GET', `/v1/jobs/${id}`, wait)).json<JobView>();
  assert.equal(ended.status, 'succeeded', JSON.stringify(ended.error));
  assert.equal(ended.waiting_because, undefined);
  assert.deepEqual(await world.audit(), []);
});

test('a job that was refused for now waits as long as the refusal asks, and can be cancelled', async () => {
  await using world = await startHttpWorld({
    pool: { machines: SMALL_MACHINES },
    service: { retry: { attempts: 2, firstPauseMs: 1000 } },
  });
  const { ref } = world.sim.machine('app');
  world.sim.world.set('VM', ref, { current_operations: { 'OpaqueRef:task': 'migrate_send' } });
  const { id } = await begin(world);
  for await (const job of world.service.watchJob(id, { signal: new AbortController().signal })) {
    if (job.next_attempt_at === undefined) continue;
    assert.equal(job.status, 'queued');
    assert.match(job.waiting_because ?? '', /attempt 1 of 2 failed \(snapshot_refused\)/);
    assert.match(job.last_error?.detail ?? '', /migrate_send/);
    const pauseMs = Date.parse(job.next_attempt_at) - Date.parse(job.started_at ?? job.created_at);
    assert.ok(pauseMs >= 119_000, `pause=${pauseMs}`);
    break;
  }
  await world.call('POST', `/v1/jobs/${id}/cancel`, { body: {} });
  const wait = { headers: { prefer: 'wait=20' } };
  const ended = (await world.call('GET', `/v1/jobs/${id}`, wait)).json<JobView>();
  assert.equal(ended.status, 'cancelled', JSON.stringify(ended));
  world.sim.world.set('VM', ref, { current_operations: {} });
  assert.deepEqual(await world.audit(), []);
});

async function begin(world: HttpWorld): Promise<JobView> {
  const answer = await world.call('POST', '/v1/vms/app/backups', { body: {} });
  assert.equal(answer.status, 202, answer.text);
  return answer.json<JobView>();
}
