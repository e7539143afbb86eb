/** Machines and results: what is there, what is in it, and a link to fetch it. */
import { z } from 'zod';
import { retentionSchema } from '../../catalog/record.ts';
import { NEVER } from '../../signals.ts';
import { BACKUP_EXAMPLE, INDEX_JOB_EXAMPLE, VM_EXAMPLE } from '../examples.ts';
import { type Answer, type AnyRoute, type Call, defineRoute, jsonAnswer } from '../route.ts';
import { backupAnswerSchema, backupListSchema, vmListSchema } from '../schemas.ts';
import {
  AS_TEXT,
  backupTable,
  linesAnswer,
  listText,
  prefersText,
  vmTable,
} from '../text-views.ts';
import { backupView } from '../views.ts';
import {
  found,
  given,
  holdForJob,
  idOf,
  nameField,
  pageFields,
  pageInput,
  problemDoc,
  startDocs,
  startedAnswer,
  starterOf,
} from './common.ts';

const poolField = nameField.meta({ description: 'Only of this pool.' });
const retentionField = retentionSchema
  .optional()
  .meta({ description: 'Only of this retention class.' });

const listDoc = {
  description: 'A page of backups.',
  schema: backupListSchema,
  example: { backups: [BACKUP_EXAMPLE], next_page_token: '' },
};

const listVms = defineRoute({
  method: 'GET',
  path: '/v1/vms',
  scope: 'read',
  summary: 'List machines',
  description: `Every machine with its last good backup, its age, and why a selection skips it. ${AS_TEXT}`,
  query: z.strictObject({ pool: poolField }),
  conditional: true,
  answers: {
    200: { description: 'The machines.', schema: vmListSchema, example: { vms: [VM_EXAMPLE] } },
    503: problemDoc('A pool or the store does not answer.'),
  },
  handle: async (call) => {
    const { deps, query, signal } = call;
    const vms = await deps.service.listVms(given({ pool: query.pool }), { signal });
    if (!prefersText(call)) return jsonAnswer(200, { vms });
    const table = vmTable(vms, deps.clock.now());
    return linesAnswer(listText({ noun: 'machines', rows: vms.length, table }));
  },
});

const listBackupsOfVm = defineRoute({
  method: 'GET',
  path: '/v1/vms/{vm}/backups',
  scope: 'read',
  summary: 'List backups of one machine, newest first',
  description: AS_TEXT,
  params: { vm: 'uuid or name of the machine; it may no longer exist' },
  query: z.strictObject({ pool: poolField, retention: retentionField, ...pageFields }),
  conditional: true,
  answers: { 200: listDoc },
  handle: (call) => listBackups(call, { ...call.query, vm: call.param('vm') }),
});

const listAllBackups = defineRoute({
  method: 'GET',
  path: '/v1/backups',
  scope: 'read',
  summary: 'List backups, newest first',
  description: AS_TEXT,
  query: z.strictObject({
    vm: nameField.meta({ description: 'Only of this machine, by uuid or name.' }),
    pool: poolField,
    retention: retentionField,
    ...pageFields,
  }),
  conditional: true,
  answers: { 200: listDoc },
  handle: (call) => listBackups(call, call.query),
});

const getBackup = defineRoute({
  method: 'GET',
  path: '/v1/backups/{id}',
  scope: 'read',
  summary: 'Look at a backup',
  description: AS_TEXT,
  params: { id: 'id of the backup' },
  conditional: true,
  answers: {
    200: {
      description:
        'Sizes, disks, what was left out and why, bytes read, sent and copied, checksums.',
      schema: backupAnswerSchema,
      example: BACKUP_EXAMPLE,
    },
    304: { description: 'Unchanged since the ETag in If-None-Match.' },
    404: problemDoc('No such backup.'),
  },
  handle: async (call) => {
    const id = idOf(call, 'backup');
    const backup = await call.deps.service.getBackup(id, { signal: call.signal });
    const view = backupView(found(backup, 'backup', id));
    if (!prefersText(call)) return jsonAnswer(200, view);
    return linesAnswer(backupTable([view], call.deps.clock.now()));
  },
});

const makeIndex = defineRoute({
  method: 'POST',
  path: '/v1/backups/{id}/index',
  scope: 'backup',
  summary: 'Make the index of a backup anew',
  description:
    'Starts a job that reads the archive from the bucket, checks every block of it, and writes its index, should the one that is there ' +
    'be missing, damaged or of an older version: a later delta can copy from the backup then (docs/delta.md). The archive and what ' +
    'lies beside it are only read; of a damaged archive the job names disk and block and writes nothing. `Prefer: wait=N` and ' +
    '`Idempotency-Key` as for a backup.',
  params: { id: 'id of the backup' },
  body: z.strictObject({}),
  waits: true,
  answers: {
    ...startDocs(INDEX_JOB_EXAMPLE),
    404: problemDoc('No such backup.'),
    409: problemDoc('`job_conflict`: one is running for this backup already, see `links.job`.'),
    429: problemDoc('`limit_reached`: the queue is full.'),
    503: problemDoc('`draining`, or the store does not answer.'),
  },
  handle: async (call) => {
    const { deps } = call;
    const job = await deps.service.startIndex(
      { backupId: idOf(call, 'backup'), ...starterOf(call) },
      { signal: NEVER },
    );
    return startedAnswer(job);
  },
  hold: holdForJob,
});

interface ListQuery {
  vm?: string | undefined;
  pool?: string | undefined;
  retention?: string | undefined;
  page_size: number;
  page_token?: string | undefined;
}

async function listBackups(call: Call, query: ListQuery): Promise<Answer> {
  const { deps, signal } = call;
  const { vm, pool, retention } = query;
  const page = await deps.service.listBackups(
    { ...pageInput(query), ...given({ vm, pool, retention }) },
    { signal },
  );
  const backups = page.items.map(backupView);
  const { nextPageToken, unreadable } = page;
  if (prefersText(call)) {
    const table = backupTable(backups, deps.clock.now());
    const rows = backups.length;
    return linesAnswer(listText({ noun: 'backups', rows, table, unreadable, nextPageToken }));
  }
  return jsonAnswer(200, {
    backups,
    next_page_token: nextPageToken ?? '',
    ...given({ unreadable }),
  });
}

export const BACKUP_ROUTES: readonly AnyRoute[] = [
  listVms,
  listBackupsOfVm,
  listAllBackups,
  getBackup,
  makeIndex,
];
