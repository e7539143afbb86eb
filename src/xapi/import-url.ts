/**
 * `VM.import`: the host that holds the SR reads the archive from a link itself; no byte passes here.
 *
 * The link goes to the host in a call, which xapi keeps out of its audit log; here it is kept out of everything. The host
 * follows few redirects, wants status 200 and a body without chunks, and trusts whatever its pool trusts. Whether it could read
 * the link is seen by `object_creation=complete`, which the task carries from the moment on when ova.xml was read and
 * understood. The call needs the role pool-operator. Nothing can be edited on the way, so the machine gets its mark afterwards;
 * until then `import_task` in its other_config leads to the task. Source: xen-api ocaml/xapi/xapi_vm.ml (import_inner), import.ml.
 */
import { BackupError, isBackupError } from '../errors.ts';
import type { ImportUrlInput } from '../imports.ts';
import type { Cancellable, VmRef } from '../ports.ts';
import { text, textMap } from './fields.ts';
import { type ImportDeps, machinesOf, successOf } from './import.ts';
import { translateImport } from './import-errors.ts';
import { abandonImport } from './import-remains.ts';
import { readIfThere } from './snapshot.ts';
import { awaitMoving, dropTask, startTask } from './task.ts';

export type UrlOptions = Cancellable & { onProgress?(progress: number): void };

/** Imports from a link, as in imports.ts. */
export async function importFromUrl(
  deps: ImportDeps,
  input: ImportUrlInput,
  options: UrlOptions,
): Promise<VmRef[]> {
  hide(deps, input.url);
  const params = [input.url, input.sr, input.keepIdentity, false];
  const start = { method: 'Async.VM.import', params };
  const task = await startTask(deps, start, options).catch((error) => {
    throw translateImport(error, 'start import by link');
  });
  let settled = false;
  try {
    await input.onTask?.(task);
    const { firstByteTimeoutMs: beginMs, stallTimeoutMs: stallMs } = deps.settings;
    const { onProgress } = options;
    const moving = { task, beginMs, stallMs, ...(onProgress && { onProgress }) };
    const state = await awaitMoving(deps, moving, options);
    const machines = machinesOf(successOf(state).result);
    settled = true;
    return machines;
  } catch (error) {
    options.signal.throwIfAborted();
    if (!isBackupError(error, 'target_failed')) throw error;
    throw await withFetch(deps, { task, error }, options);
  } finally {
    await (settled ? dropTask(deps, { task, over: true }) : abandonImport(deps, { task }));
  }
}

/** The signature is what gives access; hosts quote URLs whole or in pieces. */
function hide({ redactor }: ImportDeps, url: string): void {
  redactor.add(url);
  const { search = '' } = URL.parse(url) ?? {};
  redactor.add(search.slice(1));
}

/** The same failure, saying whether it was the link that could not be read. */
async function withFetch(
  deps: ImportDeps,
  { task, error }: { task: string; error: BackupError },
  options: Cancellable,
): Promise<BackupError> {
  const record = await readIfThere(deps.session.call('task.get_record', [task], options));
  const made = record !== undefined && textMap(record, 'other_config').object_creation;
  if (record === undefined || made === 'complete') return error;
  const said = text(record, 'status') === 'failure' ? '; it has to reach the store itself' : '';
  return new BackupError(
    'target_failed',
    `${error.message}; the host did not read the link${said}`,
    {
      details: { ...error.details, fetch: true },
      cause: error,
      retry: error.retry,
    },
  );
}
