/** The report of a run as text and as a notice. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { options, setUp } from '../../test/backup/engine-world.ts';
import { createScriptedPool } from '../../test/backup/scripted-pool.ts';
import { type Run, type RunMachine, runRequestSchema } from '../catalog/run.ts';
import { exampleRun } from '../http/run-answers.ts';
import type { Notice } from '../notices.ts';
import { runHeadline, runNotice, runReport } from './runs-report.ts';

const [WEB, DB] = exampleRun().machines;
assert.ok(WEB && DB);
const MEND = 'Free space on the SR.';
const NO_SPACE = { type: 't', title: MEND, status: 409, detail: 'no space', code: 'x' };

function ended(over: Partial<Run> = {}): Run {
  const { request, ...run } = exampleRun();
  return {
    ...run,
    status: 'partial',
    finished_at: '2026-11-23T03:00:00.412Z',
    request,
    machines: [
      WEB as Run['machines'][number],
      { ...(DB as Run['machines'][number]), status: 'failed', error: NO_SPACE },
      {
        ...(DB as Run['machines'][number]),
        vm: { uuid: 'x', name: 'db-2\u001b[2J\u202e', pool: 'default' },
        status: 'failed',
        error: NO_SPACE,
      },
    ],
    ...over,
  };
}

test('the report says what was made, what was not and the mend, and what was left out and why', () => {
  const text = runReport(ended({ notes: ['no machine carries the tag weekly'] }));
  const lines = text.split('\n');
  assert.equal(lines[0], 'partial: 1 of 3 machines backed up, 2 failed, 1 left out');
  assert.match(text, /\n4\.5 GiB, 136 MiB sent, requests for 0\.0002 USD, 1h\n/);
  assert.match(text, /\nMACHINE +POOL +STATUS +SIZE +SENT +TOOK +WHAT\n/);
  assert.match(text, /\ndb-1 +default +failed +– +– +– +no space\n/);
  assert.match(text, /\nwhat to do:\n {2}db-1, db-2\?: Free space on the SR\.\n/);
  assert.match(text, /\n {2}test-7 \(default\): test- is in the skip list\n/);
  assert.match(
    text,
    /\n {2}db-1: left out: disk 2 \(scratch \[nobackup\]\): marked \[nobackup\]\n/,
  );
  assert.match(text, /\nnotes:\n {2}no machine carries the tag weekly\n$/);
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what must not be there
  assert.equal(/[\u001b\u202e]/.test(text), false, 'names move no cursor');
});

test('the notice is one sentence, the mend, and a line a machine; of a run that goes on there is none', () => {
  const notice = runNotice(ended()) as Notice;
  assert.equal(notice.what, 'Run partial: 1 of 3 machines backed up, 2 failed, 1 left out.');
  assert.equal(notice.todo, `db-1, db-2?: ${MEND}`);
  assert.equal(notice.severity, 'error');
  assert.equal(notice.table?.rows.length, 4);
  const [first] = notice.table?.rows ?? [];
  assert.equal(first?.[2], 'failed', 'chats show the first rows only');
  assert.equal((notice.data.not_succeeded as unknown[]).length, 2);
  assert.equal(runNotice(exampleRun()), undefined);
  const good = runNotice(
    ended({ status: 'succeeded', machines: [WEB as Run['machines'][number]] }),
  );
  assert.deepEqual([good?.severity, good?.todo], ['success', 'Nothing to do.']);
  assert.equal(runNotice(ended({ status: 'cancelled' }))?.severity, 'warning');
});

test('a run of two thousand machines is told in less than 20 kB', () => {
  const many = Array.from({ length: 2000 }, (_, at) => ({
    ...(DB as Run['machines'][number]),
    vm: { uuid: `6a3c2d6e-8a61-4a0e-9d4f-${at}`, name: 'n'.repeat(250), pool: 'default' },
    job_id: '019aaf4a-2f3e-7c51-8f0a-5b7d0c1e2f34',
    status: 'failed' as const,
    error: NO_SPACE,
  }));
  const notice = runNotice(ended({ machines: many })) as Notice;
  assert.ok(JSON.stringify(notice.data).length < 20_000);
  assert.ok(notice.todo.length < 500, `${notice.todo.length} characters to do`);
});

test('whoever reads only the message knows what each failure and each problem wants', () => {
  const other = { ...NO_SPACE, title: 'Ask the pool again.' };
  const missing = { ...NO_SPACE, detail: 'find machine gone-1: none', title: 'Check the name.' };
  const { machines } = ended();
  const [good, first, second] = machines as [RunMachine, RunMachine, RunMachine];
  const notice = runNotice(
    ended({ machines: [good, first, { ...second, error: other }], problems: [missing] }),
  ) as Notice;
  const todos = notice.facts.filter(({ name }) => name === 'To do').map(({ value }) => value);
  assert.equal(notice.todo, `db-1: ${MEND} (and 2 more things to do)`);
  assert.deepEqual(todos, [
    'db-2?: Ask the pool again.',
    'find machine gone-1: none: Check the name.',
  ]);
  const remark = notice.facts.find(({ name }) => name === 'Remark');
  assert.equal(remark?.value, 'db-1: left out: disk 2 (scratch [nobackup]): marked [nobackup]');
});

test('a machine without a name is told by its uuid everywhere', () => {
  const run = ended();
  const bare = <T extends { vm: RunMachine['vm'] }>(one: T): T => ({
    ...one,
    vm: { ...one.vm, name: '' },
  });
  const changed = ended({ machines: run.machines.map(bare), skipped: run.skipped.map(bare) });
  const { todo, table } = runNotice(changed) as Notice;
  assert.equal(todo, `${DB?.vm.uuid}, x: ${MEND}`);
  assert.equal(
    table?.rows.some(([name]) => name === ''),
    false,
  );
  assert.doesNotMatch(runReport(changed), /^ +[:(,]/m);
});

test('a dry run says what would be', () => {
  const request = runRequestSchema.parse({ select: { all: true }, dry_run: true });
  const text = runReport({ ...exampleRun(), request });
  assert.match(text, /^dry run: 2 machines would be backed up, 1 left out\n\nMACHINE/);
  assert.match(runHeadline({ ...exampleRun(), request }), /would be/);
});

test('who wants to hear of runs is told of the end of one', async () => {
  const told: Notice[] = [];
  const notifier = {
    targets: ({ event }: Pick<Notice, 'event'>) => (event === 'run.finished' ? ['mail'] : []),
    send: async (notice: Notice) => {
      told.push(notice);
      return [];
    },
  };
  const world = setUp({}, { notifier }, createScriptedPool());
  const request = runRequestSchema.parse({ select: { names: ['web', 'nobody'] } });
  const { id } = await world.instance('a').startRun({ request, triggeredBy: 'nightly' }, options);
  await world.until('the notice', () => told.length > 0);
  assert.deepEqual(
    told.map(({ id: notice, about, what }) => [notice, about, what]),
    [[`evt_run_${id}`, id, 'Run partial: 1 of 1 machine backed up, 1 problem.']],
  );
});
