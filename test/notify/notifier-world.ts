/** A notifier over one target, which may be a receiver of the tests, a clock that is told, and notices to send. */
import assert from 'node:assert/strict';
import { noticeOf } from '../../src/backup/job-notice.ts';
import { createLog } from '../../src/log.ts';
import { EVENTS, type Notice } from '../../src/notices.ts';
import { TRY_MS } from '../../src/notify/deliver.ts';
import { createNotifier } from '../../src/notify/notifier.ts';
import type { NotifyTarget } from '../../src/notify-targets.ts';
import { createSecret } from '../../src/secret.ts';
import { NEVER } from '../../src/signals.ts';
import { createHookClock } from '../hooks/clock.ts';
import { nextId, sampleBackup, sampleJob, VM_UUID } from '../records.ts';
import type { WebReceiver } from './receiver.ts';

/** What webhooks are signed with. */
export const SECRET = 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw';
/** In the path, where chats have it. */
export const URL_TOKEN = 'T0KEN-in-the-path';
const ALL = new Set(EVENTS);
/** What a machine may be called by who wants to steer its readers. */
export const HOSTILE =
  '<!channel> @everyone [win](https://evil.example) <b onload="x">\r\nBcc: a@evil.example\u202e';

/** With a receiver its address is the target's, unless that has one. */
export function setUp(
  target: Partial<NotifyTarget> & Pick<NotifyTarget, 'kind'>,
  receiver?: WebReceiver,
  publicUrl?: string,
) {
  const counts: string[] = [];
  const lines: string[] = [];
  const clock = createHookClock(TRY_MS);
  const meter = {
    count: (name: string, _value: number, labels?: Readonly<Record<string, string>>) =>
      void counts.push(`${name} ${labels?.target} ${labels?.outcome}`),
    observe: () => undefined,
  };
  const log = createLog({ level: 'debug', write: (line) => void lines.push(line) });
  const whole = {
    name: 'ops',
    events: ALL,
    ...(receiver && {
      url: createSecret(`${receiver.origin}/hooks/${URL_TOKEN}`),
      caPem: receiver.caPem,
    }),
    ...target,
  } as NotifyTarget;
  const notifier = createNotifier([whole], { clock, log, meter, publicUrl });
  return {
    clock,
    counts,
    notifier,
    logged: () => lines.join(''),
    send: async (notice: Notice = failedNotice(), signal = NEVER, attempts?: number) => {
      const input = { targets: ['ops'], ...(attempts === undefined ? {} : { attempts }) };
      const [delivery] = await notifier.send(notice, input, { signal });
      assert.ok(delivery);
      return delivery;
    },
  };
}

/** Of a backup that failed. */
export function failedNotice(name = 'web'): Notice {
  const job = sampleJob({
    status: 'failed',
    phase: 'cleaning',
    started_at: '2026-01-05T01:00:00.000Z',
    finished_at: '2026-01-05T01:02:00.000Z',
    vm: { uuid: VM_UUID, name, pool: 'dc1' },
    error: {
      type: 'about:blank',
      title: 'The snapshot was refused',
      status: 502,
      code: 'snapshot_refused',
      detail: 'take snapshot: SR full, sr=local',
    },
  });
  const notice = noticeOf(job);
  assert.ok(notice);
  return notice;
}

/** Of a backup with a warning and a disk left out. */
export function goodNotice(): Notice {
  const job_id = nextId();
  const excluded = { vdi_uuid: nextId(), name: 'scratch', userdevice: '1', virtual_size_bytes: 1 };
  const result = sampleBackup({
    job_id,
    excluded_disks: [{ ...excluded, reason: 'asked for' }],
    warnings: ['the guest may still hold its data'],
  });
  const finished_at = '2026-01-05T01:02:00.000Z';
  const notice = noticeOf(sampleJob({ id: job_id, status: 'succeeded', result, finished_at }));
  assert.ok(notice);
  return notice;
}

/** As long as a big pool's run is. */
export function runNotice(): Notice {
  const rows = Array.from({ length: 300 }, (_, at) => [
    `machine-${at} ${HOSTILE}`,
    at % 7 === 0 ? 'failed' : 'succeeded',
    '4.5 GiB',
    'x'.repeat(500),
  ]);
  const facts = Array.from({ length: 30 }, (_, at) => ({
    name: `Fact ${at}`,
    value: `${HOSTILE} ${'y'.repeat(3000)}`,
  }));
  return {
    ...failedNotice(HOSTILE),
    id: `evt_${nextId()}_run.finished`,
    event: 'run.finished',
    what: `Run of ${HOSTILE} ${'z'.repeat(3000)}`,
    facts,
    table: { columns: ['Machine', 'Outcome', 'Size', 'Why'], rows },
  };
}
