/** The guard of last good backups, on request. */
import { z } from 'zod';
import { NEVER } from '../../signals.ts';
import { GUARD_EXAMPLE, guardReportSchema } from '../guard-answers.ts';
import { type AnyRoute, defineRoute, jsonAnswer } from '../route.ts';
import { problemDoc } from './common.ts';

const renew = defineRoute({
  method: 'POST',
  path: '/v1/rotation/renew',
  scope: 'admin',
  summary: 'Keep every machine’s last good backup',
  description:
    'Rules go by age: once backups fail, or a machine is gone, they would delete all there are. For every machine in the bucket, on ' +
    'a pool or not, the newest good backup is judged by the rules in force; what they delete within the margin ' +
    '(XVAULT_LAST_GOOD_DAYS) is copied out of rotation by the store, and earlier such copies go when a newer good backup lasts. ' +
    'The same happens after every job, at the start of a service and every six hours. With `dry_run` nothing is changed. Answers ' +
    'when all is done; what failed for one machine is in its entry.',
  body: z.strictObject({
    dry_run: z.boolean().default(false).meta({ description: 'Only look and tell.' }),
  }),
  answers: {
    200: {
      description: 'What was found and done, machine by machine.',
      schema: guardReportSchema,
      example: GUARD_EXAMPLE,
    },
    503: problemDoc('`draining`, or the store does not answer.'),
  },
  handle: async ({ deps, body }) =>
    jsonAnswer(200, await deps.service.renewLastGood({ dryRun: body.dry_run }, { signal: NEVER })),
});

export const GUARD_ROUTES: readonly AnyRoute[] = [renew];
