import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Job } from '../catalog/record.ts';
import type { RestoreTestWish } from '../catalog/verified.ts';
import { RESTORE_TEST_JOB_EXAMPLE } from '../http/examples.ts';
import { SILENT_LOG } from '../log.ts';
import type { GuestFacts, HookAnswer, HookCall, Hooks, Pool, VmRef } from '../ports.ts';
import { NEVER } from '../signals.ts';
import type { StepContext } from './context.ts';
import { checkVerdict, seeWorking } from './verify-boot-verdict.ts';

const GUEST: GuestFacts = { toolsVersion: '7.20', osName: 'Debian 13', addresses: [] };
const URL_OF_JUDGE = 'https://judge.example/verdict';

interface SetUp {
  answers: HookAnswer[];
  wish?: Partial<RestoreTestWish>;
  /** After so many looks the tools report; never unless told. */
  upAfter?: number;
  bootMs?: number;
}

/** What was found, what was asked, and when each wait began and how long it was. */
async function judge({ answers, wish = {}, upAfter = 1, bootMs = 0 }: SetUp) {
  let nowMs = 0;
  let looks = 0;
  const asked: HookCall[] = [];
  const waits: number[] = [];
  const clock = {
    elapsed: () => nowMs,
    sleep: async (ms: number) => {
      waits.push(ms);
      nowMs += ms;
    },
  };
  const hooks: Partial<Hooks> = {
    ask: async (call) => {
      asked.push(call);
      return answers[asked.length - 1] ?? (answers.at(-1) as HookAnswer);
    },
  };
  const pool: Partial<Pool> = {
    waitForGuest: async ({ timeoutMs }) => {
      looks += 1;
      if (timeoutMs > 0) nowMs += bootMs;
      return looks >= upAfter ? GUEST : undefined;
    },
  };
  const engine = { clock, hooks, log: SILENT_LOG, meter: { count: () => undefined } };
  const context = { engine, signal: NEVER } as unknown as StepContext;
  const asks = { boot_timeout_seconds: 60, verdict: URL_OF_JUDGE, ...wish };
  const job = { ...RESTORE_TEST_JOB_EXAMPLE, restore_test: asks } as unknown as Job;
  const found = await seeWorking(job, { pool: pool as Pool, vm: 'OpaqueRef:vm' as VmRef }, context);
  return { found, asked, waits, nowMs };
}

const again = (retryAfterSeconds?: number, text = ''): HookAnswer => ({
  status: 202,
  text,
  retryAfterSeconds,
});

test('202 is asked again when it says so, each time with a new id and what the guest says by then', async () => {
  const answers = [again(), again(3), again(0), { status: 204, text: '' }];
  const { found, asked, waits } = await judge({ answers });
  assert.equal(found, undefined);
  assert.deepEqual(waits, [10_000, 3_000, 1_000]);
  assert.deepEqual(
    asked.map(({ id }) => id.replace(RESTORE_TEST_JOB_EXAMPLE.id, 'job')),
    [1, 2, 3, 4].map((n) => `hook_job_1_verdict_${n}`),
  );
  const { guest, vm, disks } = asked[0]?.data ?? {};
  assert.deepEqual(guest, { tools: '7.20', os: 'Debian 13', addresses: [] });
  const { restored } = RESTORE_TEST_JOB_EXAMPLE;
  assert.deepEqual([vm, disks], [{ ...restored?.vm, pool: 'default' }, restored?.disks]);
});

test('who never comes to a verdict is asked up to the time-out, and once at its end', async () => {
  const { found, waits, nowMs, asked } = await judge({
    answers: [again(25, 'no login yet')],
    bootMs: 20_000,
  });
  assert.match(found ?? '', /no verdict within 60 seconds of its start, last "no login yet"$/);
  assert.deepEqual([waits, nowMs, asked.length], [[25_000, 15_000], 60_000, 3]);
});

test('without the guest the question comes at once, and tells when the tools report after all', async () => {
  const answers = [again(), { status: 200, text: '' }];
  const { found, asked, waits } = await judge({ answers, wish: { guest: false }, upAfter: 2 });
  assert.deepEqual([found, waits.length], [undefined, 1]);
  assert.deepEqual(
    asked.map(({ data }) => data.guest === null),
    [true, false],
  );
});

test('a guest that stays silent is not judged', async () => {
  const { found, asked } = await judge({ answers: [], upAfter: 9 });
  assert.match(found ?? '', /did not report within 60 seconds/);
  assert.equal(asked.length, 0);
});

for (const [status, text, expected] of [
  [422, 'no table orders', 'judge restored machine: "no table orders"'],
  [409, 'wrong host name', 'judge restored machine: "wrong host name"'],
  [422, '', undefined],
  [401, 'no valid signature', undefined],
  [404, 'no such hook', undefined],
] as const) {
  const what = expected === undefined ? 'says nothing of the machine' : 'says that it is bad';
  test(`${status} ${text === '' ? 'without words' : `"${text}"`} ${what}`, async () => {
    const judging = judge({ answers: [{ status, text }] });
    if (expected !== undefined) assert.equal((await judging).found, expected);
    else await assert.rejects(judging, { code: 'hook_failed', message: /no verdict$/ });
  });
}

test('who may be asked is decided before anything begins', async () => {
  const options = { signal: NEVER };
  const wish = { boot_timeout_seconds: 60 };
  const refused = (field: string) => ({ code: 'invalid_request', details: { field } });
  const lone = checkVerdict({ ...wish, guest: false }, undefined, options);
  await assert.rejects(lone, refused('guest'));
  const unset = checkVerdict({ ...wish, verdict: URL_OF_JUDGE }, undefined, options);
  await assert.rejects(unset, refused('verdict'));
  await checkVerdict(wish, undefined, options);
});
