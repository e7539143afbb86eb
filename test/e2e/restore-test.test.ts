/**
 * Restore tests on two simulated pools: the machine comes up, is judged and is gone again, and what was found is kept; a guest
 * that stays silent, a bad verdict or none, damage on the way, a cancel and a dead instance leave nothing either.
 */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import type { Backup, Job } from '../../src/catalog/record.ts';
import type { RestoreRequest } from '../../src/catalog/restore.ts';
import type { RestoreTestWish, Verification } from '../../src/catalog/verified.ts';
import { systemClock } from '../../src/clock.ts';
import { SILENT_LOG } from '../../src/log.ts';
import { createGuestHooks } from '../../src/notify/guest-hooks.ts';
import { parseAllowList } from '../../src/outgoing.ts';
import type { Clock, ObjectStore, Pool, VmRef } from '../../src/ports.ts';
import { createSecret } from '../../src/secret.ts';
import { NEVER } from '../../src/signals.ts';
import { createHookClock } from '../hooks/clock.ts';
import { HOOK_SECRET, type HookReceiver, startHookReceiver } from '../hooks/receiver.ts';
import { nextId } from '../records.ts';
import { machineOf, type RestoreWorld, startRestoreWorld, TWO_DISKS } from './restore-world.ts';

const options = { signal: NEVER };
/** Unlike any other wait. */
const ASKED_SECONDS = 17;

let lab: RestoreWorld;
let judge: HookReceiver;
let backup: Backup;
before(async () => {
  judge = await startHookReceiver();
  const { list: allow } = parseAllowList('XVAULT_HOOK_ALLOW', judge.origin);
  const hooks = createGuestHooks(
    { allow, secrets: [createSecret(HOOK_SECRET)], timeoutMs: 30_000, caPem: judge.caPem },
    { clock: createHookClock(30_000), log: SILENT_LOG },
  );
  lab = await startRestoreWorld({ hooks, service: { catalogTtlMs: 0 } });
  backup = await lab.backUp(TWO_DISKS.name);
});
after(async () => {
  assert.deepEqual(await lab.audit(), []);
  await lab[Symbol.asyncDispose]();
  await judge[Symbol.asyncDispose]();
});

interface Over {
  target?: Pool;
  store?: ObjectStore;
  clock?: Clock;
  seconds?: number;
  wish?: Partial<RestoreTestWish>;
}

async function tryOut({ seconds = 600, wish = {}, ...over }: Over = {}): Promise<Job> {
  const service = lab.secondService(over);
  const { id } = await service.startRestoreTest(
    {
      backupId: backup.id,
      wish: { pool: 'dr', boot_timeout_seconds: seconds, ...wish },
      triggeredBy: 'test',
    },
    options,
  );
  await service.drain({ drainMs: 60_000 });
  return (await service.getJob(id, options)) as Job;
}

const told = async (): Promise<Verification | undefined> =>
  (await lab.world.secondService().getBackup(backup.id, options))?.verified;

const machines = () => [...lab.target.world.all('VM')].filter(([, vm]) => !vm.is_control_domain);

test('a machine is restored without a network, started, seen to work, and gone again', async () => {
  const there = machines().length;
  const seen: string[] = [];
  const target: Pool = {
    ...lab.targetPool,
    startVm: async (vm, to) => {
      const { nameLabel, networks, disks, mark } = await lab.targetPool.describeMachine(vm, to);
      seen.push(nameLabel, String(networks.length), String(disks.length), mark ?? '');
      await lab.targetPool.startVm(vm, to);
    },
  };
  const job = await tryOut({ target });
  assert.equal(job.status, 'succeeded', JSON.stringify(job.error));
  assert.deepEqual([job.kind, job.restored?.started], ['restore_test', true]);
  assert.deepEqual(seen, [`xvault restore test of ${TWO_DISKS.name}`, '0', '2', job.id]);
  const verified = await told();
  assert.deepEqual([verified?.ok, verified?.kind, verified?.job_id], [true, 'restored', job.id]);
  assert.deepEqual(verified, job.verified);
  assert.equal(machines().length, there);
  const { vms } = await lab.world.secondService().status({ maxAgeSeconds: 3600 }, options);
  assert.match(vms[0]?.reason ?? '', /young enough, restored as a test just now/);
});

