/** The bucket's rules: as they are, as they should be, and written so. */
import { z } from 'zod';
import { NEVER } from '../../signals.ts';
import { FORECAST_EXAMPLE, forecastSchema } from '../forecast-answers.ts';
import { durationSchema } from '../input.ts';
import {
  APPLIED_EXAMPLE,
  appliedRotationSchema,
  ROTATION_EXAMPLE,
  rotationReportSchema,
} from '../rotation-answers.ts';
import { type AnyRoute, defineRoute, jsonAnswer } from '../route.ts';
import { problemDoc } from './common.ts';

const DAY_SECONDS = 86_400;
/** As long as the monthly class. */
const MAX_FORECAST_DAYS = 400;

const show = defineRoute({
  method: 'GET',
  path: '/v1/rotation',
  scope: 'read',
  summary: 'Look at the rules of the bucket',
  description:
    'The lifecycle rules found beside those that XVAULT_RETENTION_DAYS and the other settings mean, what would be changed, rules of ' +
    'others that delete sooner or pinned backups, and what this store cannot do (docs/rotation.md). With `forecast=30d` also what is ' +
    'stored on each of the days to come, and what that costs.',
  query: z.strictObject({
    forecast: durationSchema
      .refine((seconds) => seconds >= DAY_SECONDS && seconds <= MAX_FORECAST_DAYS * DAY_SECONDS, {
        error: `1d to ${MAX_FORECAST_DAYS}d`,
      })
      .optional()
      .meta({ description: 'For how long: 1d to 400d.', example: '30d' }),
  }),
  answers: {
    200: {
      description: 'Bucket by bucket: with XVAULT_STATE_BUCKET there are two.',
      schema: rotationReportSchema.extend({ forecast: forecastSchema.optional() }),
      example: { ...ROTATION_EXAMPLE, forecast: FORECAST_EXAMPLE },
    },
    503: problemDoc('The store does not answer.'),
  },
  handle: async ({ deps: { service }, query: { forecast: seconds }, signal }) => {
    const days = Math.floor((seconds ?? 0) / DAY_SECONDS);
    const [report, forecast] = await Promise.all([
      service.rotation({ signal }),
      days === 0 ? undefined : service.forecast({ days }, { signal }),
    ]);
    return jsonAnswer(200, forecast === undefined ? report : { ...report, forecast });
  },
});

const apply = defineRoute({
  method: 'POST',
  path: '/v1/rotation/apply',
  scope: 'admin',
  summary: 'Write the rules of the bucket',
  description:
    'Adds and replaces xvault’s own rules (their ids begin with `xvault:`) and leaves all others as they are; a second time it changes ' +
    'nothing. Refused as a whole when pinned backups would be deleted, or the newest backup of a machine within ' +
    'XVAULT_LAST_GOOD_DAYS, or when a rule of others would lose something. Needs `s3:PutLifecycleConfiguration`. With `dry_run` nothing ' +
    'is written.',
  body: z.strictObject({
    dry_run: z.boolean().default(false).meta({ description: 'Only look and tell.' }),
  }),
  answers: {
    200: {
      description: 'What was found, and whether rules were written.',
      schema: appliedRotationSchema,
      example: APPLIED_EXAMPLE,
    },
    409: problemDoc('`rotation_refused`: `details.reasons` says why; nothing was written.'),
    412: problemDoc('`precondition_failed`: somebody changed the rules meanwhile.'),
    503: problemDoc('The store does not answer.'),
  },
  handle: async ({ deps, body }) =>
    jsonAnswer(200, await deps.service.applyRotation({ dryRun: body.dry_run }, { signal: NEVER })),
});

export const ROTATION_ROUTES: readonly AnyRoute[] = [show, apply];
