/**
 * What exports and imports have in common: a request to the right host, under a task of our own, watched from its start.
 *
 * A task of our own is always given, since the server destroys its own at once. Its progress is set to -1 first (as `xe`
 * does): a task still at -1 was never taken by the handler and would stay pending for ever. No answer at all is a normal
 * way to refuse; the task then holds the reason. Source: xen-api ocaml/xapi/xapi_task.ml, taskHelper.ml, ocaml/xe-cli.
 */
import { BackupError, isBackupError } from '../errors.ts';
import type { Cancellable, Meter } from '../ports.ts';
import { double } from './codec.ts';
import type { Direction } from './direction.ts';
import { isXapiError } from './errors.ts';
import type { Host } from './facts.ts';
import { formatAuthority, type Origin, withAddress } from './origin.ts';
import type { Live } from './session.ts';
import { awaitTask, dropTask, readTask, startTask, type TaskDeps } from './task.ts';
import { findPlace } from './transfer-place.ts';
import {
  requestTransfer,
  type TransferRequestDeps,
  type TransferResponse,
} from './transfer-request.ts';
import type { TrustBook } from './trust.ts';
import { createWatch, type Watch, type Watched } from './watch.ts';

/** A task nobody took has no reason to tell later. */
const REASON_MS = 5_000;

export interface TransferSettings {
  connectTimeoutMs: number;
  /** Until the first byte: the host waits up to 2 min for a lock, then attaches the disks. */
  firstByteTimeoutMs: number;
  stallTimeoutMs: number;
  taskPollMs: number;
}

export interface TransferDeps extends TaskDeps {
  trust: TrustBook;
  meter: Meter;
  isConfigured(address: string): boolean;
  learnCertificate(host: Host, options: { signal: AbortSignal }): Promise<void>;
}

export interface TransferInput {
  direction: Direction;
  /** What the host must see. */
  srs: readonly string[];
  /** With query, without session and task. */
  path: string;
  /** Of the body of an import. */
  sizeBytes?: number;
  label: string;
  description?: string | undefined;
  /** Told before the request is sent. */
  onTask?: ((task: string) => Promise<void> | void) | undefined;
}

/** A host that has taken the request. */
export interface Transfer extends TransferResponse {
  task: string;
  watch: Watch;
  host: { address: string; xapiVersion: string; productVersion: string };
  /** Frees its place on the host; once. */
  release(): void;
}

/** Starts a transfer. Errors: XapiError, `pool_*`, the direction's `failed`. */
export type OpenTransfer = (input: TransferInput, options: Cancellable) => Promise<Transfer>;

/** Transfers of one pool. */
export function createTransfers(settings: TransferSettings, deps: TransferDeps): OpenTransfer {
  /** Transfers of ours by host: a host's dom0 is the bottleneck, so they are spread. */
  const running = new Map<string, number>();
  const load = (host: Host) => running.get(host.ref) ?? 0;
  return async (input, options) => {
    const { hosts, able } = await findPlace(deps.session, { srs: input.srs, load }, options);
    const [chosen] = able;
    const change = (by: number) => {
      if (chosen !== undefined) running.set(chosen.ref, load(chosen) + by);
    };
    const attempt = async () => {
      const live = await deps.session.open(options);
      return await start(settings, deps, { ...input, hosts, chosen, live }, options);
    };
    change(1);
    try {
      const opened = await attempt().catch(async (error) => {
        if (!isBackupError(error) || error.details.http_status !== 401) throw error;
        return await attempt(); // `start` has forgotten the session: this one is new
      });
      return { ...opened, release: () => change(-1) };
    } catch (error) {
      change(-1);
      throw deps.redactor.error(error);
    }
  };
}

interface StartInput extends TransferInput {
  hosts: readonly Host[];
  chosen: Host | undefined;
  live: Live;
}

async function start(
  settings: TransferSettings,
  deps: TransferDeps,
  input: StartInput,
  options: Cancellable,
): Promise<Omit<Transfer, 'release'>> {
  const { direction, hosts, chosen, live, sizeBytes } = input;
  const task = await createTask(deps, input, options);
  const watch = createWatch({ ...settings, direction }, deps, task);
  // No host can, as far as the records tell: the master is asked, and says why not.
  const origin: Origin =
    chosen === undefined ? live.origin : withAddress(live.origin, chosen.address);
  const path = `${input.path}&task_id=${task}`;
  try {
    await input.onTask?.(task);
    const length = sizeBytes === undefined ? {} : { sizeBytes };
    const request = { direction, origin, path, sessionRef: live.ref, ...length };
    const onConnection = (watched: Watched) => watch.follow(watched);
    const requestDeps = toRequestDeps(settings, deps, { hosts, onConnection });
    const response = await requestTransfer(request, requestDeps, options);
    if (response === undefined) throw await reasonOf(deps, { direction, task }, options);
    const { hostname } = response.origin;
    const host = hosts.find((one) => one.address === hostname);
    const address = formatAuthority(response.origin);
    deps.log.info(`${direction.name} started`, { address, task });
    const { xapiVersion = '', productVersion = '' } = host ?? {};
    return { ...response, task, watch, host: { address: hostname, xapiVersion, productVersion } };
  } catch (error) {
    if (isBackupError(error) && error.details.http_status === 401) deps.session.forget(live);
    watch.stop();
    await dropTask(deps, { task, over: false });
    throw error;
  }
}

function toRequestDeps(
  settings: TransferSettings,
  deps: TransferDeps,
  { hosts, onConnection }: { hosts: readonly Host[]; onConnection(watched: Watched): void },
): TransferRequestDeps {
  const memberAt = (address: string) => hosts.find((host) => host.address === address);
  return {
    trust: deps.trust,
    connectTimeoutMs: settings.connectTimeoutMs,
    isMember: (address) => memberAt(address) !== undefined || deps.isConfigured(address),
    learnCertificate: async (address, options) => {
      const member = memberAt(address);
      if (member !== undefined) await deps.learnCertificate(member, options);
    },
    onReceiver: onConnection,
  };
}

async function createTask(
  deps: TaskDeps,
  { label, description = '' }: { label: string; description?: string | undefined },
  options: Cancellable,
): Promise<string> {
  const params = [label, description];
  const task = await startTask(deps, { method: 'task.create', params }, options);
  try {
    await deps.session.call('task.set_progress', [task, double(-1)], options);
  } catch (error) {
    // A host that does not know the call only makes a refused transfer harder to tell from a slow one.
    if (!isXapiError(error)) {
      await dropTask(deps, { task, over: true });
      throw error;
    }
  }
  return task;
}

/** The connection was closed without an answer: only the task knows why. */
async function reasonOf(
  deps: TaskDeps,
  { direction, task }: { direction: Direction; task: string },
  options: Cancellable,
): Promise<Error> {
  const state =
    (await awaitTask(deps, { task, limitMs: REASON_MS }, options)) ??
    (await readTask(deps, task, options));
  if (state?.error !== undefined) return state.error;
  const taken = state !== undefined && state.progress >= 0;
  const message = taken
    ? `start ${direction.name}: the host closed the connection silently`
    : `start ${direction.name}: the host closed the connection before it took the request`;
  return new BackupError(direction.failed, message, {
    details: { task_status: state?.status ?? 'gone' },
  });
}
