/**
 * One session with the pool, whichever member is its master.
 *
 * Opened when first needed, reused by everybody, made anew when the pool lost it (a restart or a new master forgets all
 * sessions), logged out by `close`. It carries the originator `xvault`: sessions without one share a cap of 400 with all other
 * users of root. Any member may be asked; a slave answers HOST_IS_SLAVE with the master's bare address, and scheme and
 * port of the configured URL are kept. A wrong password costs 5 s in the pool and raises alarms there: it is tried once and
 * remembered for a while. Source: xen-api ocaml/xapi/xapi_session.ml.
 *
 * What may be sent twice: anything the pool did not take (no connection, HOST_IS_SLAVE, SESSION_INVALID,
 * TOO_MANY_PENDING_TASKS); after a broken answer only calls that read.
 */
import { BackupError, isBackupError } from '../errors.ts';
import type { Clock, Log, Meter } from '../ports.ts';
import { untilAborted } from '../signals.ts';
import { answering } from './answering.ts';
import type { XapiParam, XapiValue } from './codec.ts';
import type { Connections } from './connection.ts';
import { isXapiError, translate } from './errors.ts';
import { formatAuthority, formatOrigin, type Origin, withAddress } from './origin.ts';
import type { Redactor } from './redact.ts';
import type { TrustBook } from './trust.ts';

/** The pool ignores its value; the place must be filled to pass the originator. */
const API_VERSION = '2.0';
/** Slaves that point at each other while the master moves. */
const MAX_HOPS = 3;
/** Broken twice, then once more on a new session or member. */
const MAX_ATTEMPTS = 3;
/** 1 + 2 + 4 + 8 s: the pool drops tasks within seconds when it is only busy. */
const MAX_BUSY_RETRIES = 4;
const BUSY_RETRY_MS = 1000;
/** A person mends a password; until then nobody is locked out by us. */
const REFUSAL_MS = 5 * 60_000;
const LOGOUT_MS = 5_000;
const MAX_MEMBERS = 64;

export interface SessionSettings {
  pool: string;
  origins: readonly Origin[];
  username: string;
  password: string;
  originator: string;
  callTimeoutMs: number;
}

export interface SessionDeps {
  connections: Connections;
  trust: TrustBook;
  redactor: Redactor;
  clock: Clock;
  log: Log;
  meter: Meter;
}

export interface CallOptions {
  signal: AbortSignal;
  timeoutMs?: number;
}

export interface Live {
  readonly ref: string;
  /** The master, as we reach it. */
  readonly origin: Origin;
}

export interface Session {
  /** One call, the session as its first parameter. Errors: XapiError (redacted), `pool_*`. */
  call(method: string, params: readonly XapiParam[], options: CallOptions): Promise<XapiValue>;
  /** A call without session, to the master. */
  callBare(method: string, options: CallOptions): Promise<XapiValue>;
  /** The session itself, for what goes past `call`; opened when there is none. */
  open(options: { signal: AbortSignal }): Promise<Live>;
  /** Says that the pool does not know this session any more. */
  forget(live: Live): void;
  /** Addresses to try when the configured ones do not answer. */
  learnMembers(addresses: readonly string[]): void;
  close(): Promise<void>;
}

/** The session of one pool. */
export function createSession(settings: SessionSettings, deps: SessionDeps): Session {
  let live: Live | undefined;
  let opening: Promise<Live> | undefined;
  let members: readonly string[] = [];
  let lastGood: Origin | undefined;
  const closing = new AbortController();
  const login = createLogin(settings, deps);

  const forget = (gone: Live) => {
    if (live === gone) live = undefined;
  };
  const open = async ({ signal }: { signal: AbortSignal }): Promise<Live> => {
    signal.throwIfAborted();
    closing.signal.throwIfAborted();
    if (live !== undefined) return live;
    opening ??= login(candidates(settings.origins, lastGood, members), closing.signal)
      .then((opened) => {
        live = opened;
        lastGood = opened.origin;
        return opened;
      })
      .finally(() => {
        opening = undefined;
      });
    return await untilAborted(opening, signal);
  };
  const session = { open, forget, settings, deps };
  return {
    open,
    forget,
    call: (method, params, options) => callWithRetry(session, { method, params }, options),
    callBare: async (method, options) => {
      const { origin } = await open(options);
      const timeoutMs = options.timeoutMs ?? settings.callTimeoutMs;
      return await deps.connections.post({ origin, method, params: [], timeoutMs }, options);
    },
    learnMembers: (addresses) => {
      members = addresses.slice(0, MAX_MEMBERS);
    },
    close: async () => {
      const last = live ?? (await opening?.catch(() => undefined));
      live = undefined;
      if (last !== undefined) await logout(last, deps);
      closing.abort(new BackupError('draining', 'call the pool: it is closed'));
      await deps.connections.close();
    },
  };
}

interface Opened {
  open: Session['open'];
  forget: Session['forget'];
  settings: SessionSettings;
  deps: SessionDeps;
}

async function callWithRetry(
  { open, forget, settings, deps }: Opened,
  { method, params }: { method: string; params: readonly XapiParam[] },
  options: CallOptions,
): Promise<XapiValue> {
  const timeoutMs = options.timeoutMs ?? settings.callTimeoutMs;
  let busy = 0;
  for (let attempt = 1; ; ) {
    const live = await open(options);
    try {
      const { ref, origin } = live;
      const post = { origin, method, params: [ref, ...params], timeoutMs };
      return await deps.connections.post(post, options);
    } catch (thrown) {
      const error = deps.redactor.error(thrown);
      deps.meter.count('pool_call_failures', 1, { pool: settings.pool });
      if (isXapiError(error, 'TOO_MANY_PENDING_TASKS') && busy < MAX_BUSY_RETRIES) {
        await deps.clock.sleep(BUSY_RETRY_MS * 2 ** busy, options);
        busy += 1;
        continue;
      }
      const next = nextStep(error, method, attempt);
      if (next === 'throw') throw error;
      if (next === 'new session') forget(live);
      deps.log.info('xenapi call repeated', { method, attempt, reason: String(error) });
      attempt += 1;
    }
  }
}

