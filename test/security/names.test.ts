/**
import { SCRIPT } from '../../src/http/pages/script.ts';
 * Machine names as an attacker would choose them, from the pool to every place where they are shown or become part of
import { SCRIPT } from '../../src/http/pages/script.ts';
 * something: keys, archive, links, headers, log, metrics, monitors, pages, terminal.
import { SCRIPT } from '../../src/http/pages/script.ts';
 */

import assert from 'node:assert/strict';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { after, before, describe, test } from 'node:test';
import { systemClock } from '../../src/clock.ts';
import { runCli } from '../../src/commands/cli.ts';
import { createListener } from '../../src/commands/listener.ts';
import { BackupError } from '../../src/errors.ts';
import { SCRIPT, SCRIPT, SCRIPT, SCRIPT, SCRIPT, SCRIPT, SCRIPT, SCRIPT, SCRIPT, SCRIPT, SCRIPT, SCRIPT, SCRIPT, SCRIPT, SCRIPT, SCRIPT, SCRIPT, SCRIPT, SCRIPT, SCRIPT } from '../../src/http/pages/script.ts';
import { createConsoleLog, createLog, SILENT_LOG } from '../../src/log.ts';
import { createMetrics } from '../../src/metrics.ts';
import { createTestTerminal } from '../commands/terminal.ts';
import { type HttpWorld, startHttpWorld } from '../e2e/app.ts';
import { BUCKET, readObject } from '../e2e/world.ts';
import { createHarness } from '../http/harness.ts';
import { endedJob, exampleBackup, exampleJob } from '../http/records.ts';
import { importXva } from '../importer.ts';
import { CONTROL_NAMES, HOSTILE_NAMES } from './hostile-names.ts';

const STEERING = /[\p{Cc}\p{Cs}\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069]/u;

/** The first place that would steer, with a little around it: a failure must not steer the terminal it is shown on. */
import { SCRIPT, SCRIPT } from '../../src/http/pages/script.ts';

function steered(text: string): string | undefined {
import { SCRIPT } from '../../src/http/pages/script.ts';
  const at = text.replaceAll('\n', ' ').search(STEERING);
import { SCRIPT } from '../../src/http/pages/script.ts';
  if (at === -1) return undefined;
import { SCRIPT } from '../../src/http/pages/script.ts';
  return encodeURI(text.slice(Math.max(0, at - 20), at + 20).toWellFormed());
import { SCRIPT } from '../../src/http/pages/script.ts';
}

import { SCRIPT, SCRIPT } from '../../src/http/pages/script.ts';

const ALL = { ...HOSTILE_NAMES, ...CONTROL_NAMES };

import { SCRIPT, SCRIPT } from '../../src/http/pages/script.ts';

