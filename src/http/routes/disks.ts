/** What is in a backup, byte by byte: the archive, and its disks as raw images. */
import { z } from 'zod';
import { BackupError } from '../../errors.ts';
import { bytesAnswer } from '../bytes.ts';
import { type AnswerDoc, type AnyRoute, type Call, defineRoute } from '../route.ts';
import { found, idOf, problemDoc } from './common.ts';

const bytesDoc = (description: string): AnswerDoc => ({
  description,
  contentType: 'application/octet-stream',
  schema: z.string().meta({ format: 'binary' }),
  headers: {
    ETag: 'Strong: the bytes never change under it.',
    'Accept-Ranges': '`bytes`.',
    'Content-Length': 'Always.',
  },
});

const RANGE_DOCS: Record<number, AnswerDoc> = {
  206: {
    ...bytesDoc('The range.'),
    headers: { 'Content-Range': 'Which bytes of how many.', ETag: 'As with 200.' },
  },
  304: { description: 'It has the ETag in If-None-Match.' },
  404: problemDoc('No such backup, or no such disk in it: `details.disks` has those there are.'),
  412: problemDoc('It does not have the ETag in If-Match.'),
  416: problemDoc('The range begins behind the end, see Content-Range.'),
  429: problemDoc('`limit_reached`: too many read at once.'),
  502: problemDoc('`data_corrupt`: a block is not the one that was stored; `store_refused`.'),
  503: problemDoc('The store does not answer.'),
};

const RANGES =
  'One `Range`, `If-Range`, `If-Match` and `If-None-Match` are honoured; several ranges at once get the whole, with 200. ' +
  'A token is also taken as the password of Basic, for programs that send no other header.';

const getArchive = defineRoute({
  method: 'GET',
  path: '/v1/backups/{id}/xva',
  scope: 'read',
  summary: 'Fetch the archive',
  description:
    'Redirects to a link at the store that needs no credentials, for a limited time: `curl -fL -OJ`. The store answers ranges. ' +
    'The link itself only knows GET. With `direct=1` the bytes come through this service, for networks that do not reach ' +
    `the store. ${RANGES}`,
  params: { id: 'id of the backup' },
  basic: true,
  session: true,
  query: z.strictObject({
    direct: z
      .enum(['0', '1'])
      .optional()
      .meta({ description: '`1`: no redirect, the bytes come through this service.' }),
  }),
  answers: {
    200: bytesDoc('With `direct=1`: the archive.'),
    307: { description: 'The link.', headers: { Location: 'At the store.' } },
    ...RANGE_DOCS,
  },
  handle: async (call) => {
    const { deps, settings, signal, query } = call;
    const id = idOf(call, 'backup');
    if (query.direct === '1') {
      return await bytesAnswer(
        call,
        found(await deps.service.openArchive(id, { signal }), 'backup', id),
      );
    }
    const link = await deps.service.archiveLink(
      id,
      { expiresSeconds: settings.linkSeconds },
      { signal },
    );
    return { status: 307, headers: { location: found(link, 'backup', id) }, body: null };
  },
});

const getDisk = defineRoute({
  method: 'GET',
  path: '/v1/backups/{id}/disks/{n}',
  scope: 'read',
  summary: 'Read a disk without a restore',
  description:
    'The disk as a raw image, as qemu, nbdkit and libguestfs read it over HTTP (docs/one-file.md): every block is checked ' +
    'before a byte of it is sent, what is not stored reads as zeros. Should a block be damaged, the connection ends before ' +
    `its first byte. ${RANGES}`,
  params: { id: 'id of the backup', n: '`index` of the disk in the backup, from 0' },
  basic: true,
  answers: { 200: bytesDoc('The disk, whole.'), ...RANGE_DOCS },
  handle: async (call) => {
    const { deps, signal } = call;
    const id = idOf(call, 'backup');
    const input = { backupId: id, disk: numberOf(call) };
    return await bytesAnswer(
      call,
      found(await deps.service.openDisk(input, { signal }), 'backup', id),
    );
  },
});

/** Errors: `not_found` for what is no number. */
function numberOf(call: Call): number {
  const text = call.param('n');
  if (/^\d{1,4}$/.test(text)) return Number(text);
  throw new BackupError('not_found', `find disk ${text.slice(0, 100)}: disks are counted from 0`);
}

export const DISK_ROUTES: readonly AnyRoute[] = [getArchive, getDisk];
