/**
 * Everything a bucket is known to do to a backup, by name.
 *
 * Sources: the Amazon S3 API reference (error responses, conditional writes), what Ceph, R2 and others were seen to
 * answer (docs/providers.md). docs/reliability.md has a line for each.
 */
import type { Random } from '../crash/random.ts';
import type { Ground } from './ground.ts';
import { lasting, type NamedFault, once, pause } from './named-fault.ts';
import { names } from './processes.ts';

const ALWAYS = Number.POSITIVE_INFINITY;
const MINUTE_MS = 60_000;
const STORED_PARTS = /\/backups\//;
const WRITES = ['PutObject', 'CreateMultipartUpload', 'UploadPart', 'CompleteMultipartUpload'];
const status = (code: number, name: string) =>
  ({ kind: 'status', status: code, code: name }) as const;

/** Requests a lost or late answer is drawn from. */
const ANSWERS = [
  'CreateMultipartUpload archive',
  'UploadPart archive',
  'CompleteMultipartUpload archive',
  'PutObject index',
  'PutObject backup',
  'PutObject jobs',
  'PutObject leases',
  'DeleteObject leases',
];

/** An outage all calls meet, for seconds or for longer than anybody tries. */
function outage(on: Ground, draw: Random, effect: ReturnType<typeof status>): void {
  const down = lasting(on, draw.pick([5, 20, 60, 300, 900]) * 1000);
  const skip = draw.between(0, 40);
  on.s3.faults.add({ effect, times: ALWAYS, skip, while: down });
}

