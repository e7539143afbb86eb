/**
 * Machine names as an attacker would choose them, from the pool to every place where they are shown or become part of
 * something: keys, archive, links, headers, log, metrics, monitors, pages, terminal.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { after, before, describe, test } from 'node:test';
import { systemClock } from '../../src/clock.ts';
import { runCli } from '../../src/commands/cli.ts';
import { createListener } from '../../src/commands/listener.ts';
import { BackupError } from '../../src/errors.ts';
import { SCRIPT } from '../../src/http/pages/script.ts';
import { createConsoleLog, createLog, SILENT_LOG } from '../../src/log.ts';
import { createMetrics } from '../../src/metrics.ts';
import { createTestTerminal } from '../commands/terminal.ts';
import { type HttpWorld, startHttpWorld } from '../e2e/app.ts';
import { BUCKET, readObject } from '../e2e/world.ts';
import { createHarness } from '../http/harness.ts';
import { endedJob, exampleBackup, exampleJob } from '../http/records.ts';
import { importXva } from '../importer.ts';
import { CONTROL_NAMES, HOSTILE_NAMES } from './hostile-names.ts';

/** What moves a cursor, ends a line or turns text round; the line feed is looked at by itself. */
const STEERING = /[\p{Cc}\p{Cs}\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069]/u;
/** The first place that would steer, with a little around it: a failure must not steer the terminal it is shown on. */
function steered(text: string): string | undefined {
  const at = text.replaceAll('\n', ' ').search(STEERING);
  if (at === -1) return undefined;
  return encodeURI(text.slice(Math.max(0, at - 20), at + 20).toWellFormed());
}

const ALL = { ...HOSTILE_NAMES, ...CONTROL_NAMES };

describe('a machine of a hostile name', () => {
  let world: HttpWorld;
  const names = Object.values(HOSTILE_NAMES);
  before(async () => {
    const machines = names.map((name) => ({ name, power: 'Running' as const, disks: [] }));
    world = await startHttpWorld({
      pool: { machines },
      service: { concurrency: 8, concurrencyPerPool: 8 },
    });
    const jobs = await Promise.all(world.sim.machines.map(({ uuid }) => world.run(uuid)));
    for (const job of jobs) assert.equal(job.status, 'succeeded', JSON.stringify(job.error));
  });
  after(() => world[Symbol.asyncDispose]());

  test('lies under a safe key, and has its own name again after an import', async () => {
    const keys = world.s3?.inspect.keys(BUCKET) ?? [];
    for (const key of keys) {
      assert.match(key, /^xv\/[A-Za-z0-9._/-]+$/);
      assert.ok(!key.split('/').some((part) => part === '' || /^\.+$/.test(part)), key);
      assert.ok(key.length < 400 && (key.split('/').at(-1) ?? '').length <= 84, key);
    }
    const archives = keys.filter((key) => key.endsWith('.xva'));
    assert.equal(archives.length, names.length);
    const imported = await Promise.all(
      archives.map(async (key) => (await importXva(readObject(world.store, key))).vm.name),
    );
    assert.deepEqual(imported.toSorted(), names.map(asXapiHasIt).toSorted());
  });

  test('is fetched under a plain file name', async () => {
    const { backups } = (await world.call('GET', '/v1/backups')).json<{
      backups: { id: string }[];
    }>();
    for (const { id } of backups) {
      const link = (await world.call('GET', `/v1/backups/${id}/xva`)).headers.get('location') ?? '';
      const answer = await fetch(link, { headers: { range: 'bytes=0-7' } });
      assert.equal(await answer.text(), 'ova.xml\0');
      const disposition = answer.headers.get('content-disposition') ?? '';
      assert.match(
        disposition,
        /^attachment; filename="[\w.-]{1,84}\.xva"; filename\*=UTF-8''[\w.-]+$/,
      );
    }
  });

  test('is found by its name, and by the same name alone', async () => {
    for (const { name, uuid } of world.sim.machines) {
      const shown = asXapiHasIt(name);
      // a URL's path has no room for a dot or two as a name; the uuid always works
      const wanted = /^\.+$/.test(shown) || shown.length > 255 ? uuid : shown;
      const path = `/v1/vms/${encodeURIComponent(wanted)}/backups`;
      const page = await world.call('GET', path);
      assert.equal(page.status, 200, `${name}: ${page.text}`);
      assert.equal(
        page.json<{ backups: { vm: { uuid: string } }[] }>().backups[0]?.vm.uuid,
        uuid,
        name,
      );
    }
  });

  test('has one line in the log, however it is called', () => {
    for (const line of world.log.lines) assert.equal(line.includes('\n'), false);
    assert.ok(world.log.lines.length > names.length);
  });
});

/** Characters XML cannot hold are left out by every xapi. */
function asXapiHasIt(name: string): string {
  return name.replace(/[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\u{10000}-\u{10ffff}]/gu, '');
}

test('a log line stays one line, as JSON and for people', () => {
  for (const [what, name] of Object.entries(ALL)) {
    const lines: string[] = [];
    const write = (line: string) => lines.push(line);
    const error = new BackupError('not_found', `find ${name}`, { details: { name } });
    createLog({ level: 'debug', write }).info(`find ${name}`, { vm_name: name, [name]: 1, error });
    const child = createConsoleLog({ level: 'debug', write }).child({ vm_name: name });
    child.warn(`find ${name}`, { text: name, list: [name], error });
    assert.equal(lines.length, 2);
    for (const line of lines) {
      assert.equal(line.trimEnd().includes('\n'), false, what);
      assert.equal(steered(line), undefined, what);
    }
    assert.equal(
      JSON.parse(lines[0] ?? '').vm_name,
      name.toWellFormed(),
      'a machine reads the name as it is',
    );
  }
});

