/**
 * Records and archives as the commands get them: from an engine in this process, or from a running service.
 *
 * Of a service the archive comes by a link to the store; where that cannot be reached from here, through the service.
 */
import type { Service } from '../backup/service.ts';
import { BackupError, toBackupError } from '../errors.ts';
import { type BackupView, backupView } from '../http/views.ts';
import type { Cancellable } from '../ports.ts';
import type { Secret } from '../secret.ts';

export interface ArchiveInput {
  backupId: string;
  /** Of the record: other bytes are refused. */
  etag: string;
  offset: number;
}

/** The part of a client that fetches. */
export interface ArchiveClient {
  /** Errors: `not_found`. */
  getBackup(id: string, options: Cancellable): Promise<BackupView>;
  /**
   * The archive from `offset` to its end. Errors: `precondition_failed` when it is not the one with this ETag,
   * `service_unavailable` or the store's when the bytes stop coming.
   */
  readArchive(input: ArchiveInput, options: Cancellable): AsyncGenerator<Uint8Array>;
}

/** From an engine in this process. */
export function createDirectArchives(
  service: Pick<Service, 'getBackup' | 'openArchive'>,
): ArchiveClient {
  return {
    getBackup: async (id, options) => {
      const backup = await service.getBackup(id, options);
      if (backup === undefined) throw new BackupError('not_found', `find backup, id=${id}`);
      return backupView(backup);
    },
    readArchive: async function* ({ backupId, etag, offset }, options) {
      const view = await service.openArchive(backupId, options);
      if (view === undefined) throw new BackupError('not_found', `find backup, id=${backupId}`);
      if (bare(view.etag) !== bare(etag)) throw changed(backupId);
      yield* view.read({ offset, length: view.sizeBytes - offset }, options);
    },
  };
}

/** From a running service. `getJson`: its client's way to ask. */
export function createHttpArchives(
  { url, token }: { url: string; token?: Secret },
  deps: { fetch: typeof fetch; getJson: (path: string, options: Cancellable) => Promise<unknown> },
): ArchiveClient {
  const authorization = token && { authorization: `Bearer ${token.reveal()}` };
  const pathOf = (id: string) => `/v1/backups/${encodeURIComponent(id)}`;
  const open = async ({ backupId, etag, offset }: ArchiveInput, { signal }: Cancellable) => {
    const wish = { range: `bytes=${offset}-`, 'if-match': `"${bare(etag)}"` };
    const service = (query: string, headers: Record<string, string>) =>
      deps.fetch(`${url}${pathOf(backupId)}/xva${query}`, {
        headers: { ...authorization, ...headers },
        redirect: 'manual',
        signal,
      });
    const link = (await service('', {})).headers.get('location');
    // the token is of the service, not of the store
    const linked = link
      ? await deps.fetch(link, { headers: wish, signal }).catch(() => undefined)
      : undefined;
    if (linked?.ok || linked?.status === 412) return linked;
    await linked?.body?.cancel();
    signal.throwIfAborted();
    return await service('?direct=1', wish);
  };
  return {
    getBackup: async (id, options) => (await deps.getJson(pathOf(id), options)) as BackupView,
    readArchive: async function* (input, options) {
      try {
        const answer = await open(input, options);
        if (answer.status === 412) throw changed(input.backupId);
        if (answer.status === 404) {
          throw new BackupError('not_found', `find backup, id=${input.backupId}`);
        }
        if (answer.status !== 206 || answer.body === null) {
          throw new BackupError('service_unavailable', `fetch archive, status=${answer.status}`);
        }
        yield* answer.body as unknown as AsyncIterable<Uint8Array>;
      } catch (error) {
        options.signal.throwIfAborted();
        const { code } = toBackupError(error);
        if (code !== 'internal') throw error;
        throw new BackupError('service_unavailable', 'fetch archive: the connection ended', {
          cause: error,
        });
      }
    },
  };
}

function changed(id: string): BackupError {
  const text = `fetch archive of backup ${id}: it is not the one its record names`;
  return new BackupError('precondition_failed', text, { retry: 'never' });
}

/** Some stores quote an ETag in one answer and not in another. */
const bare = (etag: string) => etag.replaceAll('"', '');
