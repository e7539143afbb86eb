/**
 * Keeps one container at work until every job and run it began has ended, and stops it then.
 *
 * A request starts the container if need be, waits until its port answers, and is handed on once: never again, since
 * nobody knows what was begun when an answer is missing (the caller repeats with the same Idempotency-Key). What a 202
 * names is remembered before the answer goes out. From then on an alarm looks at the records in the bucket: the poll is
 * also the activity that keeps the container, which looks idle to the platform while it exports for hours
 * (cloudflare/containers#138). A container that is gone is started again and takes its left jobs over by itself.
 *
 * The platform may end this object at any instant, so whatever matters lies in its storage, written before it is acted
 * upon; every step may come twice. An alarm sets the next one first and throws nothing: the platform repeats a failed
 * alarm a few times only, and this must go on for as long as a bucket is away.
 */
import { BackupError, isBackupError, toBackupError } from '../errors.ts';
import { problemAnswer } from '../http/problem.ts';
import type { Cancellable, Log } from '../ports.ts';
import { createEngineProcess, type EngineProcess } from './engine-process.ts';
import {
  type Deps,
  limited,
  type SupervisorDeps,
  type SupervisorSettings,
  type SupervisorStorage,
} from './supervision.ts';
import { createUnderWay } from './under-way.ts';
import {
  lookedAt,
  nameIn,
  nextStep,
  type Seen,
  startedAgain,
  UNATTENDED_MS,
  type Watched,
  type WatchedName,
} from './watched.ts';

/** When somebody asked is written down this often at most. */
const TOUCH_EVERY_MS = 10_000;
/** One look at everything; an alarm may take 15 minutes. */
const ROUND_LIMIT_MS = 5 * 60_000;
/** A bucket that could not be looked at for so long (a wrong binding, say) keeps no container, whatever that does. */
const BLIND_MS = 24 * 3_600_000;
/** Between two looks whether the Worker was mended. */
const REFUSED_ALARM_MS = 60_000;
const WATCHED = 'watched/';

export interface Supervisor {
  fetch(request: Request): Promise<Response>;
  alarm(): Promise<void>;
}

/** Supervises the container of one Durable Object. */
export function createSupervisor(deps: SupervisorDeps, settings: SupervisorSettings): Supervisor {
  const { container } = deps;
  if (container === undefined) {
    const error = new BackupError(
      'engine_unavailable',
      'start engine: this Worker has no container; add [[containers]] for the class Engine to wrangler.toml, and deploy it where containers run',
      { retry: 'after-fix' },
    );
    return refuseAll(error, deps);
  }
  return supervise({ ...deps, container }, settings);
}

/**
 * Answers everything with what is wrong with the Worker. Alarms go on while anything is known: a deploy that mends it
 * wakes nobody, and what is watched must be looked at then.
 */
export function refuseAll(
  error: BackupError,
  { storage, clock, log }: Pick<SupervisorDeps, 'storage' | 'clock' | 'log'>,
): Supervisor {
  return {
    fetch: async (request) => problem(error, request),
    alarm: async () => {
      if ((await storage.list({ prefix: '' })).size === 0) return;
      await storage.setAlarm(clock.now() + REFUSED_ALARM_MS);
      log.error('nothing is supervised', { error });
    },
  };
}

interface Watch {
  deps: Deps;
  settings: SupervisorSettings;
  engine: EngineProcess;
}