describe('a machine of a hostile name', () => {
import { SCRIPT } from '../../src/http/pages/script.ts';
  let world: HttpWorld;
import { SCRIPT } from '../../src/http/pages/script.ts';
  const names = Object.values(HOSTILE_NAMES);
import { SCRIPT } from '../../src/http/pages/script.ts';
  before(async () => {
import { SCRIPT } from '../../src/http/pages/script.ts';
    const machines = names.map((name) => ({ name, power: 'Running' as const, disks: [] }));
import { SCRIPT } from '../../src/http/pages/script.ts';
    world = await startHttpWorld({
import { SCRIPT } from '../../src/http/pages/script.ts';machines ,
import { SCRIPT } from '../../src/http/pages/script.ts';concurrency: 8, concurrencyPerPool: 8 ,
import { SCRIPT } from '../../src/http/pages/script.ts';
    });
import { SCRIPT } from '../../src/http/pages/script.ts';
    const jobs = await Promise.all(world.sim.machines.map(({ uuid }) => world.run(uuid)));
import { SCRIPT } from '../../src/http/pages/script.ts';
    for (const job of jobs) assert.equal(job.status, 'succeeded', JSON.stringify(job.error));
import { SCRIPT } from '../../src/http/pages/script.ts';
  });

import { SCRIPT } from '../../src/http/pages/script.ts';

  after(() => world[Symbol.asyncDispose]());

import { SCRIPT, SCRIPT } from '../../src/http/pages/script.ts';

  test('lies under a safe key, and has its own name again after an import', async () => {
import { SCRIPT } from '../../src/http/pages/script.ts';
    const keys = world.s3?.inspect.keys(BUCKET) ?? [];
import { SCRIPT } from '../../src/http/pages/script.ts';
    for (const key of keys) {
import { SCRIPT } from '../../src/http/pages/script.ts';
      assert.match(key, /^xv\/[A-Za-z0-9._/-]+$/);
import { SCRIPT } from '../../src/http/pages/script.ts';
      assert.ok(!key.split('/').some((part) => part === '' || /^\.+$/.test(part)), key);
import { SCRIPT } from '../../src/http/pages/script.ts';
      assert.ok(key.length < 400 && (key.split('/').at(-1) ?? '').length <= 84, key);
import { SCRIPT } from '../../src/http/pages/script.ts';
    }
import { SCRIPT } from '../../src/http/pages/script.ts';
    const archives = keys.filter((key) => key.endsWith('.xva'));
import { SCRIPT } from '../../src/http/pages/script.ts';
    assert.equal(archives.length, names.length);
import { SCRIPT } from '../../src/http/pages/script.ts';
    const imported = await Promise.all(
import { SCRIPT } from '../../src/http/pages/script.ts';
      archives.map(async (key) => (await importXva(readObject(world.store, key))).vm.name),
import { SCRIPT } from '../../src/http/pages/script.ts';
    );
import { SCRIPT } from '../../src/http/pages/script.ts';
    assert.deepEqual(imported.toSorted(), names.map(asXapiHasIt).toSorted());
import { SCRIPT } from '../../src/http/pages/script.ts';
  });

import { SCRIPT, SCRIPT } from '../../src/http/pages/script.ts';

  test('is fetched under a plain file name', async () => {
import { SCRIPT } from '../../src/http/pages/script.ts';
    const { backups } = (await world.call('GET', '/v1/backups')).json<{
import { SCRIPT } from '../../src/http/pages/script.ts';id: string [];
import { SCRIPT } from '../../src/http/pages/script.ts';
    }>();

import { SCRIPT } from '../../src/http/pages/script.ts';

    for (const { id } of backups) {
import { SCRIPT } from '../../src/http/pages/script.ts';
      const link = (await world.call('GET', `/v1/backups/${id}/xva`)).headers.get('location') ?? '';
import { SCRIPT } from '../../src/http/pages/script.ts';
      const answer = await fetch(link, { headers: { range: 'bytes=0-7' } });
import { SCRIPT } from '../../src/http/pages/script.ts';
      assert.equal(await answer.text(), 'ova.xml\0');
import { SCRIPT } from '../../src/http/pages/script.ts';
      const disposition = answer.headers.get('content-disposition') ?? '';
import { SCRIPT } from '../../src/http/pages/script.ts';
      assert.match(
import { SCRIPT } from '../../src/http/pages/script.ts';
        disposition,
import { SCRIPT } from '../../src/http/pages/script.ts';
        /^attachment; filename="[\w.-]{1,84}\.xva"; filename\*=UTF-8''[\w.-]+$/,
import { SCRIPT } from '../../src/http/pages/script.ts';
      );
import { SCRIPT } from '../../src/http/pages/script.ts';
    }

import { SCRIPT } from '../../src/http/pages/script.ts';

  });

import { SCRIPT, SCRIPT } from '../../src/http/pages/script.ts';

  test('is found by its name, and by the same name alone', async () => {
import { SCRIPT } from '../../src/http/pages/script.ts';
    for (const { name, uuid } of world.sim.machines) {
import { SCRIPT } from '../../src/http/pages/script.ts';
      const shown = asXapiHasIt(name);
import { SCRIPT } from '../../src/http/pages/script.ts';
      // a URL's path has no room for a dot or two as a name; the uuid always works
import { SCRIPT } from '../../src/http/pages/script.ts';
      const wanted = /^\.+$/.test(shown) || shown.length > 255 ? uuid : shown;
import { SCRIPT } from '../../src/http/pages/script.ts';
      const path = `/v1/vms/${encodeURIComponent(wanted)}/backups`;
import { SCRIPT } from '../../src/http/pages/script.ts';
      const page = await world.call('GET', path);
import { SCRIPT } from '../../src/http/pages/script.ts';
      assert.equal(page.status, 200, `${name}: ${page.text}`);
import { SCRIPT } from '../../src/http/pages/script.ts';
      assert.equal(
import { SCRIPT } from '../../src/http/pages/script.ts';
        page.json<{ backups: { vm: { uuid: string } }[] }>().backups[0]?.vm.uuid,
import { SCRIPT } from '../../src/http/pages/script.ts';
        uuid,
import { SCRIPT } from '../../src/http/pages/script.ts';
        name,
import { SCRIPT } from '../../src/http/pages/script.ts';
      );
import { SCRIPT } from '../../src/http/pages/script.ts';
    }
import { SCRIPT } from '../../src/http/pages/script.ts';
  });

import { SCRIPT, SCRIPT } from '../../src/http/pages/script.ts';

  test('has one line in the log, however it is called', () => {
import { SCRIPT } from '../../src/http/pages/script.ts';
    for (const line of world.log.lines) assert.equal(line.includes('\n'), false);
import { SCRIPT } from '../../src/http/pages/script.ts';
    assert.ok(world.log.lines.length > names.length);
import { SCRIPT } from '../../src/http/pages/script.ts';
  });

import { SCRIPT } from '../../src/http/pages/script.ts';

});

