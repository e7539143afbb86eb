/**
 * One running export: request, watch, read, settle, clean up.
 *
 * What is known about the protocol decides the shape. Status 200 proves nothing: the archive's own end and the task's `success`
 * together do. No answer at all is a normal way to refuse; the task then holds the reason. A task of our own is always given,
 * since the server destroys its own at once. Its progress is set to -1 first (as `xe` does): a task still at -1 was never taken by the
 * handler and would stay pending for ever. Silence is normal for minutes over empty disks: only when neither bytes come nor the
 * task moves is the export given up, and then the task is cancelled, or dom0 would go on working.
 * Source: xen-api ocaml/xapi/export.ml, xapi_task.ml, taskHelper.ml.
 */
import { BackupError, isBackupError } from '../errors.ts';
import type { Cancellable, ExportStream, Meter, VmRef } from '../ports.ts';
import { double } from './codec.ts';
import { isXapiError, translateExport } from './errors.ts';
import { findPlace } from './export-place.ts';
import { type ExportRequestDeps, type ExportResponse, requestExport } from './export-request.ts';
import type { Host } from './facts.ts';
import { formatAuthority, type Origin, withAddress } from './origin.ts';
import type { Live } from './session.ts';
import { awaitTask, dropTask, readTask, startTask, type TaskDeps } from './task.ts';
import type { TrustBook } from './trust.ts';
import { createWatch, type Watch } from './watch.ts';

/** The task may end a moment after the connection: unlocking and logging out come first. */
const SETTLE_MS = 2 * 60_000;
/** A task nobody took has no reason to tell later. */
const REASON_MS = 5_000;

export interface ExportSettings {
  connectTimeoutMs: number;
  /** Until the first byte: the host waits up to 2 min for a lock, then attaches the disks. */
  firstByteTimeoutMs: number;
  stallTimeoutMs: number;
  taskPollMs: number;
}

export interface ExportDeps extends TaskDeps {
  trust: TrustBook;
  meter: Meter;
  isConfigured(address: string): boolean;
  learnCertificate(host: Host, options: { signal: AbortSignal }): Promise<void>;
}

export type OpenExport = (
  input: { snapshot: VmRef; label: string; description?: string },
  options: Cancellable,
) => Promise<ExportStream>;

/** Opens exports of one pool. */
export function createExports(settings: ExportSettings, deps: ExportDeps): OpenExport {
  /** Exports of ours by host: a host's dom0 is the bottleneck, so they are spread. */
  const running = new Map<string, number>();
  const change = (host: Host, by: number) =>
    running.set(host.ref, (running.get(host.ref) ?? 0) + by);
  return async (input, options) => {
    const load = (host: Host) => running.get(host.ref) ?? 0;
    const place = await findPlace(deps.session, { ...input, load }, options);
    const [chosen] = place.able;
    const attempt = async () => {
      const live = await deps.session.open(options);
      return await start(settings, deps, { ...input, hosts: place.hosts, chosen, live }, options);
    };
    if (chosen !== undefined) change(chosen, 1);
    try {
      const opened = await attempt().catch(async (error) => {
        if (!isBackupError(error) || error.details.http_status !== 401) throw error;
        return await attempt(); // `start` has forgotten the session: this one is new
      });
      return createStream(deps, opened, () => {
        if (chosen !== undefined) change(chosen, -1);
      });
    } catch (error) {
      if (chosen !== undefined) change(chosen, -1);
      throw translateExport(deps.redactor.error(error), 'start export');
    }
  };
}

interface StartInput {
  snapshot: VmRef;
  label: string;
  description?: string;
  hosts: readonly Host[];
  chosen: Host | undefined;
  live: Live;
}

interface Opened extends ExportResponse {
  task: string;
  watch: Watch;
  host: Host | undefined;
}

async function start(
  settings: ExportSettings,
  deps: ExportDeps,
  input: StartInput,
  options: Cancellable,
): Promise<Opened> {
  const { snapshot, hosts, chosen, live } = input;
  const task = await createTask(deps, input, options);
  const watch = createWatch(settings, deps, task);
  // No host can, as far as the records tell: the master is asked, and says why not.
  const origin: Origin =
    chosen === undefined ? live.origin : withAddress(live.origin, chosen.address);
  const path = `/export?ref=${snapshot}&task_id=${task}`;
  try {
    const request = { origin, path, sessionRef: live.ref };
    const requestDeps = toRequestDeps(settings, deps, { hosts, watch });
    const response = await requestExport(request, requestDeps, options);
    if (response === undefined) throw await reasonOf(deps, task, options);
    const host = hosts.find((one) => one.address === response.origin.hostname);
    deps.log.info('export started', { address: formatAuthority(response.origin), task });
    return { ...response, task, watch, host };
  } catch (error) {
    if (isBackupError(error) && error.details.http_status === 401) deps.session.forget(live);
    watch.stop();
    await dropTask(deps, { task, over: false });
    throw error;
  }
}

function toRequestDeps(
  settings: ExportSettings,
  deps: ExportDeps,
  { hosts, watch }: { hosts: readonly Host[]; watch: Watch },
): ExportRequestDeps {
  const memberAt = (address: string) => hosts.find((host) => host.address === address);
  return {
    trust: deps.trust,
    connectTimeoutMs: settings.connectTimeoutMs,
    isMember: (address) => memberAt(address) !== undefined || deps.isConfigured(address),
    learnCertificate: async (address, options) => {
      const member = memberAt(address);
      if (member !== undefined) await deps.learnCertificate(member, options);
    },
    onReceiver: watch.follow,
  };
}

async function createTask(
  deps: TaskDeps,
  { label, description = '' }: { label: string; description?: string },
  options: Cancellable,
): Promise<string> {
  const params = [label, description];
  const task = await startTask(deps, { method: 'task.create', params }, options);
  try {
    await deps.session.call('task.set_progress', [task, double(-1)], options);
  } catch (error) {
    // A host that does not know the call only makes a refused export harder to tell from a slow one.
    if (!isXapiError(error)) {
      await dropTask(deps, { task, over: true });
      throw error;
    }
  }
  return task;
}

/** The connection was closed without an answer: only the task knows why. */
async function reasonOf(deps: TaskDeps, task: string, options: Cancellable): Promise<Error> {
  const state =
    (await awaitTask(deps, { task, limitMs: REASON_MS }, options)) ??
    (await readTask(deps, task, options));
  if (state?.error !== undefined) return state.error;
  const taken = state !== undefined && state.progress >= 0;
  const message = taken
    ? 'start export: the host closed the connection silently'
    : 'start export: the host closed the connection before it took the request';
  return new BackupError('source_failed', message, {
    details: { task_status: state?.status ?? 'gone' },
  });
}

function createStream(deps: ExportDeps, opened: Opened, onEnd: () => void): ExportStream {
  const { receiver, watch, task, host, origin } = opened;
  let ended = false;
  let settled = false;
  let disposed = false;
  return {
    host: {
      address: host?.address ?? origin.hostname,
      xapiVersion: host?.xapiVersion ?? '',
      productVersion: host?.productVersion ?? '',
    },
    get taskProgress() {
      return watch.progress;
    },
    fill: async (target, options) => {
      const filledBytes = await receiver.fill(target, options);
      if (filledBytes < target.length && !ended) {
        ended = true;
        watch.stop();
        const reset = receiver.reset === undefined ? {} : { reset: receiver.reset.message };
        deps.log.info('export ended', { received_bytes: receiver.receivedBytes, task, ...reset });
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
      onEnd();
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