test('a metric keeps its lines and its labels', async () => {
  const machines = Object.values(ALL).map((vmName, at) => ({
    pool: 'dc1',
    vmUuid: `uuid-${at}`,
    vmName,
    status: 'ok' as const,
    maxAgeSeconds: 93_600,
    lastSuccessAtSeconds: at,
  }));
  const metrics = createMetrics({
    clock: systemClock,
    version: '0',
    figures: async () => ({ machines, pools: [], goneAtRisk: 0 }),
  });
  const { body } = await metrics.render();
  const lines = body.split('\n').filter((line) => line.includes('last_success_timestamp_seconds{'));
  assert.equal(lines.length, machines.length);
  const sample = /^\w+\{pool="dc1",vm_uuid="uuid-\d+",vm_name="(?:[^"\\\n]|\\["\\n])*"\} \d+$/;
  for (const line of lines) assert.match(line, sample);
  assert.equal(/^xvault_up/m.test(body), false);
});

/** The HTTP front with machines, jobs and backups of all names, on a socket, and the command line against it. */
async function startFront() {
  const harness = createHarness();
  const { service, app, clock } = harness;
  const vms = Object.values(ALL).map((name, at) => {
    const uuid = `00000000-0000-4000-8000-${String(at).padStart(12, '0')}`;
    const vm = { uuid, name, pool: 'dc1' };
    const error = { ...exampleProblem(), detail: `find ${name}: it is ${name}` };
    service.change(uuid, { ...endedJob(), id: uuid, vm, status: 'failed', error });
    service.backups.set(uuid, { ...exampleBackup(), id: uuid, vm, note: name });
    return vm;
  });
  service.status = async ({ maxAgeSeconds }) => ({
    status: 'critical',
    checked_at: '2026-11-23T02:00:00Z',
    max_age_seconds: maxAgeSeconds,
    unreachable_pools: [],
    vms: vms.map((vm) => ({
      vm,
      status: 'critical' as const,
      reason: `because of ${vm.name}`,
      last_backup_at: '2026-11-20T02:00:00Z',
      age_seconds: 300_000,
    })),
  });
  const server = createListener({ fetch: app.fetch, log: SILENT_LOG, clock });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return {
    ...harness,
    vms,
    url,
    [Symbol.dispose]: () => void server.close().closeAllConnections(),
  };
}

function exampleProblem() {
  return {
    type: 'about:blank#not_found',
    title: 'not found',
    status: 404,
    code: 'not_found' as const,
    detail: '',
    retry: 'after-fix' as const,
  };
}

test('a monitor reads as many lines as there are machines, each with its own figures', async () => {
  using front = await startFront();
  const text = await (await front.get('/v1/status?format=nagios')).text();
  assert.equal(text.trimEnd().split('\n').length, front.vms.length + 1);
  assert.equal(steered(text), undefined);
  const [first = '', ...rest] = text.split('\n');
  assert.equal(first.split('|').length, 2);
  for (const line of rest) assert.equal(line.includes('|'), false);
  const figures = first.split(' | ')[1]?.match(/('(?:[^']|'')*'|[a-z]+)=\d+s?;\d*;\d*;0/g) ?? [];
  assert.equal(figures.length, 3 + front.vms.length);
});

test('a page holds no markup but its own', async () => {
  using front = await startFront();
  const load = async (path: string) =>
    (await (await front.get(path)).text()).replace(`<script>${SCRIPT}</script>`, '');
  const page = await load('/');
  assert.equal(page.match(/<tr><td>/g)?.length, front.vms.length, 'a row each');
  const paths = front.vms.flatMap(({ pool, uuid }) => [`/vms/${pool}/${uuid}`, `/jobs/${uuid}`]);
  for (const text of [page, ...(await Promise.all(paths.map(load)))]) {
    assert.equal(/<script|alert\(1\)<|<\/td><td>1</i.test(text), false);
  }
});

const COMMANDS = [['list'], ['status'], ['jobs'], ['check'], ['sweep', '--dry-run']];

async function output(args: string[], url: string): Promise<string> {
  const kept = { ...process.env };
  Object.assign(process.env, { XVAULT_URL: url, XVAULT_TOKEN: 'all-token' });
  try {
    const terminal = createTestTerminal();
    await runCli({ args, terminal, signal: new AbortController().signal, version: '0' });
    return terminal.text.out + terminal.text.err;
  } finally {
    process.env = kept;
  }
}

for (const args of COMMANDS) {
  test(`xvault ${args[0]} lets no name steer the terminal`, async () => {
    using front = await startFront();
    const text = await output(args, front.url);
    assert.ok(text !== '');
    assert.equal(steered(text), undefined);
    assert.equal(/^INFO all/m.test(text), false, 'a name begins no line');
  });
}

test('xvault backup lets neither the name nor the reason of a failure steer the terminal', async () => {
  using front = await startFront();
  for (const name of Object.values(ALL)) {
    const vm = { ...exampleJob().vm, name };
    const { result: _, ...ended } = endedJob();
    const error = { ...exampleProblem(), detail: `find ${name}` };
    front.service.startBackup = async () => {
      front.service.jobs.set(ended.id, { ...ended, vm, status: 'failed', error });
      return { ...ended, vm, status: 'failed', error };
    };
    const failed = await output(['backup', 'web', '--wait'], front.url);
    assert.match(failed, /not_found/);
    const details = { name, candidates: [vm] };
    front.service.startBackup = () =>
      Promise.reject(new BackupError('vm_ambiguous', `find ${name}`, { details }));
    const refused = await output(['backup', 'web', '--wait'], front.url);
    assert.match(refused, /vm_ambiguous/);
    for (const text of [failed, refused, await output([name, name], front.url)]) {
      assert.equal(steered(text), undefined);
    }
  }
});