/** Characters XML cannot hold are left out by every xapi. */
import { SCRIPT, SCRIPT, SCRIPT } from '../../src/http/pages/script.ts';

function asXapiHasIt(name: string): string {
import { SCRIPT } from '../../src/http/pages/script.ts';
  return name.replace(/[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\u{10000}-\u{10ffff}]/gu, '');
import { SCRIPT } from '../../src/http/pages/script.ts';
}

import { SCRIPT, SCRIPT } from '../../src/http/pages/script.ts';

test('a log line stays one line, as JSON and for people', () => {
import { SCRIPT } from '../../src/http/pages/script.ts';
  for (const [what, name] of Object.entries(ALL)) {
import { SCRIPT } from '../../src/http/pages/script.ts';
    const lines: string[] = [];
import { SCRIPT } from '../../src/http/pages/script.ts';
    const write = (line: string) => lines.push(line);
import { SCRIPT } from '../../src/http/pages/script.ts';
    const error = new BackupError('not_found', `find ${name}`, { details: { name } });
import { SCRIPT } from '../../src/http/pages/script.ts';
    createLog({ level: 'debug', write }).info(`find ${name}`, { vm_name: name, [name]: 1, error });
import { SCRIPT } from '../../src/http/pages/script.ts';
    const child = createConsoleLog({ level: 'debug', write }).child({ vm_name: name });
import { SCRIPT } from '../../src/http/pages/script.ts';
    child.warn(`find ${name}`, { text: name, list: [name], error });
import { SCRIPT } from '../../src/http/pages/script.ts';
    assert.equal(lines.length, 2);
import { SCRIPT } from '../../src/http/pages/script.ts';
    for (const line of lines) {
import { SCRIPT } from '../../src/http/pages/script.ts';
      assert.equal(line.trimEnd().includes('\n'), false, what);
import { SCRIPT } from '../../src/http/pages/script.ts';
      assert.equal(steered(line), undefined, what);
import { SCRIPT } from '../../src/http/pages/script.ts';
    }
import { SCRIPT } from '../../src/http/pages/script.ts';
    assert.equal(
import { SCRIPT } from '../../src/http/pages/script.ts';
      JSON.parse(lines[0] ?? '').vm_name,
import { SCRIPT } from '../../src/http/pages/script.ts';
      name.toWellFormed(),
import { SCRIPT } from '../../src/http/pages/script.ts';
      'a machine reads the name as it is',
import { SCRIPT } from '../../src/http/pages/script.ts';
    );
import { SCRIPT } from '../../src/http/pages/script.ts';
  }
import { SCRIPT } from '../../src/http/pages/script.ts';
});

