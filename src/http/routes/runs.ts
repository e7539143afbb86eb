/** Runs: many machines in one call, with one report. */
import { z } from 'zod';
import { runReport } from '../../backup/runs-report.ts';
import { isRunEnded, RUN_STATUSES, type Run, runRequestSchema } from '../../catalog/run.ts';
import { NEVER } from '../../signals.ts';
import {
  type Answer,
  type AnswerDoc,
  type AnyRoute,
  type Call,
  defineRoute,
  jsonAnswer,
  textAnswer,
} from '../route.ts';
import { RUN_EXAMPLE, runAnswerSchema, runListSchema, runView } from '../run-answers.ts';
import { AS_TEXT, linesAnswer, listText, prefersText, runTable } from '../text-views.ts';
import {
  found,
  given,
  idOf,
  POLL_HEADERS,
  pageFields,
  pageInput,
  problemDoc,
  takeWait,
} from './common.ts';

const { shape } = runRequestSchema;
const runBody = runRequestSchema.extend({
  select: shape.select.meta({
    description:
      'Which machines: `all`, or those that carry one of the `tags` or are called one of the `names` (uuid or full name); with `pool` only of that pool. Templates, snapshots and control domains never.',
    example: { tags: ['nightly'] },
  }),
  skip: shape.skip.meta({
    description:
      'Machines to leave out: uuids, or parts of names. A machine with the tag `xvault:skip` is left out always.',
    example: ['test-'],
  }),
  deadline: shape.deadline.meta({
    description:
      'Nothing is begun from then on: an instant (RFC 3339) or a time from now (90m, 8h, 2d). A day unless told, a week at most.',
    example: '8h',
  }),
  exclude_disks: shape.exclude_disks.meta({
    description:
      'Disks to leave out of every machine that has them, each by userdevice, VDI uuid or name. Disks with `[nobackup]` in their name are left out always, where the pool can.',
  }),
  dry_run: shape.dry_run.meta({
    description:
      'Only say which machines would be backed up, in which order, and which not and why.',
  }),
});

/** A run as an answer, for the description. */
function runDoc(description: string): AnswerDoc {
  return { description, schema: runAnswerSchema, example: RUN_EXAMPLE };
}

const TEXT = 'With `Accept: text/plain` the report as text.';

function answerRun(
  call: Call,
  { run, status, headers = {} }: { run: Run; status: number; headers?: Record<string, string> },
): Answer {
  if (!prefersText(call)) return jsonAnswer(status, runView(run), headers);
  const answer = textAnswer(status, 'text/plain; charset=utf-8', runReport(run));
  return { ...answer, headers: { ...answer.headers, ...headers } };
}

const startRun = defineRoute({
  method: 'POST',
  path: '/v1/runs',
  scope: 'backup',
  summary: 'Back up many machines',
  description: `Selects the machines, records the run and answers at once. Each machine is backed up by a job of its own, begun as soon as the limits allow: first what has no backup, then what was backed up longest ago, of one day the largest. The run ends as \`succeeded\`, \`partial\`, \`failed\` or \`cancelled\`. It goes on after a crash, on any instance; no machine is backed up twice. With \`Idempotency-Key\` a repeat gets the first answer. ${TEXT}`,
  body: runBody,
  answers: {
    200: runDoc('With `dry_run`: the run that would be, not recorded.'),
    202: {
      ...runDoc('The run, started.'),
      headers: { Location: 'The run.', 'Retry-After': 'Seconds until a look makes sense.' },
    },
    404: problemDoc(
      'No machine is left: `details` says which were skipped, and which names nobody has.',
    ),
    422: problemDoc('Wrong field, no such retention class, a deadline that is over.'),
    429: problemDoc('`limit_reached`: too many runs are under way.'),
    503: problemDoc('`draining`, or no pool or the store does not answer.'),
  },
  handle: async (call) => {
    const { deps, identity, body, reservedId } = call;
    const triggeredBy = identity?.name ?? 'nobody';
    const run = await deps.service.startRun(
      { request: body, triggeredBy, runId: reservedId },
      { signal: NEVER },
    );
    if (body.dry_run) return answerRun(call, { run, status: 200 });
    const headers = { location: runView(run).links.self, ...POLL_HEADERS };
    return answerRun(call, { run, status: 202, headers });
  },
});

