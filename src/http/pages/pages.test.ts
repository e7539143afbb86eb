import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createHarness } from '../../../test/http/harness.ts';
import { endedJob, exampleBackup, exampleJob } from '../../../test/http/records.ts';
import { CONTROL_NAMES, HOSTILE_NAMES } from '../../../test/security/hostile-names.ts';
import type { Job } from '../../catalog/record.ts';
import { BackupError } from '../../errors.ts';
import { STATUS_EXAMPLE } from '../examples.ts';
import { exampleRun } from '../run-answers.ts';
import { paceOf } from './pace.ts';
import { STYLE } from './style.ts';
import { amountText, bytesText, durationText } from './words.ts';

const { id: ID, vm: VM } = exampleBackup();
const VM_PAGE = `/vms/${VM.pool}/${VM.uuid}`;
const { id: RUN } = exampleRun();
/** Characters that turn text round, or that no page has. */
const STEERING = /[^\P{C}\n\t\u200c\u200d]/u;
const EVENTS = { accept: 'text/event-stream' };

/** A machine with a backup, a job that has ended and one that runs. */
function world(settings: Parameters<typeof createHarness>[0] = {}) {
  const harness = createHarness(settings);
  const { service } = harness;
  service.backups.set(ID, exampleBackup());
  service.change(ID, endedJob());
  service.change(exampleJob().id, exampleJob());
  service.runs.set(RUN, exampleRun());
  const pageOf = async (path: string) => await (await harness.get(path)).text();
  return { ...harness, pageOf };
}

/** Its next events, as far as they have come. */
async function* read(response: Response): AsyncGenerator<string> {
  const decoder = new TextDecoder();
  assert.ok(response.body);
  for await (const chunk of response.body) yield decoder.decode(chunk);
}