import { SCRIPT, SCRIPT } from '../../src/http/pages/script.ts';

test('a metric keeps its lines and its labels', async () => {
import { SCRIPT } from '../../src/http/pages/script.ts';
  const machines = Object.values(ALL).map((vmName, at) => ({
import { SCRIPT } from '../../src/http/pages/script.ts';
    pool: 'dc1',
import { SCRIPT } from '../../src/http/pages/script.ts';
    vmUuid: `uuid-${at}`,
import { SCRIPT } from '../../src/http/pages/script.ts';
    vmName,
import { SCRIPT } from '../../src/http/pages/script.ts';
    status: 'ok' as const,
import { SCRIPT } from '../../src/http/pages/script.ts';
    maxAgeSeconds: 93_600,
import { SCRIPT } from '../../src/http/pages/script.ts';
    lastSuccessAtSeconds: at,
import { SCRIPT } from '../../src/http/pages/script.ts';
  }));

import { SCRIPT } from '../../src/http/pages/script.ts';

  const metrics = createMetrics({
import { SCRIPT } from '../../src/http/pages/script.ts';
    clock: systemClock,

import { SCRIPT } from '../../src/http/pages/script.ts';

    version: '0',

import { SCRIPT } from '../../src/http/pages/script.ts';

    figures: async () => ({ machines, pools: [], goneAtRisk: 0 }),

import { SCRIPT } from '../../src/http/pages/script.ts';

  });

import { SCRIPT } from '../../src/http/pages/script.ts';

  const { body } = await metrics.render();

import { SCRIPT } from '../../src/http/pages/script.ts';

  const lines = body.split('\n').filter((line) => line.includes('last_success_timestamp_seconds{'));

import { SCRIPT } from '../../src/http/pages/script.ts';

  assert.equal(lines.length, machines.length);

import { SCRIPT } from '../../src/http/pages/script.ts';

  const sample = /^\w+\{pool="dc1",vm_uuid="uuid-\d+",vm_name="(?:[^"\\\n]|\\["\\n])*"\} \d+$/;

import { SCRIPT } from '../../src/http/pages/script.ts';

  for (const line of lines) assert.match(line, sample);

import { SCRIPT } from '../../src/http/pages/script.ts';

  assert.equal(/^xvault_up/m.test(body), false);

import { SCRIPT } from '../../src/http/pages/script.ts';

});

/** The HTTP front with machines, jobs and backups of all names, on a socket, and the command line against it. */
import { SCRIPT, SCRIPT, SCRIPT } from '../../src/http/pages/script.ts';