const getRun = defineRoute({
  method: 'GET',
  path: '/v1/runs/{id}',
  scope: 'read',
  summary: 'Look at a run',
  description: `Every machine with what became of it. \`Prefer: wait=N\` holds the answer until the run ended, up to 55 s. ${TEXT}`,
  params: { id: 'id of the run' },
  waits: true,
  conditional: true,
  answers: {
    200: runDoc(
      'The run. One that failed is an answer too: see `status`, and `error` of each machine.',
    ),
    304: { description: 'Unchanged since the ETag in If-None-Match.' },
    404: problemDoc('No such run, or a rule of the bucket removed it.'),
  },
  handle: async (call) => {
    const id = idOf(call, 'run');
    const { service } = call.deps;
    const wait = takeWait(call);
    try {
      const timeoutMs = (wait?.waitSeconds ?? 0) * 1000;
      const seen =
        wait === undefined
          ? await service.getRun(id, { signal: call.signal })
          : await service.waitRun(id, { timeoutMs }, { signal: call.signal });
      const run = found(seen, 'run', id);
      const headers = {
        ...(isRunEnded(run) ? {} : POLL_HEADERS),
        ...(wait === undefined ? {} : { 'preference-applied': `wait=${wait.waitSeconds}` }),
      };
      return answerRun(call, { run, status: 200, headers });
    } finally {
      wait?.release();
    }
  },
});

const cancelRun = defineRoute({
  method: 'POST',
  path: '/v1/runs/{id}/cancel',
  scope: 'backup',
  summary: 'Cancel a run',
  description:
    'What waits is not begun, what runs is asked to stop and cleans up. Backups that are made stay. A run that has ended stays as it is.',
  params: { id: 'id of the run' },
  answers: {
    202: { ...runDoc('The run, asked to stop.'), headers: { Location: 'The run.' } },
    404: problemDoc('No such run.'),
  },
  handle: async (call) => {
    const id = idOf(call, 'run');
    const run = found(await call.deps.service.cancelRun(id, { signal: NEVER }), 'run', id);
    const headers = {
      location: runView(run).links.self,
      ...(isRunEnded(run) ? {} : POLL_HEADERS),
    };
    return answerRun(call, { run, status: 202, headers });
  },
});

const listRuns = defineRoute({
  method: 'GET',
  path: '/v1/runs',
  scope: 'read',
  summary: 'List runs, newest first',
  description: AS_TEXT,
  query: z.strictObject({
    status: z.enum(RUN_STATUSES).optional().meta({ description: 'Only runs in this status.' }),
    ...pageFields,
  }),
  conditional: true,
  answers: {
    200: {
      description: 'A page of runs.',
      schema: runListSchema,
      example: { runs: [RUN_EXAMPLE], next_page_token: '' },
    },
  },
  handle: async (call) => {
    const { deps, query, signal } = call;
    const page = await deps.service.listRuns(
      { ...pageInput(query), ...given({ status: query.status }) },
      { signal },
    );
    if (prefersText(call)) {
      const { items, nextPageToken } = page;
      const table = runTable(items, deps.clock.now());
      return linesAnswer(listText({ noun: 'runs', rows: items.length, table, nextPageToken }));
    }
    return jsonAnswer(200, {
      runs: page.items.map(runView),
      next_page_token: page.nextPageToken ?? '',
    });
  },
});

export const RUN_ROUTES: readonly AnyRoute[] = [startRun, listRuns, getRun, cancelRun];
