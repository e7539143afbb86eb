/** Jobs: start a backup, look, wait, follow, cancel, list. */
import { z } from 'zod';
import { backupRequestSchema, isEnded, JOB_STATUSES, type Job } from '../../catalog/record.ts';
import { NEVER } from '../../signals.ts';
import { eventStream, jobEvents } from '../events.ts';
import { JOB_EXAMPLE } from '../examples.ts';
import { type Answer, type AnyRoute, type Call, defineRoute, jsonAnswer } from '../route.ts';
import { jobListSchema } from '../schemas.ts';
import { AS_TEXT, jobTable, jobText, linesAnswer, listText, prefersText } from '../text-views.ts';
import { jobView } from '../views.ts';
import {
  found,
  given,
  holdForJob,
  idOf,
  jobDoc,
  nameField,
  POLL_HEADERS,
  pageFields,
  pageInput,
  problemDoc,
  startDocs,
  startedAnswer,
  starterOf,
  takeWait,
} from './common.ts';

const { shape } = backupRequestSchema;
/** The request as stored in jobs, with a sentence for each field. */
const startBackupBody = backupRequestSchema.extend({
  pool: shape.pool.meta({ description: 'Only look for the machine in this pool.' }),
  mode: shape.mode.meta({
    description:
      'How to make it: every mode gives the same whole archive. `full` sends all of it; `delta` sends what changed and has the store copy the rest from an earlier backup of the machine (a full where there is none yet); `auto` takes the cheapest the store can (docs/delta.md).',
  }),
  retention: shape.retention.meta({
    description:
      'Retention class: which rule of the bucket removes it one day. `auto` takes it by the calendar: the first good backup of a year, month or week of the machine stands for it (docs/rotation.md).',
    example: 'weekly',
  }),
  exclude_disks: shape.exclude_disks.meta({
    description: 'Disks to leave out, each by userdevice, VDI uuid or name.',
    example: ['2'],
  }),
  compression: shape.compression.meta({
    description:
      'Of the archive. `zstd`: each block a frame of its own, which hosts since CH 8.1 import as it is and `zstd -d` makes plain.',
  }),
  hooks: shape.hooks.meta({
    description:
      'URLs called before and after the snapshot, signed, so that the guest brings its data to rest; the settings must allow them (docs/guest-hooks.md).',
    example: {
      before_snapshot: 'https://db-1.example.com/hooks/freeze',
      after_snapshot: 'https://db-1.example.com/hooks/thaw',
    },
  }),
  quiesce: shape.quiesce.meta({
    description:
      'Quiesced snapshot by the guest’s VSS provider, where the pool has them (up to CH 8.0): `prefer` falls back to a plain one with a warning, `require` fails.',
  }),
  note: shape.note.meta({ description: 'Kept with the backup.' }),
  dry_run: shape.dry_run.meta({ description: 'Only say what would be done.' }),
});

const startBackup = defineRoute({
  method: 'POST',
  path: '/v1/vms/{vm}/backups',
  scope: 'backup',
  summary: 'Start a backup',
  description:
    'Starts one job and answers at once with it; `Prefer: wait=N` waits up to 55 s for its end. ' +
    'With `Idempotency-Key` a repeat gets the first answer, for two days.',
  params: { vm: 'uuid of a machine, or its name where no other machine has it' },
  body: startBackupBody,
  waits: true,
  answers: {
    ...startDocs(
      undefined,
      'The job, ended within the time waited: succeeded, failed or cancelled.',
    ),
    404: problemDoc('No machine of that name.'),
    409: problemDoc('`job_conflict`: one is running already, see `links.job`.'),
    422: problemDoc('Wrong field, ambiguous name (candidates in `details`), no ordinary machine.'),
    429: problemDoc('`limit_reached`: the queue is full.'),
    503: problemDoc('`draining`, or the pool or the store does not answer.'),
  },
  handle: async (call) => {
    const { deps, body, param } = call;
    const job = await deps.service.startBackup(
      { vm: param('vm'), request: body, ...starterOf(call) },
      { signal: NEVER },
    );
    return startedAnswer(job);
  },
  hold: holdForJob,
});

