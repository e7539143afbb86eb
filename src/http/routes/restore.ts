/** Bringing a backup back. */
import { restoreRequestSchema } from '../../catalog/restore.ts';
import { NEVER } from '../../signals.ts';
import { RESTORE_JOB_EXAMPLE } from '../examples.ts';
import { type AnyRoute, defineRoute } from '../route.ts';
import { holdForJob, idOf, problemDoc, startDocs, startedAnswer, starterOf } from './common.ts';

const { shape } = restoreRequestSchema;
/** The request as stored in jobs, with a sentence for each field. */
const restoreBody = restoreRequestSchema.safeExtend({
  pool: shape.pool.meta({ description: 'Where to; the pool it came from unless told.' }),
  sr: shape.sr.meta({
    description: 'Storage for the disks, by uuid or unique name; the pool’s default unless told.',
    example: 'NFS store',
  }),
  disk_srs: shape.disk_srs.meta({
    description: 'Disk → storage, for disks that go elsewhere. Disks by userdevice, uuid or name.',
    example: { '1': 'iSCSI store' },
  }),
  name: shape.name.meta({
    description:
      'Of the new machine; the old one’s unless told, with the backup’s date where that is taken.',
  }),
  mac: shape.mac.meta({
    description:
      '`new`: the pool makes new addresses. `keep`: those of the backup, also beside the living original.',
  }),
  uuid: shape.uuid.meta({
    description:
      '`keep` brings the machine itself back, uuid and addresses; refused while a machine of the uuid is there.',
  }),
  networks: shape.networks.meta({
    description:
      'Network of the backup → network here, each by uuid or name; `none` leaves its interfaces out, `*` stands for all others. Not needed where ' +
      'the same network is here, or the only one of a name somebody chose.',
    example: { 'Pool-wide network associated with eth0': 'VM network' },
  }),
  disks: shape.disks.meta({ description: 'Only these disks, each by userdevice, uuid or name.' }),
  disk: shape.disk.meta({ description: 'This disk alone, without a machine: a new disk.' }),
  start: shape.start.meta({ description: 'Start it when it is there.' }),
  via: shape.via.meta({
    description:
      '`stream`: through this service, every block checked. `url`: the host reads the archive from a link by itself. `auto`: by link where ' +
      'nothing must be edited and the host can reach the bucket.',
  }),
  dry_run: shape.dry_run.meta({ description: 'Only say what would be done (`restore_plan`).' }),
});

const restoreBackup = defineRoute({
  method: 'POST',
  path: '/v1/backups/{id}/restore',
  scope: 'restore',
  summary: 'Restore a backup',
  description:
    'Starts a job that makes a new, halted machine out of a backup (docs/restore.md). Nothing that is there is replaced, and nothing is guessed: ' +
    'a network that is not known here is asked for, with the choices. A job that fails or is cancelled leaves nothing on the pool. ' +
    '`Prefer: wait=N` and `Idempotency-Key` as for a backup.',
  params: { id: 'id of the backup' },
  body: restoreBody,
  waits: true,
  answers: {
    ...startDocs(RESTORE_JOB_EXAMPLE),
    404: problemDoc('No such backup, or no such pool.'),
    409: problemDoc(
      '`restore_refused`: see `details.reason`, and `details.choices` for what could be said instead. `job_conflict`: it is being restored already.',
    ),
    422: problemDoc('Wrong field, a disk or network the backup does not have.'),
    429: problemDoc('`limit_reached`: the queue is full.'),
    503: problemDoc('`draining`, or the pool or the store does not answer.'),
  },
  handle: async (call) => {
    const { deps, body } = call;
    const job = await deps.service.startRestore(
      {
        backupId: idOf(call, 'backup'),
        request: body,
        ...starterOf(call),
      },
      { signal: NEVER },
    );
    return startedAnswer(job);
  },
  hold: holdForJob,
});

export const RESTORE_ROUTES: readonly AnyRoute[] = [restoreBackup];
