/**
 * Calls a guest's hook: one signed POST that must be answered with 2xx in time; a question may be answered with 4xx, too.
 *
 * Signed by the Standard Webhooks specification 1.0.0 (webhook-id, webhook-timestamp, webhook-signature over
 * "id.timestamp.body"; with two secrets two signatures, so that secrets can be changed). A redirect is a refusal. A try
 * that failed for a reason that may pass is made again, as often as the caller allows, with the same id and a new
 * timestamp. Of the answer only the status counts; up to 200 characters of its text are told, for people.
 */
import { Webhook } from 'standardwebhooks';
import { request } from 'undici';
import { BackupError, isBackupError } from '../errors.ts';
import { type AllowList, checkTarget } from '../outgoing.ts';
import type { Cancellable, Clock, HookAnswer, HookCall, Hooks, Log } from '../ports.ts';
import type { Secret } from '../secret.ts';
import { formatTime } from '../time.ts';
import { NO_TRACER, type Tracer } from '../tracer.ts';
import { firstText, reasonOf, secondsOf } from './answer.ts';
import { createGuardedAgent, type Resolve } from './guarded-agent.ts';

/** Before the second, third … try: a guest whose service restarts is waited for, one that is gone holds nobody long. */
const WAIT_BEFORE_TRY_MS = [1_000, 5_000, 15_000];
/** A guest may ask for more patience, but not for more than this. */
const MAX_RETRY_AFTER_MS = 30_000;
/** Of the answer's text: what is read, and what is told. */
const MAX_ANSWER_BYTES = 4_096;
const MAX_TOLD_CHARACTERS = 200;
/** Answers that ask to be called again. */
const ASKS_FOR_A_MOMENT = new Set([408, 425, 429, 503]);

export interface GuestHookSettings {
  allow: AllowList;
  /** `whsec_…`, the newest first. */
  secrets: readonly Secret[];
  /** One try, from the connection to the end of the answer. */
  timeoutMs: number;
  caPem?: string;
}

export interface GuestHookDeps {
  clock: Clock;
  log: Log;
  /** Nothing is traced unless given. */
  tracer?: Tracer;
  /** The system's resolver unless given. */
  resolve?: Resolve;
}

/** The guest hooks of these settings. Nothing is opened before the first call. */
export function createGuestHooks(settings: GuestHookSettings, deps: GuestHookDeps): Hooks {
  const signers = settings.secrets.map((secret) => new Webhook(secret.reveal()));
  const { allow } = settings;
  const open = (call: HookCall, accepts: Try['accepts']): Try => {
    return { settings, deps, signers, call, url: recheck(allow, call), accepts };
  };
  return {
    check: async (input) => void checkTarget(allow, input),
    call: async (call, options) => void (await traced(open(call, isYes), options)),
    ask: (call, options) => traced(open(call, isAnswer), options),
  };
}

async function traced(input: Try, options: Cancellable): Promise<HookAnswer> {
  const { tracer = NO_TRACER } = input.deps;
  const attributes = {
    'http.request.method': 'POST',
    'server.address': input.url.hostname,
    'xvault.hook': input.call.name,
  };
  const name = `hook ${input.call.name}`;
  return await tracer.span(name, { kind: 'client', attributes }, async (span) => {
    const answer = await insist(input, options);
    span.set({ 'http.response.status_code': answer.status });
    return answer;
  });
}

/** Tries until there is an answer that is accepted. */
async function insist(input: Try, { signal }: Cancellable): Promise<HookAnswer> {
  const { call, deps } = input;
  for (let attempt = 1; ; attempt += 1) {
    const got = await tryOnce(input, { signal });
    if ('status' in got) return got;
    if (!got.passing || attempt >= call.attempts) throw got.error;
    const reason = got.error.message;
    deps.log.info('hook called again soon', { hook: call.name, attempt, reason });
    const asked = Number(got.error.details.retry_after_seconds ?? 0) * 1000;
    const waitMs = WAIT_BEFORE_TRY_MS[attempt - 1] ?? WAIT_BEFORE_TRY_MS.at(-1) ?? 0;
    await deps.clock.sleep(Math.max(waitMs, Math.min(asked, MAX_RETRY_AFTER_MS)), { signal });
  }
}

function isYes(status: number): boolean {
  return status >= 200 && status <= 299;
}

function isAnswer(status: number): boolean {
  return isYes(status) || (status >= 400 && status <= 499 && !ASKS_FOR_A_MOMENT.has(status));
}

/** Settings may have changed since the job began, or be another instance's. */
function recheck(allow: AllowList, { name, url }: HookCall): URL {
  try {
    return checkTarget(allow, { field: `hooks.${name}`, url });
  } catch (cause) {
    const { message } = cause as Error;
    throw new BackupError('hook_failed', message, { details: { hook: name }, cause });
  }
}

interface Try {
  settings: GuestHookSettings;
  deps: GuestHookDeps;
  signers: readonly Webhook[];
  call: HookCall;
  url: URL;
  accepts(status: number): boolean;
}

