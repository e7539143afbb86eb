/**
 * The whole way: the Durable Object in workerd keeps a real `xvault serve`, which backs up a simulated pool into the bucket
 * that workerd serves, over R2's S3 API, and that the object reads by its binding.
 */
import assert from 'node:assert/strict';
import { Readable } from 'node:stream';
import { test } from 'node:test';
import type { Job } from '../../src/catalog/record.ts';
import { machines } from '../crash/cluster.ts';
import { settingsFor, startProgram } from '../e2e/program.ts';
import { contentDigest } from '../e2e/world.ts';
import { importXva } from '../importer.ts';
import { type SimPool, startSimPool } from '../sim/pool.ts';
import {
  BUCKET,
  CREDENTIALS,
  type EngineWorld,
  type Process,
  startEngineWorld,
} from './engine-world.ts';

const LONG = process.env.XVAULT_TEST_LONG === '1';
/** Of what a process said before it ended. */
const SHOWN_CHARACTERS = 500;
const TOKEN = 'a-token-of-the-tests';
const AUTHORIZED = { authorization: `Bearer ${TOKEN}` };
const POST = { method: 'POST', headers: { ...AUTHORIZED, 'content-type': 'application/json' } };

/** `xvault serve` with what the container would be started with, reached where this process can reach it. */
function startServe(env: Record<string, string>, endpoint: string): Process {
  const local = {
    XVAULT_LISTEN: '127.0.0.1:0',
    XVAULT_S3_ENDPOINT: endpoint,
    XVAULT_LOG_LEVEL: 'info', // its address
  };
  const program = startProgram(['serve'], { ...env, ...local });
  const listening = program.saw('"listening"').then((line) => JSON.parse(line) as { url: string });
  listening.catch(() => {}); // it ends before it listens: whoever asks is told
  return {
    ended: program.ended.then((code) =>
      code === 0 ? undefined : `exit code ${code} ${program.output.err.slice(-SHOWN_CHARACTERS)}`,
    ),
    signal: (number) => void program.child.kill(number === 15 ? 'SIGTERM' : 'SIGKILL'),
    fetch: async (request) => {
      const { url } = await listening;
      const { pathname, search } = new URL(request.url);
      const { method, headers } = request;
      const body = method === 'GET' ? undefined : await request.text();
      const init = { method, headers: Object.fromEntries(headers), redirect: 'manual' as const };
      return await fetch(
        `${url}${pathname}${search}`,
        body === undefined ? init : { ...init, body },
      );
    },
  };
}

interface Way {
  title: string;
  /** One machine by itself, or a run of all. */
  asked: 'a backup' | 'a run';
  /** Of the container, in the middle of the export. */
  signal: number;
  /** How the process ends of it. */
  end: RegExp;
  env: Record<string, string>;
}

const WAYS: Way[] = [
  { title: 'killed', asked: 'a backup', signal: 9, end: /^exit code null/, env: {} },
  { title: 'killed', asked: 'a run', signal: 9, end: /^exit code null/, env: {} },
  {
    title: 'stopped by a deploy',
    asked: 'a backup',
    signal: 15,
    end: /^in good order$/,
    env: { XVAULT_DRAIN_SECONDS: '0' },
  },
];

for (const { title, asked, signal, end, env } of LONG ? WAYS : WAYS.slice(0, 1)) {
  test(`${title} in the middle of ${asked}, the engine is started again, ends it, and is stopped`, async () => {
    const sim = await startSimPool({ machines: machines(1) });
    let serve: Process | undefined;
    let world: EngineWorld | undefined;
    try {
      const started = await startEngineWorld(
        (given) => {
          serve = startServe(given, started.endpoint);
          return serve;
        },
        { ...settingsOf(sim), ...env },
      );
      world = started;
      sim.faults.set('export-silent', { afterBytes: 5_000_000, silentMs: 600_000 });
      const id = await (asked === 'a run' ? beginRun(world) : beginBackup(world));
      await world.see(id, ({ progress }) => progress.read_bytes > 1_000_000);
      sim.faults.clear();
      serve?.signal(signal);
      await world.until('its end', () => started.count('ended') > 0);
      await world.expireLeases();
      await world.until('the container to be stopped', () => started.count('signal 15') > 0);
      await world.until('its orderly end', () => !started.running);

      const job = await world.job(id);
      assert.equal(job?.status, 'succeeded', JSON.stringify(job?.error));
      for (const key of await world.keys()) {
        if (!key.startsWith('xv/runs/')) continue;
        assert.equal(JSON.parse((await world.read(key)).toString('utf8')).status, 'succeeded');
      }
      // a start too many tells why the process before it ended
      const ends = world.ends.map((reason) => reason ?? 'in good order');
      assert.equal(ends.length, 2, ends.join('\n\n'));
      assert.match(ends[0] ?? '', end);
      assert.equal(ends[1], 'in good order');
      assert.equal(job.attempt, 2);
      await assertRestorable(world, sim, job);
      const ignore = /^session of|open connections|^task .* (success|failure|cancelled)/;
      assert.deepEqual(await sim.auditWhenQuiet({ ignore }), []);
    } finally {
      await world?.[Symbol.asyncDispose]();
      await sim.close();
    }
  });
}

async function beginBackup(world: EngineWorld): Promise<string> {
  return await begin(world, '/v1/vms/m0/backups', '{}');
}

/** The job of its one machine. */
async function beginRun(world: EngineWorld): Promise<string> {
  const id = await begin(world, '/v1/runs', '{"select":{"all":true}}');
  const run = await world.seeRun(id, ({ machines: [one] }) => one?.status === 'running');
  return run.machines[0]?.job_id ?? '';
}

async function begin(world: EngineWorld, path: string, body: string): Promise<string> {
  const answer = await world.fetch(path, { ...POST, body });
  assert.equal(answer.status, 202, await answer.clone().text());
  return ((await answer.json()) as { id: string }).id;
}

function settingsOf(sim: SimPool): Record<string, string> {
  const s3 = { endpoint: '', region: 'auto', ...CREDENTIALS };
  return {
    ...settingsFor(sim, s3 as Parameters<typeof settingsFor>[1]),
    XVAULT_BUCKET: BUCKET,
    XVAULT_S3_PROVIDER: 'r2',
    XVAULT_TOKEN: TOKEN,
    XVAULT_MEMORY_MIB: '64',
    XVAULT_LOG_LEVEL: 'error',
    // on a busy machine a renewal may be late by seconds; the dead engine's is made to run out at once
    XVAULT_LEASE_SECONDS: '60',
    ENGINE_ALARM_SECONDS: '0.5',
    ENGINE_START_SECONDS: '120',
    ENGINE_STARTS: '6',
  };
}

async function assertRestorable(world: EngineWorld, sim: SimPool, job: Job): Promise<void> {
  const archives = (await world.keys()).filter((key) => /^xv\/backups\/.*\.xva$/.test(key));
  assert.deepEqual(archives, [job.result?.archive.key]);
  const imported = await importXva(Readable.from([await world.read(archives[0] ?? '')]));
  assert.deepEqual(
    imported.disks.map(({ image }) => contentDigest(image)),
    sim.machine('m0').disks.map(({ disk }) => contentDigest(disk)),
  );
}
