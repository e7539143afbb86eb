/** The sweep: what dead runs left on pools and in the bucket. */
import { z } from 'zod';
import { NEVER } from '../../signals.ts';
import { SWEEP_EXAMPLE } from '../examples.ts';
import { type AnyRoute, defineRoute, jsonAnswer } from '../route.ts';
import { sweepReportSchema } from '../schemas.ts';
import { problemDoc } from './common.ts';

const sweep = defineRoute({
  method: 'POST',
  path: '/v1/sweep',
  scope: 'admin',
  summary: 'Remove what crashed runs left',
  description:
    'Looks for snapshots, snapshot disks and tasks on the pools, and for unfinished uploads, staging objects, expired ' +
    'leases and trial objects in the bucket, that carry our name. What is surely ours and no living job uses is removed, ' +
    'which every instance does by itself, too: at its start, every hour, and after a lost lease. With `dry_run` nothing ' +
    'is changed. A job whose instance died is taken over instead and cleans up at its end.',
  body: z.strictObject({
    dry_run: z.boolean().default(false).meta({ description: 'Only look and tell.' }),
  }),
  answers: {
    200: {
      description:
        'The report: every finding with what was done and why; `errors` names what could not be looked at or removed.',
      schema: sweepReportSchema,
      example: SWEEP_EXAMPLE,
    },
    503: problemDoc('`draining`: this instance is shutting down.'),
  },
  handle: async ({ deps, body }) =>
    jsonAnswer(200, await deps.service.sweep({ dryRun: body.dry_run }, { signal: NEVER })),
});

export const SWEEP_ROUTES: readonly AnyRoute[] = [sweep];