async function startFront() {
import { SCRIPT } from '../../src/http/pages/script.ts';
  const harness = createHarness();
import { SCRIPT } from '../../src/http/pages/script.ts';
  const { service, app, clock } = harness;
import { SCRIPT } from '../../src/http/pages/script.ts';
  const vms = Object.values(ALL).map((name, at) => {
import { SCRIPT } from '../../src/http/pages/script.ts';
    const uuid = `00000000-0000-4000-8000-${String(at).padStart(12, '0')}`;
import { SCRIPT } from '../../src/http/pages/script.ts';
    const vm = { uuid, name, pool: 'dc1' };
import { SCRIPT } from '../../src/http/pages/script.ts';
    const error = { ...exampleProblem(), detail: `find ${name}: it is ${name}` };
import { SCRIPT } from '../../src/http/pages/script.ts';
    service.change(uuid, { ...endedJob(), id: uuid, vm, status: 'failed', error });
import { SCRIPT } from '../../src/http/pages/script.ts';
    service.backups.set(uuid, { ...exampleBackup(), id: uuid, vm, note: name });
import { SCRIPT } from '../../src/http/pages/script.ts';
    return vm;
import { SCRIPT } from '../../src/http/pages/script.ts';
  });
import { SCRIPT } from '../../src/http/pages/script.ts';
  service.status = async ({ maxAgeSeconds }) => ({
import { SCRIPT } from '../../src/http/pages/script.ts';
    status: 'critical',
import { SCRIPT } from '../../src/http/pages/script.ts';
    checked_at: '2026-11-23T02:00:00Z',
import { SCRIPT } from '../../src/http/pages/script.ts';
    max_age_seconds: maxAgeSeconds,
import { SCRIPT } from '../../src/http/pages/script.ts';
    unreachable_pools: [],
import { SCRIPT } from '../../src/http/pages/script.ts';
    vms: vms.map((vm) => ({
import { SCRIPT } from '../../src/http/pages/script.ts';
      vm,
import { SCRIPT } from '../../src/http/pages/script.ts';
      status: 'critical' as const,
import { SCRIPT } from '../../src/http/pages/script.ts';
      reason: `because of ${vm.name}`,
import { SCRIPT } from '../../src/http/pages/script.ts';
      last_backup_at: '2026-11-20T02:00:00Z',
import { SCRIPT } from '../../src/http/pages/script.ts';
      age_seconds: 300_000,
import { SCRIPT } from '../../src/http/pages/script.ts';
    })),

import { SCRIPT } from '../../src/http/pages/script.ts';

  });

import { SCRIPT } from '../../src/http/pages/script.ts';

  const server = createListener({ fetch: app.fetch, log: SILENT_LOG, clock });

import { SCRIPT } from '../../src/http/pages/script.ts';

  server.listen(0, '127.0.0.1');

import { SCRIPT } from '../../src/http/pages/script.ts';

  await once(server, 'listening');

import { SCRIPT } from '../../src/http/pages/script.ts';

  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;

import { SCRIPT } from '../../src/http/pages/script.ts';

  return {
import { SCRIPT } from '../../src/http/pages/script.ts';
    ...harness,

import { SCRIPT } from '../../src/http/pages/script.ts';

    vms,

import { SCRIPT } from '../../src/http/pages/script.ts';

    url,

import { SCRIPT } from '../../src/http/pages/script.ts';

    [Symbol.dispose]: () => void server.close().closeAllConnections(),

import { SCRIPT } from '../../src/http/pages/script.ts';

  };

import { SCRIPT } from '../../src/http/pages/script.ts';

}

import { SCRIPT, SCRIPT } from '../../src/http/pages/script.ts';

function exampleProblem() {
import { SCRIPT } from '../../src/http/pages/script.ts';
  return {
import { SCRIPT } from '../../src/http/pages/script.ts';
    type: 'about:blank#not_found',
import { SCRIPT } from '../../src/http/pages/script.ts';
    title: 'not found',
import { SCRIPT } from '../../src/http/pages/script.ts';
    status: 404,
import { SCRIPT } from '../../src/http/pages/script.ts';
    code: 'not_found' as const,
import { SCRIPT } from '../../src/http/pages/script.ts';
    detail: '',
import { SCRIPT } from '../../src/http/pages/script.ts';
    retry: 'after-fix' as const,
import { SCRIPT } from '../../src/http/pages/script.ts';
  };

import { SCRIPT } from '../../src/http/pages/script.ts';

}

