import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createTestTerminal } from '../../test/commands/terminal.ts';
import { createHarness } from '../../test/http/harness.ts';
import { createSimClock } from '../../test/sim/clock.ts';
import type { Run } from '../catalog/run.ts';
import { systemClock } from '../clock.ts';
import { BackupError } from '../errors.ts';
import { exampleRun, runView } from '../http/run-answers.ts';
import { createSecret } from '../secret.ts';
import { createHttpClient } from './http-client.ts';
import { command } from './run.ts';
import { createDirectRuns } from './run-client.ts';
import { runMany } from './run-many.ts';

const WISHES = { select: { all: true } };
const [WEB, DB] = exampleRun().machines;
assert.ok(WEB && DB);
const PROBLEM = { type: 't', title: 'Mend it.', status: 409, detail: 'no space', code: 'x' };

/** A client whose run looks like these, one look after another. */
function scripted(looks: Partial<Run>[]) {
  const clock = createSimClock();
  const cancels: string[] = [];
  let look = 0;
  const now = () => runView({ ...exampleRun(), ...looks[Math.min(look, looks.length - 1)] });
  const client = {
    startRun: async () => now(),
    getRun: async () => {
      look += 1;
      return now();
    },
    cancelRun: async (id: string) => {
      cancels.push(id);
      return now();
    },
  };
  return { client, clock, cancels };
}

async function ending(
  looks: Partial<Run>[],
  over: { json?: boolean; errIsTty?: boolean } = {},
): Promise<{ code: number; out: string; err: string }> {
  const { client, clock } = scripted(looks);
  const { errIsTty = false, json = false } = over;
  const terminal = createTestTerminal({ errIsTty });
  const signal = new AbortController().signal;
  const running = runMany({ client, terminal, json, clock, signal }, WISHES);
  for (let second = 0; second < 10; second++) await clock.advance(1000);
  return { code: await running, ...terminal.text };
}

const BEGUN: Partial<Run> = { machines: [{ ...WEB, status: 'running' }, DB] };
const FAILED = { ...DB, status: 'failed' as const, error: PROBLEM };

test('who begins and ends is told as it happens, then comes the report; a part is no whole', async () => {
  const { code, out, err } = await ending([
    BEGUN,
    { machines: [WEB, { ...DB, status: 'running' }] },
    { status: 'partial', machines: [WEB, FAILED] },
  ]);
  assert.equal(code, 3);
  assert.match(
    err,
    /^web-1: running\nweb-1: 4\.5 GiB in 1m 42s\ndb-1: running\ndb-1: failed: no space \(x\)\n$/,
  );
  assert.match(out, /^partial: 1 of 2 machines backed up, 1 failed, 1 left out\n/);
  assert.match(out, /what to do:\n {2}db-1: Mend it\.\n/);
});

test('on a terminal those at work are drawn, and taken away at the end', async () => {
  const { err } = await ending([BEGUN, { status: 'succeeded', machines: [WEB] }], {
    errIsTty: true,
  });
  assert.match(err, /0 of 2 machines backed up, 1 running, 1 waiting/);
  assert.ok(err.endsWith('\u001b[J'), 'nothing is left of it');
});

test('every end has its exit code, and JSON is the run', async () => {
  const codes = { succeeded: 0, failed: 1, partial: 3, cancelled: 130 } as const;
  for (const [status, expected] of Object.entries(codes)) {
    const { code, out } = await ending([{ status: status as Run['status'] }], { json: true });
    assert.equal(code, expected);
    assert.equal(JSON.parse(out).status, status);
  }
  const dry = { ...exampleRun().request, dry_run: true };
  const { code, out } = await ending([{ request: dry }]);
  assert.equal(code, 0);
  assert.match(out, /^dry run: 2 machines would be backed up, 1 left out\n\nMACHINE/);
});

test('Ctrl-C cancels the run and waits for its end', async () => {
  const { client, clock, cancels } = scripted([BEGUN, BEGUN, { status: 'cancelled' }]);
  const stop = new AbortController();
  const terminal = createTestTerminal();
  const input = { client, terminal, json: false, clock, signal: stop.signal };
  const running = runMany(input, WISHES);
  await clock.advance(500);
  stop.abort(new BackupError('cancelled', 'stop'));
  await clock.advance(5000);
  assert.equal(await running, 130);
  assert.deepEqual(cancels, [exampleRun().id]);
  assert.match(terminal.text.err, /cancelling/);
});

test('after SIGTERM the run is shown as it was left, nothing is cancelled', async () => {
  const { client, clock, cancels } = scripted([BEGUN]);
  const leave = new AbortController();
  const terminal = createTestTerminal();
  const signal = new AbortController().signal;
  const input = { client, terminal, json: true, clock, signal, leave: leave.signal };
  const running = runMany(input, WISHES);
  await clock.advance(500);
  leave.abort(new BackupError('cancelled', 'stop'));
  await clock.advance(0);
  assert.equal(await running, 143);
  assert.deepEqual(cancels, []);
  assert.equal(JSON.parse(terminal.text.out).id, exampleRun().id);
  assert.match(terminal.text.err, /left to the next xvault run/);
});

