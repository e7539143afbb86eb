/** Pins: a backup out of the bucket's rotation, and back. */
import { z } from 'zod';
import { pinWishSchema } from '../../catalog/pin.ts';
import { NEVER } from '../../signals.ts';
import { PIN_JOB_EXAMPLE } from '../examples.ts';
import { type AnyRoute, defineRoute, jsonAnswer } from '../route.ts';
import {
  found,
  holdForJob,
  idOf,
  problemDoc,
  startDocs,
  startedAnswer,
  starterOf,
} from './common.ts';

const { shape } = pinWishSchema;

const pin = defineRoute({
  method: 'POST',
  path: '/v1/backups/{id}/pin',
  scope: 'backup',
  summary: 'Take a backup out of rotation',
  description:
    'Starts a job that has the store copy archive, index and record below `pinned/`, where no rule deletes; no byte comes through ' +
    'the service. It stays one backup, listed once, with `pinned`, and is restored, verified and copied from as before, also when the ' +
    'rules have deleted the original. Of a backup that is pinned already only reason and end are changed. `Prefer: wait=N` and ' +
    '`Idempotency-Key` as for a backup.',
  params: { id: 'id of the backup' },
  body: pinWishSchema.extend({
    reason: shape.reason.meta({
      description: 'Kept and shown with it.',
      example: 'before the upgrade',
    }),
    until: shape.until.meta({
      description: 'When it ends by itself, once there is a newer good backup; never unless told.',
      example: '2027-11-23T00:00:00Z',
    }),
  }),
  waits: true,
  answers: {
    ...startDocs(PIN_JOB_EXAMPLE),
    404: problemDoc('No such backup.'),
    409: problemDoc('`job_conflict`: a job about this backup is running already, see `links.job`.'),
    429: problemDoc('`limit_reached`: the queue is full.'),
    503: problemDoc('`draining`, or the store does not answer.'),
  },
  handle: async (call) => {
    const { deps, body: wish } = call;
    const job = await deps.service.startPin(
      { backupId: idOf(call, 'backup'), wish, ...starterOf(call) },
      { signal: NEVER },
    );
    return startedAnswer(job);
  },
  hold: holdForJob,
});

const unpin = defineRoute({
  method: 'DELETE',
  path: '/v1/backups/{id}/pin',
  scope: 'backup',
  summary: 'Put a backup back into rotation',
  description:
    'Removes the copy below `pinned/`; what lies in rotation is never deleted by xvault. Of the last good backup of its machine ' +
    'whose original is gone or about to go the copy stays (`kept`) until this is asked once more (`released`).',
  params: { id: 'id of the backup' },
  answers: {
    200: {
      description: 'What became of it.',
      schema: z
        .object({
          backup_id: z.string(),
          outcome: z.enum(['in_rotation', 'removed', 'kept', 'released']).meta({
            description:
              'in_rotation: only the original is left. removed: it was a copy without original, and not the last good backup. ' +
              'kept: it is the last good backup of its machine, and the guard has it now. released: nobody keeps it any more.',
          }),
        })
        .meta({ id: 'Unpinned' }),
      example: { backup_id: '01988a52-9b1e-7c44-8d20-6f1e2d3c4b5a', outcome: 'in_rotation' },
    },
    404: problemDoc('No such backup.'),
    409: problemDoc('`job_conflict`: a job about this backup is running.'),
    503: problemDoc('The store does not answer.'),
  },
  handle: async (call) => {
    const backupId = idOf(call, 'backup');
    const by = call.identity?.name ?? 'nobody';
    const outcome = await call.deps.service.unpin({ backupId, by }, { signal: NEVER });
    return jsonAnswer(200, { backup_id: backupId, outcome: found(outcome, 'backup', backupId) });
  },
});

export const PIN_ROUTES: readonly AnyRoute[] = [pin, unpin];
