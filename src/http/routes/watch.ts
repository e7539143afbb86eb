/** For monitors and platforms: status, probes, metrics. */
import { z } from 'zod';
import { BackupError } from '../../errors.ts';
import { STATUS_EXAMPLE } from '../examples.ts';
import { durationSchema } from '../input.ts';
import { nagiosText } from '../nagios.ts';
import { OPENMETRICS, toOpenMetrics, wantsOpenMetrics } from '../open-metrics.ts';
import { type AnyRoute, defineRoute, jsonAnswer, textAnswer } from '../route.ts';
import { livenessSchema, readinessSchema, statusSchema } from '../schemas.ts';
import { AS_TEXT, linesAnswer, prefersText, statusText } from '../text-views.ts';
import { given, nameField, problemDoc } from './common.ts';

/** draft-inadarei-api-health-check. */
const HEALTH = { 'content-type': 'application/health+json' };

const status = defineRoute({
  method: 'GET',
  path: '/v1/status',
  scope: 'read',
  summary: 'Are the backups all right?',
  description: `Per machine the age of its newest good backup. 200 whatever the status, unless \`strict=1\`. ${AS_TEXT}`,
  query: z.strictObject({
    max_age: durationSchema.optional().meta({
      description:
        'Older is overdue: 90s, 30m, 26h, 3d. Machines with a tag `xvault:max_age=…` keep their own.',
      example: '26h',
    }),
    pool: nameField.meta({ description: 'Only of this pool.' }),
    format: z.enum(['json', 'nagios']).optional().meta({ description: 'json unless told.' }),
    strict: z.enum(['0', '1']).optional().meta({ description: '1: 503 when critical.' }),
  }),
  answers: {
    200: { description: 'The status.', schema: statusSchema, example: STATUS_EXAMPLE },
    503: { description: 'The same, with `strict=1` and critical.', schema: statusSchema },
  },
  handle: async (call) => {
    const { deps, settings, query, signal } = call;
    const report = await deps.service.status(
      { maxAgeSeconds: query.max_age ?? settings.maxAgeSeconds, ...given({ pool: query.pool }) },
      { signal },
    );
    const code = query.strict === '1' && report.status === 'critical' ? 503 : 200;
    if (query.format === 'nagios') {
      return textAnswer(code, 'text/plain; charset=utf-8', nagiosText(report));
    }
    if (query.format === undefined && prefersText(call)) {
      return linesAnswer(statusText(report, deps.clock.now()), code);
    }
    return jsonAnswer(code, report);
  },
});

const liveness = (path: string) =>
  defineRoute({
    method: 'GET',
    path,
    scope: 'none',
    summary: 'Does the process answer?',
    answers: { 200: { description: 'It does.', schema: livenessSchema } },
    handle: ({ deps }) => jsonAnswer(200, { status: 'pass', version: deps.version }, HEALTH),
  });

const readiness = defineRoute({
  method: 'GET',
  path: '/readyz',
  scope: 'none',
  summary: 'May work be sent here?',
  description:
    '`warn` is ready too: a store that does not answer for a moment must not take every instance out. ' +
    '`?verbose` shows the checks, with a token of scope read.',
  query: z.object({ verbose: z.string().optional().meta({ description: 'Any value.' }) }),
  answers: {
    200: { description: '`pass` or `warn`.', schema: readinessSchema },
    503: { description: '`fail`: draining, or not configured.', schema: readinessSchema },
  },
  wantsDetails: (c) => c.req.query('verbose') !== undefined,
  handle: async ({ deps, query, signal }) => {
    const { status: state, checks } = await deps.service.readiness({ signal });
    const draining = deps.service.draining;
    const shown = draining ? 'fail' : state;
    const body = query.verbose === undefined ? { status: shown } : { status: shown, checks };
    return jsonAnswer(shown === 'fail' ? 503 : 200, body, HEALTH);
  },
});

const metrics = defineRoute({
  method: 'GET',
  path: '/metrics',
  scope: 'metrics',
  summary: 'Prometheus metrics',
  description:
    'Scope read, unless the settings open it. With `Accept: application/openmetrics-text` as OpenMetrics 1.0.',
  answers: {
    200: { description: 'The metrics.', contentType: 'text/plain', schema: z.string() },
    404: problemDoc('This build counts nothing.'),
  },
  handle: async ({ c, deps }) => {
    if (deps.metrics === undefined) throw new BackupError('not_found', 'find metrics');
    const { body, contentType } = await deps.metrics();
    return wantsOpenMetrics(c.req.header('accept'))
      ? textAnswer(200, OPENMETRICS, toOpenMetrics(body))
      : textAnswer(200, contentType, body);
  },
});

export const WATCH_ROUTES: readonly AnyRoute[] = [
  status,
  liveness('/livez'),
  readiness,
  liveness('/healthz'),
  metrics,
];