test('a run of the same wish and night that is under way is the answer, left here or at another instance', async () => {
  const { service } = createHarness();
  const runs = createDirectRuns(service, () => 'test');
  const now = Date.now();
  const time = (hours: number) => new Date(now + hours * 3_600_000).toISOString();
  const request = { ...exampleRun().request, skip: ['test-'] };
  const { select, skip } = request;
  const wishes = { ...request, select, skip };
  const left = (over: Partial<Run>): Run => ({
    ...exampleRun(),
    request,
    created_at: time(-3),
    deadline_at: time(5),
    ...over,
  });
  const cases: [string, Run[], boolean][] = [
    ['of tonight', [left({})], true],
    ['of last night', [left({ created_at: time(-13) })], false],
    ['its deadline is over', [left({ deadline_at: time(-1) })], false],
    ['it was cancelled', [left({ cancel_requested: true })], false],
    ['another wish', [left({ request: { ...request, skip: [] } })], false],
    ['none', [], false],
  ];
  const options = { signal: new AbortController().signal };
  const open = async () => (await runs.openRun?.(wishes, options)) !== undefined;
  for (const [name, found, expected] of cases) {
    service.leftRuns = () => found;
    service.listRuns = async () => ({ items: [] });
    assert.equal(await open(), expected, name);
    service.leftRuns = () => [];
    service.listRuns = async () => ({ items: found });
    assert.equal(await open(), expected, `${name}, at another instance`);
  }
  service.listRuns = async () => ({ items: [left({ status: 'succeeded' })] });
  assert.equal(await open(), false, 'what has ended is no answer: somebody wants it again');
});

test('the same run at another instance is watched to its end; Ctrl-C only stops watching', async () => {
  const elsewhere = { instance: 'other-1' };
  const mine = { instance: 'here-1' };
  for (const isStopped of [false, true]) {
    const looks = [BEGUN, elsewhere, mine, { status: 'succeeded' as const }];
    const { client, clock, cancels } = scripted([elsewhere, ...looks]);
    let starts = 0;
    const watcher = {
      ...client,
      instance: 'here-1',
      openRun: async () => runView({ ...exampleRun(), ...elsewhere }),
      startRun: async () => {
        starts += 1;
        return await client.startRun();
      },
    };
    const stop = new AbortController();
    const terminal = createTestTerminal();
    const running = runMany(
      { client: watcher, terminal, json: true, clock, signal: stop.signal },
      WISHES,
    );
    running.catch(() => undefined);
    await clock.advance(0);
    if (isStopped) stop.abort(new BackupError('cancelled', 'stop'));
    for (let second = 0; second < 30; second++) await clock.advance(1000);
    if (isStopped) await assert.rejects(running, { code: 'cancelled' });
    else assert.equal(await running, 0);
    assert.match(terminal.text.err, /other-1 is at this run/);
    assert.deepEqual([starts, cancels], [0, []]);
  }
});

test('one machine or many, and for many no hooks: nothing is opened before that is clear', async () => {
  const signal = new AbortController().signal;
  const wrong = [
    {},
    { all: true, vm: 'web-1' },
    { vm: 'web-1', deadline: '8h' },
    { vm: 'web-1', skip: ['web'] },
    { tag: ['nightly'], 'before-snapshot': 'https://a.example/' },
    { select: '{"all":true}', all: true },
    { select: '{"all":true}', pool: 'dc1' },
    { select: '{"tags":["nightly"]', vm: 'web-1' },
    { select: 'all' },
    { select: '{}' },
    { select: '{"all":true,"vms":[]}' },
  ];
  for (const options of wrong) {
    const terminal = createTestTerminal();
    const invocation = { options, positionals: [], json: false, terminal, signal };
    await assert.rejects(command.run(invocation), { code: 'invalid_request' });
  }
});

test('a service behind a URL is asked for the same', async () => {
  const { request, service } = createHarness();
  const fetch = async (url: URL, init: RequestInit) => {
    const headers = init.headers as Record<string, string>;
    const body = init.body === undefined ? {} : { body: String(init.body) };
    return await request(init.method ?? 'GET', `${url.pathname}${url.search}`, {
      headers,
      ...body,
    });
  };
  const client = createHttpClient(
    { url: 'http://xvault.test', token: createSecret('all-token') },
    { fetch: fetch as unknown as typeof globalThis.fetch, clock: systemClock },
  );
  const options = { signal: new AbortController().signal };
  const { id } = await client.startRun(WISHES, options);
  assert.equal((await client.getRun(id, options)).request.select.all, true);
  assert.equal((await client.listRuns({ pageSize: 5 }, options)).runs.length, 1);
  assert.equal((await client.cancelRun(id, options)).cancel_requested, true);
  await assert.rejects(
    client.getRun(service.runs.keys().next().value?.replace(/.$/, 'z') ?? '', options),
    {
      code: 'not_found',
    },
  );
});