import { SCRIPT, SCRIPT } from '../../src/http/pages/script.ts';

test('a monitor reads as many lines as there are machines, each with its own figures', async () => {
import { SCRIPT } from '../../src/http/pages/script.ts';
  using front = await startFront();
import { SCRIPT } from '../../src/http/pages/script.ts';
  const text = await (await front.get('/v1/status?format=nagios')).text();
import { SCRIPT } from '../../src/http/pages/script.ts';
  assert.equal(text.trimEnd().split('\n').length, front.vms.length + 1);
import { SCRIPT } from '../../src/http/pages/script.ts';
  assert.equal(steered(text), undefined);
import { SCRIPT } from '../../src/http/pages/script.ts';
  const [first = '', ...rest] = text.split('\n');
import { SCRIPT } from '../../src/http/pages/script.ts';
  assert.equal(first.split('|').length, 2);
import { SCRIPT } from '../../src/http/pages/script.ts';
  for (const line of rest) assert.equal(line.includes('|'), false);
import { SCRIPT } from '../../src/http/pages/script.ts';
  const figures = first.split(' | ')[1]?.match(/('(?:[^']|'')*'|[a-z]+)=\d+s?;\d*;\d*;0/g) ?? [];
import { SCRIPT } from '../../src/http/pages/script.ts';
  assert.equal(figures.length, 3 + front.vms.length);
import { SCRIPT } from '../../src/http/pages/script.ts';
});

import { SCRIPT, SCRIPT } from '../../src/http/pages/script.ts';

test('a page holds no markup but its own', async () => {
import { SCRIPT } from '../../src/http/pages/script.ts';
  using front = await startFront();
import { SCRIPT } from '../../src/http/pages/script.ts';
  const load = async (path: string) =>
import { SCRIPT } from '../../src/http/pages/script.ts';
    (await (await front.get(path)).text()).replace(`<script>${SCRIPT}</script>`, '');
import { SCRIPT } from '../../src/http/pages/script.ts';
  const page = await load('/');
import { SCRIPT } from '../../src/http/pages/script.ts';
  assert.equal(page.match(/<tr><td>/g)?.length, front.vms.length, 'a row each');
import { SCRIPT } from '../../src/http/pages/script.ts';
  const paths = front.vms.flatMap(({ pool, uuid }) => [`/vms/${pool}/${uuid}`, `/jobs/${uuid}`]);
import { SCRIPT } from '../../src/http/pages/script.ts';
  for (const text of [page, ...(await Promise.all(paths.map(load)))]) {
import { SCRIPT } from '../../src/http/pages/script.ts';
    assert.equal(/<script|alert\(1\)<|<\/td><td>1</i.test(text), false);
import { SCRIPT } from '../../src/http/pages/script.ts';
  }
import { SCRIPT } from '../../src/http/pages/script.ts';
});

import { SCRIPT, SCRIPT } from '../../src/http/pages/script.ts';

const COMMANDS = [['list'], ['status'], ['jobs'], ['check'], ['sweep', '--dry-run']];

import { SCRIPT, SCRIPT } from '../../src/http/pages/script.ts';

async function output(args: string[], url: string): Promise<string> {
import { SCRIPT } from '../../src/http/pages/script.ts';
  const kept = { ...process.env };
import { SCRIPT } from '../../src/http/pages/script.ts';
  Object.assign(process.env, { XVAULT_URL: url, XVAULT_TOKEN: 'all-token' });
import { SCRIPT } from '../../src/http/pages/script.ts';
  try {
import { SCRIPT } from '../../src/http/pages/script.ts';
    const terminal = createTestTerminal();
import { SCRIPT } from '../../src/http/pages/script.ts';
    await runCli({ args, terminal, signal: new AbortController().signal, version: '0' });
import { SCRIPT } from '../../src/http/pages/script.ts';
    return terminal.text.out + terminal.text.err;
import { SCRIPT } from '../../src/http/pages/script.ts';
  } finally {
import { SCRIPT } from '../../src/http/pages/script.ts';
    process.env = kept;
import { SCRIPT } from '../../src/http/pages/script.ts';
  }
import { SCRIPT } from '../../src/http/pages/script.ts';
}

