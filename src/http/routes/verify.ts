/** Looking at a backup again: is it still what was stored? */
import { z } from 'zod';
import { restoreTestWishSchema } from '../../catalog/verified.ts';
import { NEVER } from '../../signals.ts';
import { RESTORE_TEST_JOB_EXAMPLE, VERIFY_JOB_EXAMPLE } from '../examples.ts';
import { type AnyRoute, defineRoute } from '../route.ts';
import { holdForJob, idOf, problemDoc, startDocs, startedAnswer, starterOf } from './common.ts';

/** More than 0, at most 100, decimals allowed. */
const percentField = z
  .string()
  .regex(/^\d{1,3}(\.\d{1,6})?$/, 'a number above 0, at most 100')
  .transform(Number)
  .refine((percent) => percent > 0 && percent <= 100, 'a number above 0, at most 100')
  .optional()
  .meta({ description: 'Share of the blocks, drawn at random; all unless told.', example: '5' });

const verifyBackup = defineRoute({
  method: 'POST',
  path: '/v1/backups/{id}/verify',
  scope: 'backup',
  summary: 'Verify a backup',
  description:
    'Starts a job that reads the archive from the bucket and checks it: every block against its checksum, the structure, all blocks ' +
    'together against the record, the size and the checksum of the store, and the index. With `percent` only the beginning, the end and ' +
    'so many of the blocks, drawn at random. What was found is kept with the backup (`verified`) and told by `/v1/status`. Damage fails ' +
    'the job; its problem names object, disk and block. `Prefer: wait=N` and `Idempotency-Key` as for a backup.',
  params: { id: 'id of the backup' },
  query: z.strictObject({ percent: percentField }),
  body: z.strictObject({}),
  waits: true,
  answers: {
    ...startDocs(VERIFY_JOB_EXAMPLE),
    404: problemDoc('No such backup.'),
    409: problemDoc('`job_conflict`: a job about this backup is running already, see `links.job`.'),
    429: problemDoc('`limit_reached`: the queue is full.'),
    503: problemDoc('`draining`, or the store does not answer.'),
  },
  handle: async (call) => {
    const { deps, query } = call;
    const job = await deps.service.startVerify(
      {
        backupId: idOf(call, 'backup'),
        wish: { percent: query.percent ?? 100 },
        ...starterOf(call),
      },
      { signal: NEVER },
    );
    return startedAnswer(job);
  },
  hold: holdForJob,
});

const { shape } = restoreTestWishSchema;

const testRestore = defineRoute({
  method: 'POST',
  path: '/v1/backups/{id}/restore-test',
  scope: 'restore',
  summary: 'Try a backup out',
  description:
    'Starts a job that restores the backup under another name and without any network, starts the machine, waits until the tools in its ' +
    'guest report and, with `verdict`, until who is named there has judged it, and removes all of it again, however it went. What was found is kept with the backup (`verified`, kind `restored`) and ' +
    'told by `/v1/status`. `Prefer: wait=N` and `Idempotency-Key` as for a backup.',
  params: { id: 'id of the backup' },
  body: restoreTestWishSchema.extend({
    pool: shape.pool.meta({ description: 'Where; the pool it came from unless told.' }),
    sr: shape.sr.meta({ description: 'Storage, by uuid or name; the pool’s default unless told.' }),
    boot_timeout_seconds: shape.boot_timeout_seconds.meta({
      description: 'How long the guest may take to report, and be judged, 10 to 3600.',
    }),
    verdict: shape.verdict.meta({
      description:
        'URL that is asked, signed, whether the running machine is good; the settings must allow it (docs/verify.md).',
    }),
    guest: shape.guest.meta({
      description: 'false: the guest tools are not waited for; only with `verdict`.',
    }),
  }),
  waits: true,
  answers: {
    ...startDocs(RESTORE_TEST_JOB_EXAMPLE),
    404: problemDoc('No such backup, or no such pool.'),
    409: problemDoc('`restore_refused`, `job_conflict`: as for a restore.'),
    422: problemDoc('Wrong field, a verdict that is not allowed; `vm_not_supported`: no disks.'),
    429: problemDoc('`limit_reached`: the queue is full.'),
    503: problemDoc('`draining`, or the pool or the store does not answer.'),
  },
  handle: async (call) => {
    const { deps, body } = call;
    const job = await deps.service.startRestoreTest(
      {
        backupId: idOf(call, 'backup'),
        wish: body,
        ...starterOf(call),
      },
      { signal: NEVER },
    );
    return startedAnswer(job);
  },
  hold: holdForJob,
});

export const VERIFY_ROUTES: readonly AnyRoute[] = [verifyBackup, testRestore];
