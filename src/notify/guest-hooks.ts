/**
 * Calls a guest's hook: one signed POST that must be answered with 2xx in time.
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
import type { Cancellable, Clock, HookCall, Hooks, Log } from '../ports.ts';
import type { Secret } from '../secret.ts';
import { formatTime } from '../time.ts';
import { createGuardedAgent, type Resolve } from './guarded-agent.ts';

/** Before the second, third … try: a guest whose service restarts is waited for, one that is gone holds nobody long. */
const WAIT_BEFORE_TRY_MS = [1_000, 5_000, 15_000];
/** A guest may ask for more patience, but not for more than this. */
const MAX_RETRY_AFTER_MS = 30_000;
/** Of the answer's text: what is read, and what is told. */
const MAX_ANSWER_BYTES = 4_096;
const MAX_TOLD_CHARACTERS = 200;
/** Answers that a repeat may change; a veto with another status is final. */
const PASSING = new Set([408, 425, 429]);

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
  /** The system's resolver unless given. */
  resolve?: Resolve;
}

interface Answer {
  status: number;
  text: string;
  retryAfterMs?: number | undefined;
}

/** The guest hooks of these settings. Nothing is opened before the first call. */
export function createGuestHooks(settings: GuestHookSettings, deps: GuestHookDeps): Hooks {
  const signers = settings.secrets.map((secret) => new Webhook(secret.reveal()));
  const { allow } = settings;
  return {
    check: async (input) => void checkTarget(allow, input),
    call: async (call, { signal }) => {
      const url = recheck(allow, call);
      for (let attempt = 1; ; attempt += 1) {
        try {
          return await tryOnce({ settings, deps, signers, call, url }, { signal });
        } catch (error) {
          if (!isBackupError(error) || error.retry !== 'later' || attempt >= call.attempts)
            throw error;
          const { message: reason, details } = error;
          deps.log.info('hook called again soon', { hook: call.name, attempt, reason });
          const askedMs = Math.min(Number(details.retry_after_ms ?? 0), MAX_RETRY_AFTER_MS);
          const waitMs = WAIT_BEFORE_TRY_MS[attempt - 1] ?? WAIT_BEFORE_TRY_MS.at(-1) ?? 0;
          await deps.clock.sleep(Math.max(waitMs, askedMs), { signal });
        }
      }
    },
  };
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
}

async function tryOnce(input: Try, { signal }: Cancellable): Promise<void> {
  const { settings, deps, call, url } = input;
  signal.throwIfAborted();
  const late = new AbortController();
  const done = new AbortController();
  const timer = deps.clock.sleep(settings.timeoutMs, { signal: done.signal }).then(
    () => late.abort(),
    () => undefined, // it was answered
  );
  const both = AbortSignal.any([signal, late.signal]);
  try {
    const answer = await post(input, { signal: both });
    if (answer.status < 200 || answer.status > 299) throw refused(call, url, answer);
  } catch (cause) {
    signal.throwIfAborted();
    if (isBackupError(cause) && cause.details.hook !== undefined) throw cause;
    const reason = late.signal.aborted ? `no answer in ${settings.timeoutMs} ms` : reasonOf(cause);
    const retry = isBackupError(cause) ? cause.retry : 'later';
    throw new BackupError('hook_failed', `call ${call.name}: ${reason}, url=${shown(url)}`, {
      details: { hook: call.name, url: shown(url) },
      retry,
      cause,
    });
  } finally {
    done.abort();
    await timer;
  }
}

async function post(
  { settings, deps, signers, call, url }: Try,
  { signal }: Cancellable,
): Promise<Answer> {
  const { allow, caPem, timeoutMs } = settings;
  const nowMs = deps.clock.now();
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
    const fine = status >= 200 && status <= 299;
    const text = fine ? '' : await readStart(response.body, String(headers['content-type'] ?? ''));
    return { status, text, retryAfterMs: secondsOf(headers['retry-after']) };
  } finally {
    // an answer's body may have no end: whatever is left of it goes with the connection
    await agent.destroy();
  }
}

function secondsOf(header: string | string[] | undefined): number | undefined {
  return /^\d{1,6}$/.test(String(header)) ? Number(header) * 1000 : undefined;
}

/** The guest's own words, if it sent any: `detail` of a problem, or plain text. */
async function readStart(body: AsyncIterable<Buffer>, type: string): Promise<string> {
  const pieces: Buffer[] = [];
  let bytes = 0;
  for await (const piece of body) {
    pieces.push(piece);
    bytes += piece.length;
    if (bytes >= MAX_ANSWER_BYTES) break;
  }
  const text = Buffer.concat(pieces).subarray(0, MAX_ANSWER_BYTES).toString('utf8');
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

function refused(
  { name }: HookCall,
  url: URL,
  { status, text, retryAfterMs }: Answer,
): BackupError {
  const said = text === '' ? '' : ` "${text}"`;
  const redirect = status >= 300 && status <= 399 ? ' (redirects are not followed)' : '';
  const passing = status >= 500 || PASSING.has(status);
  return new BackupError(
    'hook_failed',
    `call ${name}: answered ${status}${said}${redirect}, url=${shown(url)}`,
    {
      details: {
        hook: name,
        url: shown(url),
        status,
        ...(retryAfterMs === undefined ? {} : { retry_after_ms: retryAfterMs }),
      },
      retry: passing ? 'later' : 'after-fix',
    },
  );
}

function reasonOf(cause: unknown): string {
  if (!(cause instanceof Error)) return String(cause);
  const { code } = cause as NodeJS.ErrnoException;
  // happy eyeballs: one error for each address, in an error without words
  const text = cause.message || String((cause as AggregateError).errors?.[0]?.message ?? '');
  return code === undefined || text.includes(code) ? text : `${text} (${code})`;
}

/** Without its query: that may hold what others must not read. */
function shown(url: URL): string {
  return `${url.origin}${url.pathname}`;
}
