/**
 * The front door: the very app of `serve`, over a service that reads the bucket by its R2 binding.
 *
 * What needs a pool or changes something goes to the engine, a container kept by the Durable Object `Engine`, after it was
 * checked here. Everything is made anew for each request: the platform forbids waiting for what another request began.
 */
import { createService } from './backup/create-service.ts';
import type { Service } from './backup/service.ts';
import { createIdempotency } from './catalog/idempotency.ts';
import { createKeys } from './catalog/keys.ts';
import { systemClock, systemIds } from './clock.ts';
import { createEngineCall } from './cloudflare/engine-call.ts';
import {
  type FrontEnv,
  type FrontSettings,
  readFrontSettings,
} from './cloudflare/front-settings.ts';
import { createR2Api } from './cloudflare/r2-api.ts';
import { createR2Store } from './cloudflare/r2-store.ts';
import { createRecordCache, type RecordCache } from './cloudflare/record-cache.ts';
import { createWorkerLog } from './cloudflare/worker-log.ts';
import { mistakesError } from './config.ts';
import { BackupError } from './errors.ts';
import { createApp } from './http/app.ts';
import { readingHalf } from './http/elsewhere.ts';
import { problemAnswer } from './http/problem.ts';
import type { Log, ObjectStore } from './ports.ts';
import { serviceSettings } from './service-settings.ts';
import { NEVER } from './signals.ts';
import { VERSION } from './version.ts';

/** What the platform gives with each event. */
export interface Context {
  waitUntil(work: Promise<unknown>): void;
}

/** A trigger's work may take 15 minutes. */
const CRON_MS = 12 * 60_000;
/** Of a failed cron run, in the platform's list of failures. */
const SHOWN_CHARACTERS = 2000;

// plain data, so that it may outlive a request
let read:
  | { env: FrontEnv; report: ReturnType<typeof readFrontSettings>; records: RecordCache }
  | undefined;

/** Answers a request. */
export async function answerRequest(
  request: Request,
  env: FrontEnv,
  context: Context,
): Promise<Response> {
  let front: (request: Request) => Response | Promise<Response>;
  try {
    front = createFront(settingsOf(env), { env, context });
  } catch (error) {
    const { status, headers, body } = problemAnswer(error, { requestId: systemIds.uuid() });
    return new Response(body, { status, headers });
  }
  return await front(request);
}

/**
 * Posts the run of a cron trigger; an engine that cannot be had yet (its image is fetched, too many run) is asked again, since
 * nobody else will before tomorrow. Throws what went wrong: the platform shows it beside the trigger.
 */
export async function startScheduledRun(
  { scheduledTime }: { scheduledTime: number },
  env: FrontEnv,
  context: Context,
): Promise<void> {
  const settings = settingsOf(env);
  const token = settings.clientToken?.reveal();
  if (token === undefined) {
    const text = 'set the secret XVAULT_TOKEN: what a cron trigger starts is asked for with it';
    throw new BackupError('configuration', text);
  }
  const post = () =>
    new Request('https://cron.invalid/v1/runs', {
      method: 'POST',
      headers: {
        authorization: `Bearer ${token}`,
        'content-type': 'application/json',
        // the platform may fire twice, and an answer that got lost may have started it
        'idempotency-key': `cron-${new Date(scheduledTime).toISOString()}`,
      },
      body: settings.cronRun,
    });
  const log = logOf(settings.logLevel);
  const until = systemClock.elapsed() + CRON_MS;
  for (;;) {
    const answer = await createFront(settings, { env, context })(post());
    const text = (await answer.text()).slice(0, SHOWN_CHARACTERS);
    if (answer.ok) return;
    const pauseMs = Number(answer.headers.get('retry-after') ?? Number.NaN) * 1000;
    if (!(systemClock.elapsed() + pauseMs < until)) {
      throw new Error(`start the run of this trigger: ${answer.status} ${text}`);
    }
    log.warn('run of trigger not started yet', { status: answer.status, answer: text });
    await systemClock.sleep(pauseMs, { signal: NEVER });
  }
}

/** Errors: `configuration` with every mistake. */
function settingsOf(env: FrontEnv): FrontSettings {
  if (read?.env !== env) {
    read = { env, report: readFrontSettings(env), records: createRecordCache() };
    const log = logOf('info');
    for (const warning of read.report.warnings) log.warn(warning);
    if (read.report.settings === undefined) {
      log.error('settings are wrong', { mistakes: read.report.mistakes });
    }
  }
  const { settings, mistakes } = read.report;
  if (settings === undefined) throw mistakesError(mistakes);
  return settings;
}

function logOf(level: FrontSettings['logLevel']): Log {
  // biome-ignore lint/suspicious/noConsole: the only way into the platform's log
  return createWorkerLog({ level, write: (line) => console.log(line) });
}

function createFront(
  settings: FrontSettings,
  { env, context }: { env: FrontEnv; context: Context },
): (request: Request) => Response | Promise<Response> {
  const log = logOf(settings.logLevel);
  const shared = { clock: systemClock, ids: systemIds, log };
  const { store, stateStore } = createStores(settings, { env, log });
  const app = createApp(
    {
      ...shared,
      service: readingHalf(createReader(settings, { store, stateStore, log })),
      // never asked: it is the engine that remembers
      idempotency: createIdempotency({
        ...shared,
        store: stateStore,
        keys: createKeys(settings.bucket.prefix),
      }),
      tokens: settings.tokens,
      version: VERSION,
      elsewhere: createEngineCall({
        engines: env.ENGINE,
        clock: systemClock,
        log,
        waitUntil: (work) => context.waitUntil(work),
      }),
    },
    {
      loopbackWithoutToken: false,
      metricsOpen: settings.metricsOpen,
      concurrency: settings.concurrency,
      linkSeconds: settings.linkSeconds,
      maxAgeSeconds: settings.maxAgeSeconds,
      senders: settings.senders,
    },
  );
  return (request) => app.fetch(request);
}

function createStores(
  { bucket, endpoint, credentials }: FrontSettings,
  { env, log }: { env: FrontEnv; log: Log },
): { store: ObjectStore; stateStore: ObjectStore } {
  const { accessKeyId, secretAccessKey } = credentials;
  const create = (binding: FrontEnv['BUCKET'], name: string) => {
    const secret = secretAccessKey.reveal();
    const api = createR2Api(
      { endpoint, bucket: name, accessKeyId, secretAccessKey: secret },
      { clock: systemClock, log },
    );
    return createR2Store({ bucket: binding, api }, { name, provider: bucket.provider });
  };
  const bare = create(env.BUCKET, bucket.name);
  const store = read?.records.over(bare, createKeys(bucket.prefix)) ?? bare;
  const { stateBucket } = bucket;
  if (stateBucket === undefined || env.STATE_BUCKET === undefined) {
    return { store, stateStore: store };
  }
  return { store, stateStore: create(env.STATE_BUCKET, stateBucket) };
}

/** The service of `serve`, without a pool and never started. */
function createReader(
  settings: FrontSettings,
  { store, stateStore, log }: { store: ObjectStore; stateStore: ObjectStore; log: Log },
): Service {
  return createService(
    {
      pools: [],
      store,
      stateStore,
      clock: systemClock,
      ids: systemIds,
      log,
      meter: { count: () => {}, observe: () => {} },
    },
    { ...serviceSettings(settings), poolsElsewhere: true },
  );
}