/** One conditional write is refused: of the record of the job, at some step, or of the backup. */
function refuseWrite(on: Ground, draw: Random, effect: ReturnType<typeof status>): void {
  const operation = 'PutObject';
  const skip = draw.between(0, 3);
  if (skip === 0) on.s3.faults.add({ effect, operation, key: /backup\.json$/ });
  else on.s3.faults.add({ effect, operation, key: /jobs\//, skip });
}

/** What may also happen to a start that the bucket does not take. */
const DOWN = ['succeeded', 'store_unavailable'] as const;

/** Every fault of a bucket by name. */
export const STORE_FAULTS: Readonly<Record<string, NamedFault>> = {
  'store-500-storm': {
    what: 'a third of all requests is answered with 500 for a minute',
    ends: DOWN,
    leaves: true,
    arm: (on) =>
      on.s3.faults.add({
        effect: status(500, 'InternalError'),
        probability: 0.3,
        times: 60,
        while: lasting(on, MINUTE_MS),
      }),
  },
  'store-503-storm': {
    what: 'a third of all requests is answered with 503 for a minute',
    ends: DOWN,
    leaves: true,
    arm: (on) =>
      on.s3.faults.add({
        effect: status(503, 'ServiceUnavailable'),
        probability: 0.3,
        times: 60,
        while: lasting(on, MINUTE_MS),
      }),
  },
  'store-slow-down': {
    what: 'the bucket says SlowDown and when to come back',
    ends: DOWN,
    leaves: true,
    arm: (on, draw) =>
      on.s3.faults.add({
        effect: { ...status(503, 'SlowDown'), retryAfterSeconds: draw.between(1, 5) },
        probability: 0.3,
        times: 40,
      }),
  },
  'store-down': {
    what: 'the bucket answers everything with 503, for seconds or many minutes',
    ends: DOWN,
    leaves: true,
    arm: (on, draw) => outage(on, draw, status(503, 'ServiceUnavailable')),
  },
  'store-name-gone': {
    what: 'the name of the store is not found any more (DNS), for seconds or minutes',
    ends: DOWN,
    leaves: true,
    arm: (on, draw) => {
      const gone = lasting(on, draw.pick([5, 20, 120, 600]) * 1000);
      let skip = draw.between(0, 40);
      const unwatch = on.watch(({ name, done }) => {
        if (!name.startsWith('store ') || done) return undefined;
        skip -= 1;
        if (skip >= 0) return undefined;
        names.found = !gone();
        if (names.found) unwatch();
        else on.later(found(on, gone));
        on.strike();
        return names.found ? undefined : 'cut';
      });
    },
  },
  'part-reset': {
    what: 'connections are reset in the middle of a part',
    ends: ['succeeded'],
    arm: (on, draw) =>
      on.s3.faults.add({
        effect: { kind: 'reset', afterBytes: draw.between(1, 2_000_000) },
        operation: 'UploadPart',
        key: STORED_PARTS,
        times: 3,
      }),
  },
  'part-damaged-on-the-way': {
    what: 'a part is changed on its way',
    ends: ['succeeded'],
    arm: (on) =>
      on.s3.faults.add({
        effect: { kind: 'receive-damaged' },
        operation: 'UploadPart',
        key: STORED_PARTS,
      }),
  },
  'part-stored-short': {
    what: 'the store keeps one byte less of a part than it was sent',
    ends: ['data_corrupt'],
    says: /stored|sent/,
    arm: (on) =>
      on.s3.faults.add({
        effect: { kind: 'store-short' },
        operation: 'UploadPart',
        key: STORED_PARTS,
      }),
  },
  'archive-stored-short': {
    what: 'the completed archive is one byte short',
    ends: ['data_corrupt'],
    arm: (on) =>
      on.s3.faults.add({
        effect: { kind: 'store-short' },
        operation: 'CompleteMultipartUpload',
        key: STORED_PARTS,
      }),
  },
  'write-timed-out-but-done': {
    what: 'a write is carried out, and its answer comes never',
    ends: DOWN,
    leaves: true,
    arm: (on, draw) => {
      const name = `store ${draw.pick(ANSWERS)}`;
      once(
        on,
        (seen) => seen.done && seen.name === name,
        async () => {
          await pause(on, MINUTE_MS);
          return 'cut';
        },
      );
    },
  },
  'write-timed-out': {
    what: 'a write is neither carried out nor answered',
    ends: DOWN,
    leaves: true,
    arm: (on, draw) => {
      const name = `store ${draw.pick(ANSWERS)}`;
      once(
        on,
        (seen) => !seen.done && seen.name === name,
        async () => {
          await pause(on, MINUTE_MS);
          return 'cut';
        },
      );
    },
  },
  'completion-answers-lost': {
    what: 'every answer to the completion of the archive is lost',
    ends: ['succeeded'],
    arm: (on) =>
      on.s3.faults.add({
        effect: { kind: 'lose-answer' },
        operation: 'CompleteMultipartUpload',
        key: STORED_PARTS,
        times: 12,
      }),
  },
  'completion-error-in-200': {
    what: 'the completion is answered with 200 and an error inside',
    ends: ['succeeded'],
    arm: (on) =>
      on.s3.faults.add({
        effect: { kind: 'error-in-200', code: 'InternalError' },
        operation: 'CompleteMultipartUpload',
        key: STORED_PARTS,
      }),
  },
  'upload-gone': {
    what: 'the upload is gone when it shall be completed (NoSuchUpload)',
    ends: ['store_refused'],
    retry: 'later',
    says: /aborted by somebody else or by a rule/,
    arm: (on) =>
      on.s3.faults.add({
        effect: status(404, 'NoSuchUpload'),
        operation: 'CompleteMultipartUpload',
        key: STORED_PARTS,
      }),
  },
  'precondition-failed': {
    what: 'a conditional write is answered with 412 although nobody else wrote',
    // refused with this code where it met the start
    ends: ['succeeded', 'precondition_failed'],
    arm: (on, draw) => refuseWrite(on, draw, status(412, 'PreconditionFailed')),
  },
  'precondition-conflict': {
    what: 'a conditional write is answered with 409, as when two race',
    // refused with this code where it met the start
    ends: ['succeeded', 'precondition_failed'],
    arm: (on, draw) => refuseWrite(on, draw, status(409, 'ConditionalRequestConflict')),
  },
  'completion-precondition-failed': {
    what: 'the completion is answered with 412: something is there already',
    ends: ['precondition_failed', 'store_refused', 'data_corrupt'],
    arm: (on) =>
      on.s3.faults.add({
        effect: status(412, 'PreconditionFailed'),
        operation: 'CompleteMultipartUpload',
        key: STORED_PARTS,
      }),
  },
  'clock-skew': {
    what: 'the store refuses a request for its time (RequestTimeTooSkewed)',
    ends: ['succeeded'],
    arm: (on, draw) =>
      on.s3.faults.add({
        effect: status(403, 'RequestTimeTooSkewed'),
        operation: draw.pick(['UploadPart', 'PutObject', 'CompleteMultipartUpload']),
        key: STORED_PARTS,
      }),
  },
  'clock-skew-stays': {
    what: 'the clocks differ by more than the store bears, for good',
    ends: ['store_refused'],
    says: /set the clock right/,
    arm: (on) =>
      on.s3.faults.add({
        effect: status(403, 'RequestTimeTooSkewed'),
        operation: 'UploadPart',
        key: STORED_PARTS,
        times: ALWAYS,
      }),
  },
  'rights-revoked': {
    what: 'the right to write backups is taken away in mid-job',
    ends: ['store_credentials'],
    retry: 'after-fix',
    says: /s3:PutObject/,
    arm: (on, draw) =>
      on.s3.faults.add({
        effect: status(403, 'AccessDenied'),
        operation: draw.pick(WRITES),
        key: STORED_PARTS,
        times: ALWAYS,
      }),
  },
  'rights-revoked-for-a-while': {
    what: 'all rights are gone for a minute',
    ends: ['succeeded', 'store_credentials'],
    leaves: true,
    arm: (on, draw) => {
      const skip = draw.between(0, 40);
      const effect = status(403, 'AccessDenied');
      on.s3.faults.add({ effect, times: ALWAYS, skip, while: lasting(on, MINUTE_MS) });
    },
  },
  'bucket-full': {
    what: 'the quota of the bucket is used up',
    ends: ['store_credentials'],
    says: /QuotaExceeded/,
    arm: (on) =>
      on.s3.faults.add({
        effect: status(403, 'QuotaExceeded'),
        operation: 'UploadPart',
        key: STORED_PARTS,
        times: ALWAYS,
      }),
  },
  'credentials-expire': {
    what: 'the session token of the credentials expires in mid-job',
    ends: ['store_credentials'],
    says: /session token/,
    arm: (on) =>
      on.s3.faults.add({
        effect: status(400, 'ExpiredToken'),
        operation: 'UploadPart',
        key: STORED_PARTS,
        times: ALWAYS,
      }),
  },
};

/** Names are found again when the time is over, whether anybody asks or not. */
async function found(on: Ground, gone: () => boolean): Promise<void> {
  while (gone()) await pause(on, 1000);
  names.found = true;
}
