/**
 * What the commands ask of xvault, whether the engine runs in this process or behind XVAULT_URL.
 *
 * Answers have the shape of the HTTP API in both cases, so `--json` says the same.
 */
import type { AdoptInput } from '../backup/adopt-service.ts';
import type { GuardReport } from '../backup/guard-service.ts';
import type { UnpinOutcome } from '../backup/pin-service.ts';
import type { AppliedRotation, RotationReport } from '../backup/rotation-service.ts';
import type { Service, StatusReport, SweepReport } from '../backup/service.ts';
import type { PinWish } from '../catalog/pin.ts';
import type { BackupRequest } from '../catalog/record.ts';
import type { RestoreRequest } from '../catalog/restore.ts';
import type { UnreadableRecord } from '../catalog/unreadable.ts';
import type { RestoreTestWish } from '../catalog/verified.ts';
import { type Need, readSettings, type Settings } from '../config.ts';
import type { BackupView, JobView } from '../http/views.ts';
import { createConsoleLog } from '../log.ts';
import type { Cancellable } from '../ports.ts';
import type { ArchiveClient } from './archive-client.ts';
import type { Terminal } from './command.ts';
import type { RunClient } from './run-client.ts';
import { openTraces } from './traced.ts';

export interface JobsPage {
  jobs: JobView[];
  /** Empty at the end. */
  next_page_token: string;
  unreadable?: UnreadableRecord[];
}

export interface BackupsPage {
  backups: BackupView[];
  /** Empty at the end. */
  next_page_token: string;
  unreadable?: UnreadableRecord[];
}

export type Wishes = Partial<BackupRequest>;
export type RestoreWishes = Partial<RestoreRequest>;

export interface ServiceClient extends AsyncDisposable, ArchiveClient, RunClient {
  /** 'direct': the engine runs here and ends with this process. */
  readonly kind: 'direct' | 'remote';
  /** With 'direct': the name leases and jobs of this process carry. */
  readonly instance?: string;
  /** With 'direct', after the wish to leave: resolves when all that was under way has stopped and is left. */
  left?(): Promise<void>;
  startBackup(input: { vm: string; wishes: Wishes }, options: Cancellable): Promise<JobView>;
  /** Errors: `not_found`. */
  startIndex(input: { backupId: string }, options: Cancellable): Promise<JobView>;
  /** Of this process alone, which was given the archive. */
  startAdopt(input: Omit<AdoptInput, 'triggeredBy'>, options: Cancellable): Promise<JobView>;
  /** Errors: `not_found`. */
  startVerify(input: { backupId: string; percent: number }, options: Cancellable): Promise<JobView>;
  /** Errors: `not_found`, `restore_refused`. */
  startRestoreTest(
    input: { backupId: string; wish: Partial<RestoreTestWish> },
    options: Cancellable,
  ): Promise<JobView>;
  /** Errors: `not_found`, `restore_refused`. */
  startRestore(
    input: { backupId: string; wishes: RestoreWishes },
    options: Cancellable,
  ): Promise<JobView>;
  /** Of this process alone: does the jobs that wait, and answers with those that ended. */
  workOff?(options: Cancellable): Promise<JobView[]>;
  /** The job now, then whenever it changed, up to its end. */
  watchJob(id: string, options: Cancellable): AsyncIterable<JobView>;
  /** Errors: `not_found`. */
  cancelJob(id: string, options: Cancellable): Promise<JobView>;
  listJobs(
    input: { status?: string; vm?: string; pool?: string; pageSize: number },
    options: Cancellable,
  ): Promise<JobsPage>;
  listBackups(
    input: { vm?: string; pool?: string; retention?: string; pageSize: number },
    options: Cancellable,
  ): Promise<BackupsPage>;
  status(
    input: { maxAgeSeconds: number; pool?: string },
    options: Cancellable,
  ): Promise<StatusReport>;
  sweep(input: { dryRun: boolean }, options: Cancellable): Promise<SweepReport>;
  /** Errors: `not_found`. */
  startPin(
    input: { backupId: string; wish: Partial<PinWish> },
    options: Cancellable,
  ): Promise<JobView>;
  /** Errors: `not_found`. */
  unpin(input: { backupId: string }, options: Cancellable): Promise<{ outcome: UnpinOutcome }>;
  rotation(options: Cancellable): Promise<RotationReport>;
  /** Errors: `rotation_refused`. */
  applyRotation(input: { dryRun: boolean }, options: Cancellable): Promise<AppliedRotation>;
  renewLastGood(input: { dryRun: boolean }, options: Cancellable): Promise<GuardReport>;
}