interface Failure {
  error: BackupError;
  /** Trying again in a moment may help. */
  passing: boolean;
}

/** The answer when it is accepted. Throws only the signal's reason. */
async function tryOnce(input: Try, { signal }: Cancellable): Promise<Failure | HookAnswer> {
  const { settings, deps, call, url } = input;
  signal.throwIfAborted();
  const late = new AbortController();
  const done = new AbortController();
  const timer = deps.clock.sleep(settings.timeoutMs, { signal: done.signal }).then(
    () => late.abort(),
    () => undefined, // it was answered
  );
  try {
    const answer = await post(input, { signal: AbortSignal.any([signal, late.signal]) });
    return input.accepts(answer.status) ? answer : refused(call, url, answer);
  } catch (cause) {
    signal.throwIfAborted();
    return unanswered(call, url, { cause, lateMs: late.signal.aborted ? settings.timeoutMs : 0 });
  } finally {
    done.abort();
    await timer;
  }
}

async function post(
  { settings, deps, signers, call, url }: Try,
  { signal }: Cancellable,
): Promise<HookAnswer> {
  const { allow, caPem, timeoutMs } = settings;
  const nowMs = deps.clock.now();
  const traceparent = deps.tracer?.active()?.traceparent;
  const body = JSON.stringify({
    type: `hook.${call.name}`,
    timestamp: formatTime(nowMs),
    data: call.data,
  });
  const agent = createGuardedAgent({
    allow,
    caPem,
    connectTimeoutMs: timeoutMs,
    ...(deps.resolve === undefined ? {} : { resolve: deps.resolve }),
  });
  try {
    const stamp = new Date(nowMs);
    const response = await request(url, {
      method: 'POST',
      dispatcher: agent,
      headers: {
        'content-type': 'application/json',
        'user-agent': 'xvault',
        ...(traceparent === undefined ? {} : { traceparent }),
        'webhook-id': call.id,
        'webhook-timestamp': String(Math.floor(nowMs / 1000)),
        'webhook-signature': signers.map((one) => one.sign(call.id, stamp, body)).join(' '),
      },
      body,
      signal,
      headersTimeout: 0, // the whole try has one time-out
      bodyTimeout: 0,
    });
    const { statusCode: status, headers } = response;
    // a yes needs no words; who asks to be called again may say why
    const text =
      isYes(status) && status !== 202
        ? ''
        : await readStart(response.body, String(headers['content-type'] ?? ''));
    return { status, text, retryAfterSeconds: secondsOf(headers['retry-after']) };
  } finally {
    // an answer's body may have no end: whatever is left of it goes with the connection
    await agent.destroy();
  }
}

/** The guest's own words, if it sent any: `detail` of a problem, or plain text. */
async function readStart(body: AsyncIterable<Buffer>, type: string): Promise<string> {
  const text = await firstText(body, MAX_ANSWER_BYTES);
  if (/^text\/plain\b/.test(type)) return printable(text);
  if (!/^application\/([a-z.-]+\+)?json\b/.test(type)) return '';
  try {
    const { detail } = JSON.parse(text) as { detail?: unknown };
    return typeof detail === 'string' ? printable(detail) : '';
  } catch {
    return ''; // only words for people are lost
  }
}

function printable(text: string): string {
  return text
    .replace(/[\p{C}\s"]+/gu, ' ')
    .trim()
    .slice(0, MAX_TOLD_CHARACTERS);
}

/** Any other answer is a veto. One that asks for a moment is worth another attempt of the whole job. */
function refused({ name }: HookCall, url: URL, answer: HookAnswer): Failure {
  const { status, text, retryAfterSeconds } = answer;
  const said = text === '' ? '' : ` "${text}"`;
  const redirect = status >= 300 && status <= 399 ? ' (redirects are not followed)' : '';
  const message = `call ${name}: answered ${status}${said}${redirect}, url=${shown(url)}`;
  const error = new BackupError('hook_failed', message, {
    details: {
      hook: name,
      url: shown(url),
      status,
      ...(retryAfterSeconds === undefined ? {} : { retry_after_seconds: retryAfterSeconds }),
    },
    retry: ASKS_FOR_A_MOMENT.has(status) ? 'later' : 'after-fix',
  });
  return { error, passing: status >= 500 || ASKS_FOR_A_MOMENT.has(status) };
}

/** A guest that is too slow will be so next time; one that cannot be reached may be back soon. */
function unanswered(
  { name }: HookCall,
  url: URL,
  { cause, lateMs }: { cause: unknown; lateMs: number },
): Failure {
  const reason = lateMs > 0 ? `no answer in ${lateMs} ms` : reasonOf(cause);
  // the guard's refusal does not pass
  const passing = !isBackupError(cause);
  const error = new BackupError('hook_failed', `call ${name}: ${reason}, url=${shown(url)}`, {
    details: { hook: name, url: shown(url) },
    retry: passing && lateMs === 0 ? 'later' : 'after-fix',
    cause,
  });
  return { error, passing };
}

/** Without its query: that may hold what others must not read. */
function shown(url: URL): string {
  return `${url.origin}${url.pathname}`;
}