test('a guest that says nothing fails the test, and the status tells of it until it was seen to work', async () => {
  lab.target.faults.set('guest-silent', {});
  const target = lab.openTarget({ factor: 200 });
  const job = await tryOut({ target, seconds: 30 });
  lab.target.faults.clear();
  await target.close();
  assert.deepEqual([job.status, job.error?.code], ['failed', 'target_failed']);
  assert.match(job.error?.detail ?? '', /did not report within 30 seconds/);
  const verified = await told();
  assert.deepEqual([verified?.ok, verified?.problem?.part], [false, 'restore']);
  const { vms } = await lab.world.secondService().status({ maxAgeSeconds: 3600 }, options);
  assert.equal(vms[0]?.status, 'warning', vms[0]?.reason);
  assert.equal((await tryOut()).status, 'succeeded');
  assert.equal((await told())?.ok, true);
});

test('a machine is judged while it runs: a good verdict is one, a bad one is kept with its words', async () => {
  const verdict = `${judge.origin}/verdict`;
  const running: string[] = [];
  // the wait that the judge asked for is over at once
  const clock: Clock = {
    ...systemClock,
    sleep: async (ms, to) => {
      if (ms !== ASKED_SECONDS * 1000) await systemClock.sleep(ms, to);
    },
  };
  judge.respond = () => {
    const up = machines().filter(([, vm]) => vm.power_state === 'Running');
    running.push(...up.map(([, vm]) => `${vm.uuid} ${vm.name_label}`));
    return judge.calls.length === 1
      ? { status: 202, headers: { 'retry-after': String(ASKED_SECONDS) } }
      : undefined;
  };
  const job = await tryOut({ wish: { verdict }, clock });
  assert.deepEqual([job.status, job.verified?.ok], ['succeeded', true], JSON.stringify(job.error));
  const { vm, disks } = job.restored ?? {};
  assert.deepEqual(running, Array(2).fill(`${vm?.uuid} ${vm?.name}`));
  const [first, second, ...more] = judge.calls.splice(0);
  assert.deepEqual([first?.verified, second?.verified, more.length], [true, true, 0]);
  assert.notEqual(first?.id, second?.id);
  assert.deepEqual(first?.data.vm, { ...vm, pool: 'dr' });
  assert.deepEqual(first?.data.disks, disks);
  assert.deepEqual([first?.data.backup_id, first?.data.job_id], [backup.id, job.id]);
  assert.match(JSON.stringify(first?.data.guest), /"tools":"\d/);

  const plain = { 'content-type': 'text/plain' };
  judge.respond = () => ({ status: 422, headers: plain, body: 'no table "orders"' });
  const bad = await tryOut({ wish: { verdict } });
  assert.deepEqual([bad.status, bad.error?.code], ['failed', 'target_failed']);
  const found = await told();
  assert.deepEqual([found?.ok, found?.problem?.part, found?.job_id], [false, 'restore', bad.id]);
  assert.match(found?.problem?.detail ?? '', /^judge restored machine: "no table orders"$/);

  judge.calls.length = 0;
  judge.respond = () => ({ status: 500 });
  const none = await tryOut({ wish: { verdict, guest: false } });
  assert.deepEqual([none.status, none.error?.code], ['failed', 'hook_failed']);
  assert.equal(new Set(judge.calls.splice(0).map(({ id }) => id)).size, 1);
  assert.deepEqual(await told(), found);
  const elsewhere = tryOut({ wish: { verdict: 'https://other.example/verdict' } });
  await assert.rejects(elsewhere, { code: 'invalid_request', message: /XVAULT_HOOK_ALLOW/ });
  assert.deepEqual(await lab.audit(), []);
});

test('damage on the way is damage of the archive; a pool that is full says nothing of it', async () => {
  const before = await told();
  const full: Pool = {
    ...lab.targetPool,
    importTargets: async (to) => {
      const found = await lab.targetPool.importTargets(to);
      return { ...found, srs: found.srs.map((sr) => ({ ...sr, freeBytes: 0 })) };
    },
  };
  await assert.rejects(tryOut({ target: full }), { code: 'restore_refused' });
  const refused: Pool = {
    ...lab.targetPool,
    startVm: async (vm, to) => {
      await lab.targetPool.startVm('OpaqueRef:none' as typeof vm, to);
    },
  };
  assert.equal((await tryOut({ target: refused })).status, 'failed');
  assert.deepEqual(await told(), before);

  const { store } = lab.world;
  const rotten: ObjectStore = {
    ...store,
    read: async function* (input, to) {
      let offset = 0;
      for await (const piece of store.read(input, to)) {
        const bytes = Buffer.from(piece);
        const place = 3_000_000 - offset;
        if (place >= 0 && place < bytes.length) bytes[place] = (bytes[place] as number) ^ 1;
        offset += piece.length;
        yield bytes;
      }
    },
  };
  const job = await tryOut({ store: rotten });
  assert.deepEqual([job.status, job.error?.code], ['failed', 'data_corrupt'], job.error?.detail);
  assert.equal((await told())?.problem?.part, 'archive');
});

test('cancelled while the guest comes up, or is judged, it leaves nothing', async () => {
  const waiting = Promise.withResolvers<void>();
  const hanging: Pool = {
    ...lab.targetPool,
    waitForGuest: (_, { signal }) => {
      waiting.resolve();
      return new Promise((_, reject) =>
        signal.addEventListener('abort', () => reject(signal.reason)),
      );
    },
  };
  const asked = Promise.withResolvers<void>();
  judge.respond = () => {
    asked.resolve();
    return 'silent';
  };
  const verdict = `${judge.origin}/verdict`;
  for (const { target = lab.targetPool, wish, begun } of [
    { target: hanging, wish: {}, begun: waiting.promise },
    { wish: { verdict }, begun: asked.promise },
  ]) {
    const service = lab.secondService({ target });
    const asks = { pool: 'dr', boot_timeout_seconds: 600, ...wish };
    const input = { backupId: backup.id, wish: asks, triggeredBy: 'test' };
    const { id } = await service.startRestoreTest(input, options);
    await begun;
    await service.cancelJob(id, options);
    await service.drain({ drainMs: 60_000 });
    assert.equal((await service.getJob(id, options))?.status, 'cancelled');
    assert.deepEqual(await lab.audit(), []);
  }
  judge.calls.length = 0;
});

test('a job whose instance died while the machine ran is ended by another, which starts it anew', async () => {
  judge.respond = () => undefined;
  const done = await tryOut({ wish: { verdict: `${judge.origin}/verdict` } });
  const { networks } = done.restore as RestoreRequest;
  const made = await lab.restore(backup, { name: 'left', networks });
  const { ref: vm } = machineOf(lab.target, made);
  const { finished_at: _, verified: _2, restored: _3, ...rest } = done;
  const id = nextId();
  const checkpoint = { ...done.checkpoint, restore: { tasks: [], disks: {}, vm_ref: vm } };
  const left = { ...rest, id, status: 'running', phase: 'verifying', instance: 'dead', checkpoint };
  await lab.targetPool.markMachine({ vm: vm as VmRef, mark: id }, options);
  await lab.targetPool.startVm(vm as VmRef, options);
  await lab.world.store.put(`xv/jobs/${id}.json`, JSON.stringify(left), options);
  const service = lab.secondService({});
  await service.start();
  const job = await service.waitJob(id, { timeoutMs: 30_000 }, options);
  await service.drain({ drainMs: 0 });
  assert.deepEqual([job?.status, job?.attempt], ['succeeded', 2], JSON.stringify(job?.error));
  assert.equal(job?.verified?.kind, 'restored');
  assert.deepEqual(
    judge.calls.map(({ data }) => [data.job_id, data.attempt]),
    [
      [done.id, 1],
      [id, 2],
    ],
  );
  assert.deepEqual(await lab.audit(), []);
});