export interface ClientInput {
  terminal: Terminal;
  /** The engine in this process even where XVAULT_URL is set. */
  direct?: boolean;
  /** What it cannot do without; pools and bucket unless told. */
  needs?: readonly Need[];
  /** Take over what a dead instance left before anything else. */
  resume?: boolean;
  /** How long jobs of this process may run on when the client is closed; as in the settings unless given. */
  drainMs?: number;
  /** Copies of last good backups are waited for until it aborts: no other process may be there to make them. */
  until?: AbortSignal;
  /** Takes the jobs that wait, of the shared queue where there is one, and remembers those that ended here. */
  waiting?: boolean;
  /** When it aborts, what is under way is left within that time to whoever comes next. */
  leave?: { signal: AbortSignal; afterMs: number };
}

/** Opens the client the settings ask for. Errors: `configuration`. */
export async function openClient(input: ClientInput): Promise<ServiceClient> {
  const { settings } = readSettings();
  if (settings.serviceUrl !== undefined && input.direct !== true) {
    const { createHttpClient } = await import('./http-client.ts');
    return createHttpClient({
      url: settings.serviceUrl,
      ...(settings.clientToken === undefined ? {} : { token: settings.clientToken }),
    });
  }
  const full = readSettings({ needs: input.needs ?? ['pools', 'bucket'] });
  for (const warning of full.warnings) input.terminal.err(`warning: ${warning}\n`);
  return await openDirect(full.settings, input);
}

async function openDirect(settings: Settings, input: ClientInput): Promise<ServiceClient> {
  const [{ wire }, { createDirectClient }] = await Promise.all([
    import('./wire.ts'),
    import('./direct-client.ts'),
  ]);
  // What the engine says besides is for people who asked; its errors come back as errors.
  const level = settings.logLevel === 'info' ? 'warn' : settings.logLevel;
  const traces = await openTraces(settings, createConsoleLog({ level, write: input.terminal.err }));
  const { log, tracer } = traces;
  const { waiting = false } = input;
  const wired = await wire(settings, { log, tracer, sharesQueue: waiting, keepsEnded: waiting });
  await wired.ready();
  const leaving = drainOnLeave(wired.service, input.leave);
  if (input.resume) await wired.service.start();
  return createDirectClient(wired.service, {
    instance: settings.instance,
    left: async () => await leaving(),
    close: async () => {
      const { drainMs = settings.drainMs, until } = input;
      await (leaving() ?? wired.service.drain({ drainMs, until }));
      await wired[Symbol.asyncDispose]();
      await traces.stop();
    },
  });
}

/** Begins to drain with the wish to leave, whatever the command is at; the drain, once it has begun. */
function drainOnLeave(
  service: Pick<Service, 'drain'>,
  leave: ClientInput['leave'],
): () => Promise<void> | undefined {
  let drained: Promise<void> | undefined;
  const drain = () => {
    drained = service.drain({ drainMs: 0, leaveMs: leave?.afterMs });
    drained.catch(() => undefined); // told to who waits for it
  };
  if (leave?.signal.aborted) drain();
  else leave?.signal.addEventListener('abort', drain, { once: true });
  return () => drained;
}
