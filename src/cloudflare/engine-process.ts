/**
 * The engine inside the container: brought up for a request, kept, listened to, ended.
 *
 * What is known of it in memory is only how fresh its last answer is, and how it ended if somebody listened; everything else
 * is asked anew, since this object may have been away while the container ran on. Why it ended last is written down for
 * whoever has to tell it.
 */
import { BackupError } from '../errors.ts';
import { NEVER } from '../signals.ts';
import { SIGTERM } from './container.ts';
import {
  type Deps,
  limited,
  messageOf,
  type SupervisorSettings,
  type SupervisorStorage,
} from './supervision.ts';
import type { Seen, Watched } from './watched.ts';

/** Between two looks at a port that does not answer yet, or a process that does not end. */
const POLL_MS = 250;
/** One look at /livez: it does nothing but answer. */
const LIVE_LIMIT_MS = 5_000;
/** The platform's word that it keeps a container: a request waits for it, and goes on without. */
const KEEP_LIMIT_MS = 5_000;
/** A port that answered is not asked again before each request of a burst. */
const READY_FRESH_MS = 5_000;
/** A container outlives so many alarms that do not come: this object may be away for a moment. */
const KEEP_ALARMS = 20;
/** Looks in a row without a sign of life, neither from the port nor in a record, before a container is ended … */
const SILENT_ALARMS = 10;
/** … and as long at least, however often it is looked: a container that starts on a busy host is silent, too. */
const SILENT_MS = 5 * 60_000;
/** The platform's own word for "ended the hard way"; without it the next look tries again. */
const DESTROY_LIMIT_MS = 60_000;

interface Silence {
  alarms: number;
  sinceMs: number;
  /** When each record was last written, as of the alarm before. */
  updatedAt: Record<string, string>;
}

export interface EngineProcess {
  /** Resolves when its port answers. Errors: `engine_unavailable`. */
  ready(): Promise<void>;
  /** Hands a request on, once. Errors: `engine_unavailable`. */
  forward(request: Request): Promise<Response>;
  /** Starts it and does not wait for it; why it cannot be started is written down. */
  start(): Promise<void>;
  /** Tells the platform that it is still wanted. */
  keep(): Promise<void>;
  /** Asks whether it lives; one that has been silent for long is ended, and the next alarm starts it again. */
  listen(left: readonly { watched: Watched; seen: Seen }[]): Promise<void>;
  /** SIGTERM, and the hard way after the grace. */
  stop(): Promise<void>;
  /** How it ended last, or why it did not start. */
  lastEnd(): Promise<string | undefined>;
}

interface Context {
  deps: Deps;
  settings: SupervisorSettings;
  ear: Ear;
}

/** The process in the container of `deps`. */
export function createEngineProcess(deps: Deps, settings: SupervisorSettings): EngineProcess {
  const { container, storage, clock } = deps;
  const ear = createEar(deps);
  const context = { deps, settings, ear };
  let answeredAt = Number.NEGATIVE_INFINITY;
  let starting: Promise<void> | undefined;
  let stopping: Promise<void> | undefined;
  return {
    ready: async () => {
      if (stopping !== undefined) await isStopped(context, stopping);
      ear.listen();
      if (container.running && clock.elapsed() - answeredAt < READY_FRESH_MS) return;
      starting ??= bringUp(context).finally(() => {
        starting = undefined;
      });
      await starting;
      answeredAt = clock.elapsed();
    },
    forward: async (request) => {
      try {
        return await container.fetch(toPort(request));
      } catch (cause) {
        answeredAt = Number.NEGATIVE_INFINITY;
        throw new BackupError(
          'engine_unavailable',
          'answer request: the engine was gone before it answered; whether it began what was asked is not known: repeat the request with the same Idempotency-Key',
          { cause },
        );
      }
    },
    start: async () => {
      if (container.running) return; // for a request that came meanwhile
      try {
        await launch(context);
      } catch (error) {
        await storage.put('last_end', messageOf(error));
        deps.log.warn('engine not started', { error: messageOf(error) });
      }
    },
    keep: async () => {
      ear.listen();
      await keep(context);
    },
    listen: (left) => listen(context, left),
    stop: async () => {
      answeredAt = Number.NEGATIVE_INFINITY;
      stopping ??= end(context).finally(() => {
        stopping = undefined;
      });
      await stopping;
    },
    lastEnd: () => storage.get<string>('last_end'),
  };
}

/** The port speaks no TLS, and answers of the engine are the caller's, redirects among them. */
function toPort(request: Request): Request {
  const url = new URL(request.url);
  url.protocol = 'http:';
  return new Request(new Request(url, request), { redirect: 'manual' });
}

async function bringUp(context: Context): Promise<void> {
  const { deps, settings, ear } = context;
  const { container, clock } = deps;
  const until = clock.elapsed() + settings.readyMs;
  let launched = false;
  const begin = async () => {
    try {
      await launch(context);
      launched = true;
    } catch (error) {
      throw notReady(`it cannot be started: ${messageOf(error)}`, error);
    }
  };
  if (!container.running) await begin();
  while (!(await lives(context))) {
    if (ear.heard !== undefined) {
      if (launched) throw notReady(`it ended: ${ear.heard}`);
      await begin(); // it had ended while nobody listened
    }
    if (clock.elapsed() >= until) {
      throw notReady(
        `it does not answer after ${settings.readyMs / 1000} s, and is still starting`,
      );
    }
    await pause(context);
  }
  await keep(context);
}