const getJob = defineRoute({
  method: 'GET',
  path: '/v1/jobs/{id}',
  scope: 'read',
  summary: 'Look at a job',
  description: `\`Prefer: wait=N\` holds the answer until the job ended, up to 55 s. ${AS_TEXT}`,
  params: { id: 'id of the job' },
  waits: true,
  conditional: true,
  answers: {
    200: jobDoc('The job. A failed job is an answer too: see `status` and `error`.'),
    304: { description: 'Unchanged since the ETag in If-None-Match.' },
    404: problemDoc('No such job, or a rule of the bucket removed it.'),
  },
  handle: async (call) => {
    const id = idOf(call, 'job');
    const { service } = call.deps;
    const wait = takeWait(call);
    if (wait === undefined) {
      const job = found(await service.getJob(id, { signal: call.signal }), 'job', id);
      return answerJob(call, job);
    }
    try {
      const timeoutMs = wait.waitSeconds * 1000;
      const waited = await service.waitJob(id, { timeoutMs }, { signal: call.signal });
      const job = found(waited, 'job', id);
      return answerJob(call, job, { 'preference-applied': `wait=${wait.waitSeconds}` });
    } finally {
      wait.release();
    }
  },
});

function answerJob(call: Call, job: Job, headers: Record<string, string> = {}): Answer {
  const view = jobView(job);
  const answer = prefersText(call) ? linesAnswer(jobText(view)) : jsonAnswer(200, view);
  const poll = isEnded(job) ? {} : POLL_HEADERS;
  return { ...answer, headers: { ...answer.headers, ...poll, ...headers } };
}

const followJob = defineRoute({
  method: 'GET',
  path: '/v1/jobs/{id}/events',
  scope: 'read',
  summary: 'Follow a job',
  description:
    'Server-sent events: `state` (the job), `progress` (its counters, every 2 s at most), `phase`, ' +
    '`end` (the job), then the stream ends. A reconnect begins with `state` again.',
  params: { id: 'id of the job' },
  answers: {
    200: { description: 'The events.', contentType: 'text/event-stream', schema: z.string() },
    404: problemDoc('No such job.'),
    429: problemDoc('Too many open streams.'),
  },
  handle: async (call) => {
    const id = idOf(call, 'job');
    const { service, clock } = call.deps;
    found(await service.getJob(id, { signal: call.signal }), 'job', id);
    const release = call.holds.take();
    const leaving = new AbortController();
    const signal = AbortSignal.any([call.signal, leaving.signal]);
    const events = jobEvents(service.watchJob(id, { signal }), { clock }, { signal });
    return {
      status: 200,
      headers: { 'content-type': 'text/event-stream', 'x-accel-buffering': 'no' },
      body: eventStream(events, { abort: () => leaving.abort(), ended: release }),
    };
  },
});

const cancelJob = defineRoute({
  method: 'POST',
  path: '/v1/jobs/{id}/cancel',
  scope: 'backup',
  summary: 'Cancel a job',
  description: 'Asks the job to stop and clean up. One that has ended stays as it is.',
  params: { id: 'id of the job' },
  waits: true,
  answers: {
    200: jobDoc('The job, ended within the time waited.'),
    202: { ...jobDoc('The job, asked to stop.'), headers: { Location: 'The job.' } },
    404: problemDoc('No such job.'),
  },
  handle: async (call) => {
    const id = idOf(call, 'job');
    const job = found(await call.deps.service.cancelJob(id, { signal: NEVER }), 'job', id);
    const view = jobView(job);
    return jsonAnswer(202, view, {
      location: view.links.self,
      ...(isEnded(job) ? {} : POLL_HEADERS),
    });
  },
  hold: holdForJob,
});

const listJobs = defineRoute({
  method: 'GET',
  path: '/v1/jobs',
  scope: 'read',
  summary: 'List jobs, newest first',
  description: AS_TEXT,
  query: z.strictObject({
    status: z.enum(JOB_STATUSES).optional().meta({ description: 'Only jobs in this status.' }),
    vm: nameField.meta({ description: 'Only jobs of this machine, by uuid or name.' }),
    pool: nameField.meta({ description: 'Only jobs on this pool.' }),
    ...pageFields,
  }),
  conditional: true,
  answers: {
    200: {
      description: 'A page of jobs.',
      schema: jobListSchema,
      example: { jobs: [JOB_EXAMPLE], next_page_token: '' },
    },
  },
  handle: async (call) => {
    const { deps, query, signal } = call;
    const { status, vm, pool } = query;
    const page = await deps.service.listJobs(
      { ...pageInput(query), ...given({ status, vm, pool }) },
      { signal },
    );
    const jobs = page.items.map(jobView);
    const { nextPageToken, unreadable } = page;
    if (prefersText(call)) {
      const table = jobTable(jobs, deps.clock.now());
      return linesAnswer(
        listText({ noun: 'jobs', rows: jobs.length, table, unreadable, nextPageToken }),
      );
    }
    return jsonAnswer(200, {
      jobs,
      next_page_token: nextPageToken ?? '',
      ...given({ unreadable }),
    });
  },
});

export const JOB_ROUTES: readonly AnyRoute[] = [
  startBackup,
  listJobs,
  getJob,
  followJob,
  cancelJob,
];