function supervise(deps: Deps, settings: SupervisorSettings): Supervisor {
  const { storage, clock, log } = deps;
  const underWay = createUnderWay(clock);
  const engine = createEngineProcess(deps, settings);
  const { touch, forget } = createTouch(deps, settings);
  const sight = createSight(deps);
  let alarms: Promise<void> | undefined;

  /** Nothing of ours is at work: stopped when it has been idle for long; forgotten when nothing is watched, either. */
  const rest = async (
    { watching, begun }: { watching: boolean; begun: number },
    options: Cancellable,
  ): Promise<void> => {
    const { running } = deps.container;
    if (watching && !running) return;
    const requestAt = (await storage.get<number>('request_at')) ?? 0;
    const idle = clock.now() - requestAt >= settings.idleMs;
    if (running && (!idle || underWay.busy())) return;
    // taken over from another container, begun by a chat command, or by a request whose answer got lost
    const held = await deps.records.held(options);
    for (const name of held) {
      log.info('found what nobody watched', nameOf(name));
      await watch(storage, { ...name, starts: 1, startedAt: clock.now(), milestone: 0 });
    }
    // one that came since we looked may have begun something, and be over
    if (held.length > 0 || underWay.begun !== begun || underWay.busy()) return;
    await engine.stop();
    log.info('engine stopped: nothing to do');
    // somebody asked meanwhile: the container is started again for them, and stays watched
    if (watching || underWay.busy()) return;
    await storage.deleteAlarm();
    await storage.deleteAll();
    forget();
    // what somebody who asked meanwhile wrote down is gone, the alarm with it
    if (underWay.busy()) await touch();
  };

  const round = async (options: Cancellable): Promise<void> => {
    const { begun } = underWay;
    if (deps.container.running) await engine.keep();
    const left = await lookAtAll({ deps, settings, engine }, options);
    // another container took all of it over: this one only waits, which need not cost
    if (left.some(({ seen }) => seen.holder !== 'other')) await engine.listen(left);
    else await rest({ watching: left.length > 0, begun }, options);
  };

  const alarm = async (): Promise<void> => {
    await storage.setAlarm(clock.now() + settings.alarmMs);
    try {
      await limited(clock, ROUND_LIMIT_MS, (signal) => round({ signal }));
      await sight.regained();
    } catch (error) {
      // nothing is lost by looking later, and the next alarm is set
      log.error('look at engine failed', { error: toBackupError(error) });
      await stopIfBlind({ sight, engine, busy: underWay.busy, log });
    }
  };

  return {
    fetch: async (request) => {
      const done = underWay.begin();
      try {
        await touch();
        await engine.ready();
        const answer = await engine.forward(request);
        await remember(deps, answer);
        return underWay.until(answer, done);
      } catch (thrown) {
        done();
        const error = toBackupError(thrown);
        log.warn('request not answered by the engine', { error });
        return problem(error, request);
      }
    },
    // the platform runs one at a time; one that comes twice all the same is the same look
    alarm: async () => {
      alarms ??= alarm().finally(() => {
        alarms = undefined;
      });
      await alarms;
    },
  };
}

/** Written down before anything is begun: whatever happens now, an alarm comes and looks. */
function createTouch({ storage, clock }: Deps, { idleMs, alarmMs }: SupervisorSettings) {
  const everyMs = Math.min(TOUCH_EVERY_MS, idleMs / 4);
  let touchedAt = Number.NEGATIVE_INFINITY;
  return {
    touch: async (): Promise<void> => {
      if (clock.elapsed() - touchedAt < everyMs) return;
      await storage.put('request_at', clock.now());
      if ((await storage.getAlarm()) === null) await storage.setAlarm(clock.now() + alarmMs);
      touchedAt = clock.elapsed();
    },
    forget: (): void => {
      touchedAt = Number.NEGATIVE_INFINITY;
    },
  };
}

/** Since when no look succeeded. */
function createSight({ storage, clock }: Deps) {
  const key = 'blind_since';
  return {
    regained: async (): Promise<void> => {
      if ((await storage.get<number>(key)) !== undefined) await storage.delete(key);
    },
    lostForMs: async (): Promise<number> => {
      const since = await storage.get<number>(key);
      if (since === undefined) await storage.put(key, clock.now());
      return since === undefined ? 0 : clock.now() - since;
    },
  };
}

/** A failure is told and no more: the next alarm tries again. */
async function stopIfBlind(input: {
  sight: ReturnType<typeof createSight>;
  engine: EngineProcess;
  busy: () => boolean;
  log: Log;
}): Promise<void> {
  const { sight, engine, busy, log } = input;
  try {
    if ((await sight.lostForMs()) >= BLIND_MS && !busy()) await engine.stop();
  } catch (error) {
    log.error('engine not stopped', { error: toBackupError(error) });
  }
}