async function lives({ deps: { container, clock } }: Context): Promise<boolean> {
  try {
    const { ok, body } = await limited(clock, LIVE_LIMIT_MS, (signal) =>
      container.fetch(new Request('http://engine/livez', { signal })),
    );
    await body?.cancel();
    return ok;
  } catch {
    return false; // not yet, or not any more: the caller decides by the time that has passed
  }
}

/** Starts the container at once, and hears how it ends. Errors: the platform's. */
async function launch({ deps, settings, ear }: Context): Promise<void> {
  deps.container.start(settings.env);
  ear.listen();
  await forgetSilence(deps.storage);
}

interface Ear {
  /** How the container ended that was listened to last; undefined while it runs. */
  readonly heard: string | undefined;
  /** Hears the end of the container that runs, whoever started it; writes it down. */
  listen(): void;
}

/**
 * An object that begins anew may find a container running. The platform tells of its end, also by `running`, only those
 * who listen (workerd, src/workerd/api/container.c++), so whoever looks listens first.
 */
function createEar({ container, storage, log }: Deps): Ear {
  let listening = false;
  let heard: string | undefined;
  const hear = async (): Promise<void> => {
    try {
      heard = await container.ended().then(() => 'it ended by itself', messageOf);
    } finally {
      listening = false;
    }
    log.info('engine ended', { reason: heard });
    await storage.put('last_end', heard);
  };
  return {
    get heard() {
      return heard;
    },
    listen: () => {
      if (listening || !container.running) return;
      listening = true;
      heard = undefined;
      hear().catch((error) =>
        log.warn('end of engine not written down', { error: messageOf(error) }),
      );
    },
  };
}

async function keep({ deps, settings }: Context): Promise<void> {
  const forMs = settings.alarmMs * KEEP_ALARMS;
  try {
    await limited(deps.clock, KEEP_LIMIT_MS, () => deps.container.keepFor(forMs));
  } catch (error) {
    // it ended this very moment, or lives only as long as this object does: the alarms go on
    deps.log.warn('platform not told to keep the engine', { error: messageOf(error) });
  }
}

async function listen(
  context: Context,
  left: readonly { watched: Watched; seen: Seen }[],
): Promise<void> {
  const { container, storage, clock, log } = context.deps;
  if (!container.running || (await lives(context))) return await forgetSilence(storage);
  const entries = left.map(({ watched, seen }) => [watched.id, seen.updatedAt]);
  const updatedAt: Record<string, string> = Object.fromEntries(entries);
  const before = await storage.get<Silence>('silence');
  const heard = left.some(({ watched: { id } }) => before?.updatedAt[id] !== updatedAt[id]);
  const nowMs = clock.now();
  const { alarms, sinceMs }: Silence =
    before === undefined || heard
      ? { alarms: 1, sinceMs: nowMs, updatedAt }
      : { ...before, alarms: before.alarms + 1 };
  if (alarms < SILENT_ALARMS || nowMs - sinceMs < SILENT_MS) {
    return await storage.put('silence', { alarms, sinceMs, updatedAt });
  }
  log.error('engine ended: it was silent', { alarms });
  await storage.put('last_end', `it did not answer for ${alarms} looks, and was ended`);
  await forgetSilence(storage);
  await destroy(context, 'it was silent');
}

async function forgetSilence(storage: SupervisorStorage): Promise<void> {
  if ((await storage.get<Silence>('silence')) !== undefined) await storage.delete('silence');
}

async function end(context: Context): Promise<void> {
  const { container, clock } = context.deps;
  if (!container.running) return;
  container.signal(SIGTERM);
  const until = clock.elapsed() + context.settings.graceMs;
  while (container.running && clock.elapsed() < until) await pause(context);
  if (container.running) await destroy(context, 'it did not end after SIGTERM');
}

/** Errors: `engine_unavailable` when the platform does not say that it is done; the next look tries again. */
async function destroy({ deps: { container, clock } }: Context, reason: string): Promise<void> {
  await limited(clock, DESTROY_LIMIT_MS, () => container.destroy(reason));
}

/** A request waits for the end of the container before as long as for the start of the next. */
async function isStopped({ deps, settings }: Context, stopping: Promise<void>): Promise<void> {
  try {
    await limited(deps.clock, settings.readyMs, () => stopping);
  } catch (error) {
    throw notReady('the one before it has not ended yet', error);
  }
}

/** Loops round it look at their own limit. */
async function pause({ deps: { clock } }: Context): Promise<void> {
  await clock.sleep(POLL_MS, { signal: NEVER });
}

function notReady(why: string, cause?: unknown): BackupError {
  return new BackupError('engine_unavailable', `start engine: ${why}`, { cause });
}