/** What a failed call calls for. A connection that broke may be an idle one the host closed: same session first. */
function nextStep(
  error: unknown,
  method: string,
  attempt: number,
): 'throw' | 'again' | 'new session' {
  if (attempt >= MAX_ATTEMPTS) return 'throw';
  if (isXapiError(error, 'SESSION_INVALID')) return attempt === 1 ? 'new session' : 'throw';
  if (isXapiError(error, 'HOST_IS_SLAVE')) return 'new session';
  if (!isBackupError(error, 'pool_unavailable')) return 'throw';
  const { phase, timeout_ms: timedOut } = error.details;
  if (phase === 'connect') return 'new session';
  if (phase !== 'answer' || !isRead(method) || timedOut !== undefined) return 'throw';
  return attempt === 1 ? 'again' : 'new session';
}

function isRead(method: string): boolean {
  return /\.get_/.test(method);
}

/** Where a login may be tried: where it worked last, then as configured, then the members the pool named. */
function candidates(
  configured: readonly Origin[],
  lastGood: Origin | undefined,
  members: readonly string[],
): Origin[] {
  const [first] = configured;
  const others = first === undefined ? [] : members.map((address) => withAddress(first, address));
  const all = [...(lastGood === undefined ? [] : [lastGood]), ...configured, ...others];
  return [...new Map(all.map((origin) => [formatOrigin(origin), origin])).values()];
}

type Login = (origins: readonly Origin[], signal: AbortSignal) => Promise<Live>;

function createLogin(settings: SessionSettings, deps: SessionDeps): Login {
  let refusal: { at: number; error: BackupError } | undefined;
  return async (origins, signal) => {
    const { clock, log, meter } = deps;
    if (refusal !== undefined && clock.elapsed() - refusal.at < REFUSAL_MS) throw refusal.error;
    const failures: BackupError[] = [];
    for await (const origin of answering(origins, deps, { signal, failures })) {
      try {
        const opened = await loginAt(origin, { settings, deps, signal, hops: 0 });
        refusal = undefined;
        meter.count('pool_logins', 1, { pool: settings.pool });
        log.info('logged in to the pool', { address: formatAuthority(opened.origin) });
        return opened;
      } catch (error) {
        signal.throwIfAborted();
        if (!(error instanceof BackupError)) throw error;
        if (error.code === 'pool_credentials') {
          refusal = { at: clock.elapsed(), error };
          throw error;
        }
        failures.push(error);
      }
    }
    throw allFailed(settings.pool, failures);
  };
}

interface LoginContext {
  settings: SessionSettings;
  deps: SessionDeps;
  signal: AbortSignal;
  hops: number;
}

async function loginAt(origin: Origin, context: LoginContext): Promise<Live> {
  const { settings, deps, signal, hops } = context;
  let masterThumbprint: string | undefined;
  try {
    const ref = await deps.connections.post(
      {
        origin,
        method: 'session.login_with_password',
        params: [settings.username, settings.password, API_VERSION, settings.originator],
        timeoutMs: settings.callTimeoutMs,
        // A slave that refuses tells the master's certificate, over a connection we trust already.
        headers: { 'x-xenapi-request-host-certificate-thumbprint': 'sha-256:master' },
        onHeaders: (headers) => {
          const told = headers['x-xenapi-response-host-certificate-thumbprint'];
          if (typeof told === 'string') masterThumbprint = told;
        },
      },
      { signal },
    );
    if (typeof ref !== 'string' || !ref.startsWith('OpaqueRef:')) {
      throw new BackupError('pool_unavailable', 'log in to the pool: no session in the answer');
    }
    deps.redactor.add(ref);
    return { ref, origin };
  } catch (thrown) {
    const error = deps.redactor.error(thrown);
    const [address] = isXapiError(error, 'HOST_IS_SLAVE') ? error.params : [];
    if (address === undefined || hops >= MAX_HOPS) throw translate(error, 'log in to the pool');
    const master = withAddress(origin, address);
    if (masterThumbprint !== undefined && /^[0-9a-f:]{64,95}$/i.test(masterThumbprint)) {
      deps.trust.learn(master.hostname, masterThumbprint);
    }
    return await loginAt(master, { ...context, hops: hops + 1 });
  }
}

/** A wrong certificate says more than a dead member beside it. */
function allFailed(pool: string, failures: readonly BackupError[]): BackupError {
  const [only] = failures;
  const certificate = failures.find((error) => error.code === 'pool_certificate');
  if (certificate !== undefined) return certificate;
  if (only !== undefined && failures.length === 1) return only;
  return new BackupError(
    'pool_unavailable',
    `log in to the pool: no member answers, pool=${pool}`,
    {
      details: { pool, members: failures.map((error) => error.message) },
      cause: only,
    },
  );
}

async function logout({ ref, origin }: Live, { connections, redactor, log }: SessionDeps) {
  const post = { origin, method: 'session.logout', params: [ref], timeoutMs: LOGOUT_MS };
  try {
    await connections.post(post, { signal: new AbortController().signal });
  } catch (error) {
    // The pool drops an idle session by itself after a day; nothing else hangs on it.
    log.debug('logout failed', { reason: String(redactor.error(error)) });
  }
}