test('whatever a machine is called, it is text on every page, and never part of a command', async () => {
  for (const name of Object.values({ ...HOSTILE_NAMES, ...CONTROL_NAMES })) {
    const { service, pageOf } = world();
    const vm = { ...VM, name };
    const archive = { ...exampleBackup().archive, key: `backups/x/${name}.xva` };
    service.backups.set(ID, { ...exampleBackup(), vm, archive, note: name });
    service.change(ID, { ...endedJob(), vm, triggered_by: name });
    service.change(exampleJob().id, { ...exampleJob(), vm, waiting_because: name });
    service.status = async () => ({
      ...STATUS_EXAMPLE,
      vms: STATUS_EXAMPLE.vms.map((row) => ({ ...row, vm, reason: name, status: 'critical' })),
    });
    const machines = exampleRun().machines.map((one) => ({ ...one, vm, warnings: [name] }));
    const skipped = [{ vm, reason: name }];
    service.runs.set(RUN, {
      ...exampleRun(),
      machines,
      skipped,
      notes: [name],
      triggered_by: name,
    });
    const ids = [ID, exampleJob().id];
    const jobs = ids.map((id) => `/jobs/${id}`);
    for (const path of ['/', VM_PAGE, ...jobs, '/runs', `/runs/${RUN}`]) {
      const page = await pageOf(path);
      const scripts = page.match(/<script/g) ?? [];
      assert.ok(scripts.length <= 1, `${path} ${name}`);
      assert.equal(/ (style|on\w+)="/.test(page.replaceAll(/="[^"]*"/g, '="')), false, path);
      assert.doesNotMatch(page, STEERING, `${path} ${name}`);
      assert.doesNotMatch(page, /<a [^>]*>\s*<\/a>/, `${path} has a link nobody sees`);
      assert.equal(/(src|href|action)="(?!\/|#)/.test(page), false, `${path} leaves the house`);
      const commands = page.match(/<pre class="copy"[^>]*>[^<]*/g) ?? [];
      for (const line of commands)
        assert.match(line, /^<pre[^>]*>(xvault restore|curl) [\w ".:/$&;-]+$/);
    }
  }
});

test('a machine has a page with its backups, what is deleted when, and how to bring it back', async () => {
  const { service, pageOf } = world();
  const backup = exampleBackup();
  const ends = { expires_at: '2026-12-08T00:00:00.000Z', expires_by: 'xvault:daily' };
  service.backups.set(ID, { ...backup, ...ends } as never);
  const page = await pageOf(VM_PAGE);
  assert.match(page, /<h1>web-1 <span class="tag ok">ok<\/span><\/h1>/);
  assert.ok(page.includes(`xvault restore ${ID} --to web-1.xva`));
  assert.match(page, /2026-12-08<\/time>: the backup of .*, by <code>xvault:daily<\/code>/);
  assert.match(page, /aria-label="Size and sent bytes of 1 backups, 2026-11-23"/);
  assert.match(page, /1 backup: 4\.5 GiB held, 136\.2 MiB sent, about 0\.0002 USD/);
  assert.match(page, /Last 1 runs: 1 succeeded, 0 failed/);
});

test('what has no backup yet says so once, and what is deleted next is named, or that nothing is', async () => {
  const { service, pageOf } = world();
  assert.match(await pageOf('/'), /should be\. No rule that is known deletes a last good backup\./);
  service.backups.clear();
  const page = await pageOf(VM_PAGE);
  assert.match(page, /<h2>Backups<\/h2><p class="quiet">None yet\.<\/p>/);
  assert.doesNotMatch(page, /<h2>(What is deleted|Size and|Bring)/);
  const other = world();
  const vms = STATUS_EXAMPLE.vms.map((vm) => ({ ...vm, expires_at: '2026-12-08T00:00:00.000Z' }));
  other.service.status = async () => ({ ...STATUS_EXAMPLE, vms });
  assert.match(await other.pageOf('/'), /should be\. The first last good backup to be deleted is/);
});

test('jobs are counted by what they do, and one of a run leads there', async () => {
  const { service, pageOf } = world();
  const waiting = { ...exampleJob(), id: '019aaf4a-2f3e-7c51-8f0a-000000000001', status: 'queued' };
  service.change(ID, { ...exampleJob(), id: ID, triggered_by: `nightly (run ${RUN})` });
  service.change(waiting.id, waiting as never);
  assert.match(await pageOf('/'), /<p>2 at work, 1 waiting\.<\/p>/);
  const link = `nightly (<a href="/runs/${RUN}">run ${RUN}</a>)`;
  assert.ok((await pageOf(`/jobs/${ID}`)).includes(link));
});

test('what runs is shown before whatever waits, however much that is', async () => {
  const { service, pageOf } = world();
  for (let at = 0; at < 150; at++) {
    const id = `019fffff-2f3e-7c51-8f0a-000000000${String(at).padStart(3, '0')}`;
    service.change(id, { ...exampleJob(), id, status: 'queued' });
  }
  const page = await pageOf('/');
  assert.match(page, /<p>1 at work, \d+ or more waiting\. The first 100 are shown\.<\/p>/);
  assert.ok(page.indexOf(exampleJob().id) > 0);
  assert.ok(page.indexOf(exampleJob().id) < page.indexOf('019fffff'));
});

test('waiting jobs that cannot be listed are told as such, not shown as none', async () => {
  const { service, pageOf } = world();
  const { listJobs } = service;
  service.listJobs = (input, options) =>
    input.status === 'queued'
      ? Promise.reject(new BackupError('store_unavailable', 'list jobs: the bucket is away'))
      : listJobs(input, options);
  const page = await pageOf('/');
  assert.match(page, /the bucket is away/);
  assert.doesNotMatch(page, /0 waiting/);
});

test('commands to copy lead to the public address where there is one: tokens go where they say', async () => {
  const { pageOf } = world({ publicUrl: 'https://xvault.example.com' });
  const asked = world();
  const curls = async (path: string, { pageOf: page } = { pageOf }) =>
    (await page(path)).match(/curl [^\n<]*https?:\/\/[^/]*/g) ?? [];
  for (const path of [VM_PAGE, '/docs']) {
    const lines = await curls(path);
    assert.ok(lines.length > 0, path);
    for (const line of lines) assert.ok(line.endsWith('https://xvault.example.com'), line);
    for (const line of await curls(path, asked)) assert.ok(line.includes('http://'), line);
  }
});

test('a machine that is gone still has its page; one that nobody knows has none', async () => {
  const { service, get, pageOf } = world();
  service.status = async () => ({ ...STATUS_EXAMPLE, vms: [] });
  assert.match(await pageOf(VM_PAGE), /On no pool any more/);
  service.backups.clear();
  service.jobs.clear();
  assert.equal((await get(VM_PAGE)).status, 404);
  service.failures.set('listBackups', new BackupError('store_unavailable', 'list backups'));
  assert.equal((await get(VM_PAGE)).status, 503, 'nobody could be asked');
});

test('a status that cannot be had is told on the page of a machine, and is no word about its pool', async () => {
  const { service, get, pageOf } = world();
  service.failures.set('status', new BackupError('store_unavailable', 'list backups: it is away'));
  const page = await pageOf(VM_PAGE);
  assert.match(page, /it is away/);
  assert.doesNotMatch(page, /On no pool any more/);
  service.backups.clear();
  service.jobs.clear();
  assert.equal((await get(VM_PAGE)).status, 503, 'it may be on a pool');
});

test('the page of a job tells where its time went', async () => {
  const { service, pageOf } = world();
  const at = (seconds: number) => `2026-11-23T02:00:0${seconds}.000Z`;
  const phases = [
    { phase: 'preparing', attempt: 1, at: at(0) },
    { phase: 'exporting', attempt: 1, at: at(2) },
    { phase: 'preparing', attempt: 2, at: at(6) },
  ];
  service.change(ID, { ...endedJob(), phases, finished_at: at(8), attempt: 2 });
  const rows = (await pageOf(`/jobs/${ID}`)).matchAll(
    /<tr><td>(\w+).*?data-l="took">([^<]+)<.*?x="(\d+)" width="(\d+)"/gs,
  );
  assert.deepEqual(
    [...rows].map(([, ...cells]) => cells),
    [
      ['preparing', '2.0 s', '0', '150'],
      ['exporting', '4.0 s', '150', '300'],
      ['preparing', '2.0 s', '450', '150'],
    ],
  );
});

test('the page of a run says what failed and its mend, what was left out and why, what it sent and cost', async () => {
  const { service, get, pageOf } = world();
  const error = {
    type: 'urn:xvault:problem:snapshot_refused',
    title: 'The pool cannot make the snapshot: the detail says which disk or space is in the way.',
    status: 502,
    detail: 'make snapshot of db-1: the storage is full',
    code: 'snapshot_refused' as const,
  };
  const [good, waiting] = exampleRun().machines;
  assert.ok(good && waiting);
  const failed = { ...waiting, status: 'failed' as const, error, job_id: ID };
  const ended = { status: 'partial' as const, finished_at: '2026-11-23T02:10:00.412Z' };
  service.runs.set(RUN, { ...exampleRun(), ...ended, machines: [good, failed] });
  const page = await pageOf(`/runs/${RUN}`);
  assert.match(page, /<h1>Run of 2 machines <span class="tag critical">partial/);
  assert.match(page, /1 of 2 machines backed up, 1 failed, 1 left out\./);
  assert.match(
    page,
    /class="wrong"><a [^>]*>db-1<\/a>: make snapshot of db-1: the storage is full/,
  );
  assert.ok(page.includes(`<p>${error.title}</p>`));
  assert.ok(page.indexOf('>db-1<') < page.indexOf('>web-1<'), 'the worst first');
  assert.match(page, /test-7<\/a>.*?test- is in the skip list/s);
  assert.match(page, /left out: disk 2 \(scratch \[nobackup\]\)/);
  assert.match(page, /cost of the requests<\/dt><dd>[\d.]+ USD/);
  assert.match(page, /took<\/dt><dd>10 min 0 s/);
  assert.ok(page.includes(`href="/jobs/${ID}"`));
  for (const path of ['/', '/runs']) {
    const list = await pageOf(path);
    assert.match(list, RegExp(`href="/runs/${RUN}".*?partial.*?1 of 2 machines backed up`, 's'));
  }
  service.runs.clear();
  assert.equal((await get(`/runs/${RUN}`)).status, 404);
  assert.doesNotMatch(await pageOf('/'), /<h2>Runs/, 'who makes none is not told of them');
});

test('a job that failed says what happened and what mends it', async () => {
  const { service, pageOf } = world();
  const error = {
    type: 'urn:xvault:problem:pool_credentials',
    title: 'The pool refused user or password: correct the settings.',
    status: 502,
    detail: 'log in to pool lab',
    code: 'pool_credentials',
  };
  const { result: _, ...job } = endedJob();
  service.change(ID, { ...job, result: undefined, status: 'failed', error } as Partial<Job>);
  const page = await pageOf(`/jobs/${ID}`);
  assert.match(page, /class="tag critical">failed/);
  assert.match(page, /log in to pool lab<\/p><p>The pool refused user or password/);
});

test('a page follows itself: what changed is sent, nothing else, and the end of a job ends it', async () => {
  const { service, get, clock } = world();
  const { id } = exampleJob();
  const response = await get(`/jobs/${id}`, EVENTS);
  assert.match(response.headers.get('content-type') ?? '', /event-stream/);
  const events = read(response);
  const next = async () => String((await events.next()).value);
  assert.match(await next(), /^retry: 3000/);
  const sections: string[] = [];
  for (let part = 0; part < 5; part++) sections.push(/"id":"(\w+)"/.exec(await next())?.[1] ?? '');
  assert.deepEqual(sections, ['head', 'progress', 'phases', 'result', 'facts']);
  const coming = next();
  service.change(id, { progress: { ...exampleJob().progress, sent_bytes: 5 * 2 ** 30 } });
  await clock.advance(2_000);
  const changed = await coming;
  assert.match(changed, /^event: part\ndata: \{"id":"progress","html":".*5\.0 GiB/);
  const last = next();
  service.change(id, { ...endedJob(), id });
  await clock.advance(2_000);
  assert.match(await last, /"id":"head".*succeeded/);
  let text = '';
  for await (const event of events) text = event;
  assert.equal(text, 'event: end\ndata: {}\n\n');
});

test('a stream of a page ends with the instance, and gives its place back', async () => {
  const { service, get, clock } = world();
  const events = read(await get('/', EVENTS));
  for (let part = 0; part < 6; part++) await events.next();
  const rest = events.next();
  service.draining = true;
  await clock.advance(2_000);
  assert.match(String((await rest).value), /shutting down/);
  for await (const event of events) assert.match(event, /^event: part/);
  const left = await get('/', EVENTS);
  await left.body?.cancel();
  assert.equal(service.watchers, 0);
});

test('runs are listed once for all who have their page open, and anew for who opens it', async () => {
  const { service, get, pageOf, clock } = world();
  const watchers = await Promise.all([1, 2, 3].map(() => get('/runs', EVENTS)));
  const looks = watchers.map(async ({ body }) => {
    for await (const _ of body ?? []);
  });
  await clock.advance(20_000);
  const listed = service.calls.get('listRuns')?.length ?? 0;
  assert.ok(listed >= 5 && listed <= 6, `${listed}`);
  service.runs.clear();
  assert.match(await pageOf('/runs'), /None that is still kept/);
  service.draining = true;
  await clock.advance(2_000);
  await Promise.all(looks);
});

test('pace is told from the record: bytes since the phase began, and at most how long it takes', () => {
  const job = { ...exampleJob(), updated_at: '2026-11-23T02:00:21.220Z' };
  const pace = paceOf(job);
  assert.equal(Math.round(pace?.bytesPerSecond ?? 0), Math.round(2 ** 30 / 20));
  assert.equal(Math.round(pace?.secondsLeft ?? 0), 380);
  const phases = [{ phase: 'exporting', attempt: 1, at: '2026-11-23T02:00:11.220Z' }];
  assert.equal(Math.round(paceOf({ ...job, phases })?.secondsLeft ?? 0), 190);
  assert.equal(paceOf({ ...job, phase: 'preparing' }), undefined);
  assert.equal(paceOf(endedJob()), undefined);
});

test('figures are written for people', () => {
  assert.deepEqual([9.94, 59, 61, 3600, 7322].map(durationText), [
    '9.9 s',
    '59 s',
    '1 min 1 s',
    '1 h 0 min',
    '2 h 2 min',
  ]);
  assert.deepEqual([0, 1536, 2 ** 60].map(bytesText), ['0 B', '1.5 KiB', '1024.0 PiB']);
  const usd = (amount: number) => amountText({ amount, currency: 'USD' });
  assert.deepEqual([0, 0.000201, 1e-9, 12.345].map(usd), [
    '0 USD',
    '0.0002 USD',
    'less than 0.000001 USD',
    '12.35 USD',
  ]);
});

/** WCAG 2.2: relative luminance of two colours, the lighter over the darker. */
function contrast(one: string, other: string): number {
  const luminance = (color: string) => {
    const [r = 0, g = 0, b = 0] = (color.match(/[0-9a-f]{2}/g) ?? [])
      .map((hex) => Number.parseInt(hex, 16) / 255)
      .map((value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const [a, b] = [luminance(one), luminance(other)];
  return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
}

test('in light and in dark every text can be read and every mark be seen', () => {
  const themes = [...STYLE.matchAll(/:root\{([^}]*)\}/g)].map(([, text = '']) =>
    Object.fromEntries([...text.matchAll(/--([\w-]+):(#[0-9a-f]{6})/g)].map(([, n, c]) => [n, c])),
  );
  assert.equal(themes.length, 2);
  for (const theme of themes as Record<string, string>[]) {
    const check = (front: string, back: string, least: number) => {
      const ratio = contrast(theme[front] ?? '', theme[back] ?? '');
      assert.ok(ratio >= least, `${front} on ${back}: ${ratio.toFixed(2)}`);
    };
    for (const ground of ['ground', 'soft']) {
      for (const text of ['text', 'quiet', 'link']) check(text, ground, 4.5);
      for (const mark of ['good-mark', 'bad-mark', 'other-mark', 'plain-mark'])
        check(mark, ground, 3);
    }
    for (const tag of ['tag', 'ok', 'warning', 'critical']) check('on-tag', tag, 4.5);
  }
  assert.equal(
    /opacity|#[0-9a-f]{3,8}/i.test(STYLE.replaceAll(/--[\w-]+:#[0-9a-f]{6}/g, '')),
    false,
  );
});
