import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createTestTerminal } from '../../test/commands/terminal.ts';
import { sampleBackup, sampleJob } from '../../test/records.ts';
import type { Job } from '../catalog/record.ts';
import { RESTORE_JOB_EXAMPLE } from '../http/examples.ts';
import { jobView } from '../http/views.ts';
import type { Clock } from '../ports.ts';
import {
  bar,
  createProgressView,
  createRateMeter,
  endText,
  modeText,
  progressText,
} from './progress.ts';

const MIB = 1_048_576;

function testClock() {
  let ms = 0;
  const clock: Clock = {
    now: () => ms,
    elapsed: () => ms,
    sleep: () => Promise.reject(new Error('no test sleeps')),
  };
  const advance = (by: number) => {
    ms += by;
  };
  return { clock, advance };
}

const exporting = (readBytes: number, over: Partial<Job> = {}) =>
  jobView(
    sampleJob({
      status: 'running',
      phase: 'exporting',
      progress: {
        read_bytes: readBytes,
        sent_bytes: 0,
        copied_bytes: 0,
        total_bytes: 1000 * MIB,
      },
      ...over,
    }),
  );

test('the rate is that of the last fifteen seconds', () => {
  const { clock, advance } = testClock();
  const rate = createRateMeter(clock);
  rate.add(0);
  assert.equal(rate.perSecond(), undefined);
  for (let second = 1; second <= 60; second++) {
    advance(1000);
    rate.add(second * 100);
  }
  for (let second = 1; second <= 20; second++) {
    advance(1000);
    rate.add(6000 + second * 10);
  }
  assert.equal(rate.perSecond(), 10);
});

test('the bar has always the same width', () => {
  for (const fraction of [undefined, 0, 0.01, 0.5, 0.99, 1, 7]) {
    assert.equal([...bar(fraction, 10)].length, 10);
  }
  assert.equal(bar(0.5, 4), '██░░');
});

test('progress says bytes, rate and the time left at most', () => {
  assert.equal(progressText(exporting(0), undefined), 'exporting');
  assert.equal(
    progressText(exporting(500 * MIB), 50 * MIB),
    'exporting  500 MiB  50.0 MiB/s  at most 10s left',
  );
  assert.equal(progressText(exporting(0, { cancel_requested: true }), undefined), 'stopping');
});

test('without a terminal there is a line for each phase and one a minute', () => {
  const { clock, advance } = testClock();
  const terminal = createTestTerminal();
  const view = createProgressView(terminal, clock);
  view.update(jobView(sampleJob()));
  for (let second = 0; second < 130; second++) {
    view.update(exporting(second * MIB));
    advance(1000);
  }
  view.end(jobView(sampleJob({ status: 'succeeded', result: sampleBackup() })));
  const lines = terminal.text.err.trimEnd().split('\n');
  assert.equal(lines.length, 6, terminal.text.err);
  assert.match(lines[4] ?? '', /^✓ web: 1 B in /);
  assert.equal(lines[5], '  full: full was asked for');
  assert.ok(!terminal.text.err.includes('\u001b'));
});