/** Those that have not ended, after what was due was done. */
async function lookAtAll(
  { deps, settings, engine }: Watch,
  options: Cancellable,
): Promise<{ watched: Watched; seen: Seen }[]> {
  const { container, storage, clock, log } = deps;
  const left: { watched: Watched; seen: Seen }[] = [];
  let start = false;
  for (const known of (await storage.list<Watched>({ prefix: WATCHED })).values()) {
    const seen = await look(deps, known, options);
    const now = { running: container.running, nowMs: clock.now(), ...settings };
    const watched = seen === undefined ? known : lookedAt(known, seen, now);
    if (watched !== known) await storage.put(keyOf(watched), watched);
    const step = nextStep(watched, seen, now);
    if (seen === undefined || step === 'forget') {
      log.info('watched no more: it has ended', nameOf(watched));
      await storage.delete(keyOf(watched));
    } else if (step === 'give_up' && (await giveUp({ deps, engine }, watched, options))) {
      await storage.delete(keyOf(watched));
    } else {
      left.push({ watched, seen });
      start ||= step === 'start';
    }
  }
  if (!start) return left;
  // counted before it is done: a start that ends this object counts, too
  for (const { watched, seen } of left) {
    if (seen.holder === 'other') continue;
    const again = startedAgain(watched, seen, clock.now());
    await storage.put(keyOf(watched), again);
    log.warn('engine started again', { ...nameOf(watched), starts: again.starts });
  }
  await engine.start();
  return left;
}

/** undefined also for a record that cannot be read: no look would ever say that it ended. */
async function look(
  { records, log }: Deps,
  watched: Watched,
  options: Cancellable,
): Promise<Seen | undefined> {
  try {
    return await records.look(watched, options);
  } catch (error) {
    if (!isBackupError(error, 'data_corrupt')) throw error;
    log.error('watched record cannot be read', { ...nameOf(watched), error });
    return undefined;
  }
}

async function giveUp(
  { deps, engine }: Pick<Watch, 'deps' | 'engine'>,
  watched: Watched,
  options: Cancellable,
): Promise<boolean> {
  const { kind, starts } = watched;
  const lastEnd = (await engine.lastEnd()) ?? 'nobody saw it';
  const mend = `look at the container's log and memory, and at the settings; last end: ${lastEnd}`;
  const what = deps.container.running
    ? `its container runs and has not worked on it for ${UNATTENDED_MS / 60_000} minutes`
    : `its container was started ${starts} times and was gone each time before the ${kind} ended`;
  const error = new BackupError('engine_unavailable', `end ${kind}: ${what}; ${mend}`, {
    details: { starts, last_end: lastEnd },
  });
  const given = await deps.records.giveUp(watched, error, options);
  if (given) deps.log.error('gave up', { ...nameOf(watched), starts, last_end: lastEnd });
  return given;
}

/** What a 202 names is watched from now on. */
async function remember({ storage, clock }: Deps, answer: Response): Promise<void> {
  const name = answer.status === 202 ? nameIn(answer.headers.get('location')) : undefined;
  if (name === undefined) return;
  await watch(storage, { ...name, starts: 1, startedAt: clock.now(), milestone: 0 });
}

/** One that is watched already keeps its count. */
async function watch(storage: SupervisorStorage, watched: Watched): Promise<void> {
  const key = keyOf(watched);
  if ((await storage.get<Watched>(key)) === undefined) await storage.put(key, watched);
}

function keyOf({ kind, id }: Watched): string {
  return `${WATCHED}${kind}/${id}`;
}

/** As the log tells it. */
function nameOf({ kind, id }: WatchedName): Record<string, string> {
  return { [`${kind}_id`]: id };
}

/** As the service itself tells it. */
function problem(error: BackupError, { headers: asked }: Request): Response {
  const requestId = asked.get('request-id');
  const answer = problemAnswer(error, requestId === null ? {} : { requestId });
  const { status, headers, body } = answer;
  return new Response(body, { status, headers });
}
