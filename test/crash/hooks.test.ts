/** A process that dies while its guest is frozen: another one releases it first, and then begins anew. */
import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { HOOK_SECRET, startHookReceiver } from '../hooks/receiver.ts';
import { startCluster } from './cluster.ts';

/** The other moments are for the long run. */
const LONG = process.env.XVAULT_TEST_LONG === '1';

type Moment =
  | 'the guest is being asked'
  | 'the snapshot has been made'
  | 'the guest is being released';

describe('kill -9 between the hooks', { concurrency: 2 }, () => {
  const others: Moment[] = ['the guest is being asked', 'the guest is being released'];
  for (const moment of ['the snapshot has been made' as const, ...(LONG ? others : [])]) {
    test(`killed while ${moment}: the next instance releases it, and makes a snapshot of its own`, () =>
      crashAt(moment));
  }
});

async function crashAt(moment: Moment): Promise<void> {
  await using cluster = await startCluster();
  await using receiver = await startHookReceiver();
  const folder = await mkdtemp(join(tmpdir(), 'xvault-hooks-'));
  try {
    const caFile = join(folder, 'ca.pem');
    await writeFile(caFile, receiver.caPem);
    const env = {
      XVAULT_HOOK_ALLOW: receiver.origin,
      XVAULT_HOOK_SECRET: HOOK_SECRET,
      XVAULT_HOOK_CA_FILE: caFile,
    };
    const victim = await cluster.start('a', env);
    const killed = victim.program.ended;
    const kill = () => {
      if (victim.alive()) victim.kill();
    };
    receiver.respond = async ({ phase, data }) => {
      const asked = phase === 'before_snapshot' && moment === 'the guest is being asked';
      const released = phase === 'after_snapshot' && moment === 'the guest is being released';
      if (data.round === 1 && (asked || released) && victim.alive()) {
        kill();
        await killed;
      }
      return { status: 204 };
    };
    const unwatch = cluster.watch(({ name, done }) => {
      const made = name === 'Async.VM.snapshot' && done;
      if (!made || moment !== 'the snapshot has been made') return undefined;
      unwatch();
      kill();
      return 'cut';
    });
    const hooks = {
      before_snapshot: `${receiver.origin}/freeze`,
      after_snapshot: `${receiver.origin}/thaw`,
    };
    await victim.backUp('m0', { hooks });
    await killed;
    await cluster.expireLeases();
    const other = await cluster.start('b', env);
    const [job] = cluster.jobs();
    assert.ok(job);
    const ended = await cluster.ended(job.id);
    assert.equal(ended.status, 'succeeded', JSON.stringify(ended.error));
    assert.equal(ended.result?.consistency, 'guest_hooks');
    const heard = receiver.calls.map(({ phase, data }) => [data.round, phase, data.snapshot_taken]);
    assert.ok(receiver.calls.every(({ verified }) => verified));
    const twice = moment === 'the guest is being released';
    assert.deepEqual(heard, [
      [1, 'before_snapshot', undefined],
      ...(twice ? [[1, 'after_snapshot', true]] : []),
      [1, 'after_snapshot', false],
      [2, 'before_snapshot', undefined],
      [2, 'after_snapshot', true],
    ]);
    await cluster.check(other);
  } finally {
    await rm(folder, { recursive: true });
  }
}
