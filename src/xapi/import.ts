/**
 * One running import: write, settle, clean up; of a machine's archive (`/import`) or of one disk's raw bytes (`/import_raw_vdi`).
 *
 * The host answers 200 before it reads: that says nothing. It makes machine and disks from ova.xml, reads the blocks, and closes as
 * soon as it has the last one; what we still send then ends in a reset, though all went well. When something fails it removes
 * what it made, sets the task to failure and closes. So a closed connection means "ask the task", and an import that is given up
 * is over only when its task is. After the last byte the host may have minutes of work in its buffers (a few MiB of zstd
 * are gigabytes of a disk), so the end is awaited as long as the task moves.
 * Source: xen-api ocaml/xapi/import.ml, stream_vdi.ml, import_raw_vdi.ml. How it begins is in transfer.ts.
 */
import { BackupError } from '../errors.ts';
import type { ImportLabel, ImportStream, OpenImportInput } from '../imports.ts';
import type { Cancellable, VdiRef, VmRef } from '../ports.ts';
import { IMPORT } from './direction.ts';
import { ref, toRecord } from './fields.ts';
import { translateImport } from './import-errors.ts';
import { abandonImport } from './import-remains.ts';
import { findXapiError } from './response-head.ts';
import { createSender, type Sender } from './sender.ts';
import { awaitMoving, dropTask, resultRefs, type TaskDeps, type TaskState } from './task.ts';
import type { OpenTransfer, Transfer, TransferSettings } from './transfer.ts';

export interface ImportDeps extends TaskDeps {
  openTransfer: OpenTransfer;
  settings: Pick<TransferSettings, 'firstByteTimeoutMs' | 'stallTimeoutMs'>;
}

/** Starts the import of an archive. */
export async function openImport(
  deps: ImportDeps,
  input: OpenImportInput,
  options: Cancellable,
): Promise<ImportStream<VmRef[]>> {
  const { sr, keepIdentity } = input;
  const path = `/import?sr_id=${sr}${keepIdentity ? '&restore=true' : ''}`;
  const made = { toResult: machinesOf, abandon: abandonImport };
  return await open(deps, { ...input, srs: [sr], path, ...made }, options);
}

/** Starts the import of raw bytes into a disk. */
export async function openDiskImport(
  deps: ImportDeps,
  input: ImportLabel & { vdi: VdiRef; sizeBytes: number },
  options: Cancellable,
): Promise<ImportStream<void>> {
  const vdi = toRecord(await deps.session.call('VDI.get_record', [input.vdi], options));
  const srs = [ref(vdi, 'SR')].filter((sr) => sr !== undefined);
  const path = `/import_raw_vdi?vdi=${input.vdi}&format=raw`;
  const made = { toResult: () => undefined, abandon: abandonDisk };
  return await open(deps, { ...input, srs, path, ...made }, options);
}

/** The disk was there before; it is whoever's made it. */
async function abandonDisk(deps: ImportDeps, input: Abandoned): Promise<void> {
  await dropTask(deps, { task: input.task, over: input.end !== undefined });
}

/** The machines a finished import made. */
export function machinesOf(result: string): VmRef[] {
  return resultRefs(result) as VmRef[];
}

interface OpenInput<Result> extends ImportLabel {
  srs: readonly string[];
  path: string;
  sizeBytes: number;
  toResult(result: string): Result;
  abandon(deps: ImportDeps, input: Abandoned): Promise<void>;
}

interface Abandoned {
  task: string;
  /** Its success, if it was seen. */
  end: TaskState | undefined;
}

async function open<Result>(
  deps: ImportDeps,
  input: OpenInput<Result>,
  options: Cancellable,
): Promise<ImportStream<Result>> {
  try {
    const { srs, path, sizeBytes, label, description, onTask } = input;
    const transfer = { direction: IMPORT, srs, path, sizeBytes, label, description, onTask };
    return createStream(deps, input, await deps.openTransfer(transfer, options));
  } catch (error) {
    throw translateImport(error, 'start import');
  }
}

function createStream<Result>(
  deps: ImportDeps,
  { sizeBytes, toResult, abandon }: OpenInput<Result>,
  opened: Transfer,
): ImportStream<Result> {
  const { watch, task, host, release } = opened;
  const sender = createSender(opened);
  watch.follow(sender);
  let takenBytes = 0;
  let over: TaskState | undefined;
  let progress = 0;
  let settled = false;
  let disposed = false;
  const end = async (options: Cancellable) => {
    watch.stop();
    const onProgress = (now: number) => {
      progress = now;
    };
    over ??= await endOf(deps, { task, sender, onProgress }, options);
    return over;
  };
  return {
    host,
    task,
    get sentBytes() {
      return sender.movedBytes;
    },
    get taskProgress() {
      return over === undefined ? Math.max(progress, watch.progress) : 1;
    },
    write: async (bytes, options) => {
      takenBytes += bytes.length;
      if (takenBytes > sizeBytes) {
        throw new BackupError('internal', 'send import: more bytes than were promised');
      }
      if (over === undefined && !(await sender.write(bytes, options))) await end(options);
    },
    settle: async (options) => {
      if (takenBytes !== sizeBytes) {
        throw new BackupError('internal', 'settle import: fewer bytes than were promised');
      }
      const { result } = await end(options);
      settled = true;
      deps.log.info('import ended', { sent_bytes: sender.movedBytes, task });
      await dropTask(deps, { task, over: true });
      return toResult(result);
    },
    [Symbol.asyncDispose]: async () => {
      if (disposed) return;
      disposed = true;
      release();
      watch.stop();
      sender.destroy();
      if (!settled) await abandon(deps, { task, end: over });
    },
  };
}

/** Resolves with the task's success; everything else is thrown. */
async function endOf(
  deps: ImportDeps,
  input: { task: string; sender: Sender; onProgress(progress: number): void },
  options: Cancellable,
): Promise<TaskState> {
  const { task, sender, onProgress } = input;
  const { firstByteTimeoutMs: beginMs, stallTimeoutMs: stallMs } = deps.settings;
  const state = await awaitMoving(deps, { task, beginMs, stallMs, onProgress }, options).catch(
    (error) => {
      throw translateImport(deps.redactor.error(error), 'settle import');
    },
  );
  return successOf(state, deps.redactor.error(findXapiError(sender.said)));
}

/** The state of a task that succeeded. `said` is what the host wrote besides. Errors: as the task has it. */
export function successOf(state: TaskState | undefined, said?: unknown): TaskState {
  if (state?.status === 'success') return state;
  const error = state?.error ?? said;
  if (error !== undefined) throw translateImport(error, 'import machine');
  throw new BackupError(
    'target_failed',
    state?.status === 'pending'
      ? 'settle import: its task does not move any more'
      : 'settle import: its task is gone, so its success is unknown; was the toolstack restarted?',
    { details: { task_status: state?.status ?? 'gone' } },
  );
}
