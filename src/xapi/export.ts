/**
 * One running export: read, settle, clean up.
 *
 * What is known about the protocol decides the shape. Status 200 proves nothing: the archive's own end and the task's `success`
 * together do. Silence is normal for minutes over empty disks: only when neither bytes come nor the
 * task moves is the export given up, and then the task is cancelled, or dom0 would go on working.
 * Source: xen-api ocaml/xapi/export.ml, xapi_task.ml. How it begins is in transfer.ts.
 */
import { BackupError } from '../errors.ts';
import type { Cancellable, ExportStream, VmRef } from '../ports.ts';
import { EXPORT } from './direction.ts';
import { translateExport } from './errors.ts';
import { awaitTask, dropTask, readTask, type TaskDeps } from './task.ts';
import type { OpenTransfer, Transfer } from './transfer.ts';
import { readSrsOf } from './transfer-place.ts';

/** The task may end a moment after the connection: unlocking and logging out come first. */
const SETTLE_MS = 2 * 60_000;

export type OpenExport = (
  input: { snapshot: VmRef; label: string; description?: string },
  options: Cancellable,
) => Promise<ExportStream>;

/** Opens exports of one pool. */
export function createExports(deps: TaskDeps, openTransfer: OpenTransfer): OpenExport {
  return async ({ snapshot, label, description }, options) => {
    const srs = await readSrsOf(deps.session, snapshot, options);
    const path = `/export?ref=${snapshot}`;
    try {
      const input = { direction: EXPORT, srs, path, label, description };
      return createStream(deps, await openTransfer(input, options));
    } catch (error) {
      throw translateExport(error, 'start export');
    }
  };
}

function createStream(deps: TaskDeps, opened: Transfer): ExportStream {
  const { receiver, watch, task, host, release } = opened;
  let ended = false;
  let settled = false;
  let disposed = false;
  return {
    host,
    get taskProgress() {
      return watch.progress;
    },
    fill: async (target, options) => {
      const filledBytes = await receiver.fill(target, options);
      if (filledBytes < target.length && !ended) {
        ended = true;
        watch.stop();
        const reset = receiver.reset === undefined ? {} : { reset: receiver.reset.message };
        deps.log.info('export ended', { received_bytes: receiver.movedBytes, task, ...reset });
      }
      return filledBytes;
    },
    settle: async (options) => {
      if (!ended) throw new BackupError('internal', 'settle export: its end was not read');
      await settleTask(deps, task, options);
      settled = true;
      await dropTask(deps, { task, over: true });
    },
    [Symbol.asyncDispose]: async () => {
      if (disposed) return;
      disposed = true;
      release();
      watch.stop();
      receiver.destroy();
      if (!settled) await dropTask(deps, { task, over: false });
    },
  };
}

/** Resolves only when the pool itself says that the export succeeded. */
async function settleTask(deps: TaskDeps, task: string, options: Cancellable): Promise<void> {
  const state = await awaitTask(deps, { task, limitMs: SETTLE_MS }, options).catch((error) => {
    throw translateExport(deps.redactor.error(error), 'settle export');
  });
  if (state?.status === 'success') return;
  if (state?.error !== undefined) throw translateExport(state.error, 'export machine');
  const stuck = state === undefined && (await readTask(deps, task, options)) !== undefined;
  throw new BackupError(
    'source_failed',
    stuck
      ? 'settle export: its task does not end'
      : 'settle export: its task is gone, so its success is unknown; was the toolstack restarted?',
    { details: { task_status: stuck ? 'pending' : (state?.status ?? 'gone') } },
  );
}