test('on a terminal one line is drawn again and again, never wider than it', () => {
  const { clock } = testClock();
  const terminal = createTestTerminal({ errIsTty: true, columns: () => 40 });
  const view = createProgressView(terminal, clock);
  const vm = { uuid: 'u', name: 'a machine with quite a long name \u001b[2J', pool: 'p' };
  view.update(exporting(MIB, { vm }));
  view.update(exporting(2 * MIB, { vm }));
  assert.ok(terminal.text.err.includes('\u001b[1A'));
  assert.ok(!terminal.text.err.includes('\u001b[2J'));
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what is looked for
  for (const line of terminal.text.err.replace(/\u001b\[\d*[A-Z]/g, '').split(/[\n\r]/)) {
    assert.ok([...line].length < 40, line);
  }
});

test('a delta says what was sent, from what it was copied, and what the requests cost', () => {
  const result = sampleBackup({
    mode: 'delta',
    mode_reason: 'unchanged blocks are copied from the backup of yesterday',
    archive: { key: 'k', size_bytes: 900 * MIB, etag: '"e"', content_digest: '0' },
    sent_bytes: 30 * MIB,
    copied_bytes: 870 * MIB,
    requests: { total: 21, uploads: 6, copies: 5, reads: 2, retries: 0 },
    estimated_cost: { amount: 0.000096, currency: 'USD', prices: 'AWS' },
  });
  const job = jobView(sampleJob({ status: 'succeeded', result }));
  assert.match(endText(job), /^web: 900 MiB in 9s, 30\.0 MiB sent, backup /);
  assert.equal(
    modeText(job),
    'delta: unchanged blocks are copied from the backup of yesterday; 21 requests, about 0.000096 USD',
  );
  assert.equal(modeText(jobView(sampleJob())), undefined);
});

test('a compressed archive says what share of its blocks it is', () => {
  const archive = { key: 'k', size_bytes: 300 * MIB, etag: '"e"', content_digest: '0' };
  const result = sampleBackup({ archive: { ...archive, uncompressed_bytes: 900 * MIB } });
  const job = jobView(sampleJob({ status: 'succeeded', result }));
  assert.match(endText(job), /^web: 300 MiB \(33 % by zstd\) in 9s/);
  const plain = sampleJob();
  const dryRun = { disks: [], excluded_disks: [], mode: 'full', mode_reason: '', warnings: [] };
  const foreseen = jobView({
    ...plain,
    request: { ...plain.request, compression: 'zstd' },
    dry_run: { ...dryRun, mode: 'full', max_archive_bytes: 9, estimated_bytes: 900 * MIB },
  });
  assert.match(endText(foreseen), /about 900 MiB before compression$/);
});

test('an index job says how far it has read, and at its end what it found and wrote', () => {
  const progress = { read_bytes: 3 * MIB, sent_bytes: 0, copied_bytes: 0, total_bytes: 9 * MIB };
  const job = sampleJob({ kind: 'index', status: 'running', phase: 'verifying', progress });
  const running = jobView({ ...job, backup_id: 'b' });
  assert.equal(progressText(running, MIB), 'verifying  3.0 MiB  1.0 MiB/s  at most 6s left');
  const index = {
    found: 'old',
    written: true,
    key: 'xv/i',
    size_bytes: 1,
    stored_blocks: 3,
  } as const;
  assert.equal(
    endText({ ...running, status: 'succeeded', index }),
    'web: 3 blocks of backup b are right (3.0 MiB read); its index was of an older version, a new one is at xv/i',
  );
  const right = { ...index, found: 'right', written: false } as const;
  assert.match(endText({ ...running, index: right }), /; its index was right already$/);
});

test('a job that waits says for what', () => {
  const job = sampleJob({ waiting_because: '1 of 1 jobs run on SR nfs' });
  assert.equal(progressText(jobView(job), undefined), 'waiting: 1 of 1 jobs run on SR nfs');
  assert.equal(progressText(jobView(sampleJob()), undefined), 'waiting');
});

test('a restore says where it went, by which way, and what it would have done', () => {
  const job = RESTORE_JOB_EXAMPLE;
  assert.equal(
    endText(job),
    'web-1: restored as web-1 of monday on default, 1 disk of 20.0 GiB in 1m 12s: 51f0c8d7-6a2b-4e19-b3c4-d5e6f7a8b9c0',
  );
  const terminal = createTestTerminal();
  createProgressView(terminal, testClock().clock).end(job);
  const [, ...lines] = terminal.text.err.split('\n');
  assert.deepEqual(lines, [
    '  stream: its networks are mapped, so the archive is edited',
    '  disk 0 on NFS store',
    '  interface 0 on VM network (asked for)',
    '',
  ]);
  const { restored: _, ...planned } = job;
  assert.match(endText(planned), /^web-1: would be restored as web-1 of monday on default, 1 disk/);
});

test('a verify job says at its end how much was looked at', () => {
  const verified = {
    at: '2026-01-05T01:00:00.000Z',
    kind: 'whole',
    percent: 100,
    ok: true,
    read_bytes: 3 * MIB,
    checked_blocks: 3,
    job_id: 'j',
  } as const;
  const job = jobView(sampleJob({ kind: 'verify', status: 'succeeded', backup_id: 'b' }));
  assert.equal(
    endText({ ...job, verified }),
    'web: backup b is what was stored (3 blocks checked, 3.0 MiB read)',
  );
  const part = { ...verified, kind: 'sampled', percent: 5 } as const;
  assert.match(endText({ ...job, verified: part }), /^web: 5 % of backup b are what was stored/);
  const tried = { ...verified, kind: 'restored' } as const;
  assert.match(endText({ ...job, verified: tried }), /restored, started, seen to work and removed/);
});