import { SCRIPT, SCRIPT } from '../../src/http/pages/script.ts';

for (const args of COMMANDS) {
import { SCRIPT } from '../../src/http/pages/script.ts';
  test(`xvault ${args[0]} lets no name steer the terminal`, async () => {
import { SCRIPT } from '../../src/http/pages/script.ts';
    using front = await startFront();
import { SCRIPT } from '../../src/http/pages/script.ts';
    const text = await output(args, front.url);
import { SCRIPT } from '../../src/http/pages/script.ts';
    assert.ok(text !== '');
import { SCRIPT } from '../../src/http/pages/script.ts';
    assert.equal(steered(text), undefined);
import { SCRIPT } from '../../src/http/pages/script.ts';
    assert.equal(/^INFO all/m.test(text), false, 'a name begins no line');
import { SCRIPT } from '../../src/http/pages/script.ts';
  });
import { SCRIPT } from '../../src/http/pages/script.ts';
}

import { SCRIPT, SCRIPT } from '../../src/http/pages/script.ts';

test('xvault backup lets neither the name nor the reason of a failure steer the terminal', async () => {
import { SCRIPT } from '../../src/http/pages/script.ts';
  using front = await startFront();
import { SCRIPT } from '../../src/http/pages/script.ts';
  for (const name of Object.values(ALL)) {
import { SCRIPT } from '../../src/http/pages/script.ts';
    const vm = { ...exampleJob().vm, name };
import { SCRIPT } from '../../src/http/pages/script.ts';
    const { result: _, ...ended } = endedJob();
import { SCRIPT } from '../../src/http/pages/script.ts';
    const error = { ...exampleProblem(), detail: `find ${name}` };
import { SCRIPT } from '../../src/http/pages/script.ts';
    front.service.startBackup = async () => {
import { SCRIPT } from '../../src/http/pages/script.ts';
      front.service.jobs.set(ended.id, { ...ended, vm, status: 'failed', error });
import { SCRIPT } from '../../src/http/pages/script.ts';
      return { ...ended, vm, status: 'failed', error };
import { SCRIPT } from '../../src/http/pages/script.ts';
    };
import { SCRIPT } from '../../src/http/pages/script.ts';
    const failed = await output(['backup', 'web', '--wait'], front.url);
import { SCRIPT } from '../../src/http/pages/script.ts';
    assert.match(failed, /not_found/);
import { SCRIPT } from '../../src/http/pages/script.ts';
    const details = { name, candidates: [vm] };
import { SCRIPT } from '../../src/http/pages/script.ts';
    front.service.startBackup = () =>
import { SCRIPT } from '../../src/http/pages/script.ts';
      Promise.reject(new BackupError('vm_ambiguous', `find ${name}`, { details }));
import { SCRIPT } from '../../src/http/pages/script.ts';
    const refused = await output(['backup', 'web', '--wait'], front.url);
import { SCRIPT } from '../../src/http/pages/script.ts';
    assert.match(refused, /vm_ambiguous/);
import { SCRIPT } from '../../src/http/pages/script.ts';
    for (const text of [failed, refused, await output([name, name], front.url)]) {
import { SCRIPT } from '../../src/http/pages/script.ts';
      assert.equal(steered(text), undefined);
import { SCRIPT } from '../../src/http/pages/script.ts';
    }
import { SCRIPT } from '../../src/http/pages/script.ts';
  }
import { SCRIPT } from '../../src/http/pages/script.ts';
});

import { SCRIPT } from '../../src/http/pages/script.ts';
