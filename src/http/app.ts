/**
 * The HTTP front as one function from Request to Response: `createApp(deps, settings).fetch`.
 *
 * Web APIs only, so that it runs on Node and on Workers; `serve` gives it a socket. For every request, in this
 * order: request id and headers that never depend on the answer, who calls and whether he may, query, body (only of
 * a POST, at most 1 MiB), idempotency key, the route's handler, entity tag. Whatever throws becomes a problem in one
 * place. What changes something runs outside the caller's signal: a webhook sender that hangs up after ten seconds
 * has still started one backup, and its repeat gets that answer.
 */
import { Hono } from 'hono';
import { bodyLimit } from 'hono/body-limit';
import { HTTPException } from 'hono/http-exception';
import type { ContentfulStatusCode } from 'hono/utils/http-status';
import type { RememberedAnswer } from '../catalog/idempotency.ts';
import { toBackupError } from '../errors.ts';
import { NEVER } from '../signals.ts';
import { type Auth, createAuth, type Identity, requireScope } from './auth.ts';
import { NotHere } from './elsewhere.ts';
import { createFollowUps, type FollowUps } from './follow-ups.ts';
import { createHolds, type Holds } from './holds.ts';
import {
  MAX_BODY_BYTES,
  matchesEtag,
  readBody,
  readIdempotencyKey,
  readQuery,
  readSigned,
  weakEtag,
} from './input.ts';
import { errorPage } from './pages/error-page.ts';
import { problemAnswer } from './problem.ts';
import type { Answer, AnyRoute, AppContext, AppDeps, AppEnv, AppSettings, Call } from './route.ts';
import { ROUTES } from './routes/index.ts';
import { type Delivery, readDelivery, type SenderName, senderOf } from './senders.ts';
import { refuseForeignForm, sessionToken, wantsHtml } from './session.ts';
import { traceRequest } from './trace.ts';

export type { TokenTable } from './auth.ts';
export type { AppDeps, AppSettings } from './route.ts';

/** A caller's own request id is taken over if it can stand in a log line as it is. */
const REQUEST_ID = /^[A-Za-z0-9._:-]{1,64}$/;
const TRACE_PARENT = /^[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}$/;

const STANDING_HEADERS = Object.entries({
  'cache-control': 'no-store',
  'content-security-policy': "default-src 'none'; frame-ancestors 'none'",
  'cross-origin-resource-policy': 'same-origin',
  'referrer-policy': 'no-referrer',
  'x-content-type-options': 'nosniff',
});

interface Parts {
  deps: AppDeps;
  settings: AppSettings;
  auth: Auth;
  holds: Holds;
  followUps: FollowUps;
}

type Limit = ReturnType<typeof bodyLimit>;

/** Builds the app. Errors: `configuration` for a wrong token table. */
export function createApp(deps: AppDeps, settings: AppSettings): Hono<AppEnv> {
  const auth = createAuth(deps.tokens, settings);
  const followUps = createFollowUps({ ...deps, reply: deps.reply });
  const parts: Parts = { deps, settings, auth, holds: createHolds(), followUps };
  const app = new Hono<AppEnv>();
  const limit = bodyLimit({
    maxSize: MAX_BODY_BYTES,
    onError: () => {
      throw new HTTPException(413, {
        message: `read body: it is larger than ${MAX_BODY_BYTES} bytes`,
      });
    },
  });

  app.use(async (c, next) => {
    beginRequest(c, deps);
    refuseTwoHosts(c);
    const startedAt = deps.clock.elapsed();
    await traceRequest(c, deps.tracer, async () => {
      await next();
      logRequest(c, deps, startedAt);
    });
  });
  for (const route of ROUTES) {
    const path = route.path.replaceAll(/\{(\w+)\}/g, ':$1');
    app.use(path, (c, next) => {
      c.set('route', route.path);
      return next();
    });
    if (route.session) app.get(path, (c) => answerBrowser(c, route, parts));
    else if (route.method === 'GET') app.get(path, (c) => answerGet(c, route, parts));
    else app.on(route.method, path, (c) => answerPost(c, route, parts, limit));
  }
  app.notFound((c) => {
    throw routeError(c);
  });
  app.onError((error, c) => {
    logError(error, c, deps);
    return respond(c, errorAnswer(error, c, settings));
  });
  return app;
}

async function answerGet(c: AppContext, route: AnyRoute, parts: Parts): Promise<Response> {
  const identity = await authorise(c, route, parts);
  const call = newCall(c, route, parts, { identity, body: undefined });
  const answer = await handleHere(call, route);
  if (answer instanceof Response) return answer;
  if (c.req.method === 'HEAD' && answer.body instanceof ReadableStream) {
    // nobody will read it: a stream left alone would keep its place for ever
    await answer.body.cancel();
    return respond(c, { ...answer, body: null });
  }
  if (!route.conditional || answer.status !== 200 || typeof answer.body !== 'string') {
    return respond(c, answer);
  }
  const etag = weakEtag(answer.body);
  if (matchesEtag(c.req.header('if-none-match'), etag)) {
    const { 'content-type': _, ...headers } = answer.headers;
    return respond(c, { status: 304, headers: { ...headers, etag }, body: null });
  }
  return respond(c, { ...answer, headers: { ...answer.headers, etag } });
}

/** Who comes with a browser gets what went wrong as a page, and can sign in. */
async function answerBrowser(c: AppContext, route: AnyRoute, parts: Parts): Promise<Response> {
  try {
    return await answerGet(c, route, parts);
  } catch (error) {
    if (!wantsHtml(c.req.header('accept'))) throw error;
    logError(error, c, parts.deps);
    return respond(c, await errorPage(error, { path: c.req.path, requestId: c.get('requestId') }));
  }
}

async function answerPost(
  c: AppContext,
  route: AnyRoute,
  parts: Parts,
  limit: Limit,
): Promise<Response> {
  const call =
    route.sender === undefined
      ? await newPost(c, route, parts, limit)
      : await newDelivery(c, { route, name: route.sender }, parts, limit);
  if (parts.deps.elsewhere !== undefined) {
    // what changes something is the engine's to remember; what is answered here changes nothing
    const answer = await handleHere(call, route);
    return answer instanceof Response ? answer : respond(c, answer);
  }
  const key = route.sender === undefined ? keyOf(c, route) : call.delivery?.key;
  const first =
    key === undefined
      ? { answer: await route.handle(call), replayed: false }
      : await answerOnce(call, route, key);
  const answer =
    first.answer.status < 300 ? await holdQuietly(call, route, first.answer) : undefined;
  const shown = answer ?? first.answer;
  if (!first.replayed) return respond(c, shown);
  return respond(c, { ...shown, headers: { ...shown.headers, 'idempotency-replayed': 'true' } });
}

/** What waits looks again and again. */
function holdQuietly(call: Call, route: AnyRoute, answer: Answer): Promise<Answer> | undefined {
  const wait = () => route.hold?.(call, answer);
  return call.deps.tracer === undefined ? wait() : call.deps.tracer.quietly(wait);
}

async function newPost(c: AppContext, route: AnyRoute, parts: Parts, limit: Limit): Promise<Call> {
  const identity = await authorise(c, route, parts);
  if (route.form) refuseForeignForm(originOf(c));
  keyOf(c, route);
  // the limit may replace the request by one whose body it has counted
  await limit(c, () => Promise.resolve());
  // read as bytes first: text has lost those that are none
  if (parts.deps.elsewhere !== undefined) await c.req.arrayBuffer();
  return newCall(c, route, parts, { identity, body: await readBody(route, c) });
}

/** Errors: 400 for a key that is none, before anything is done. */
function keyOf(c: AppContext, route: AnyRoute): string | undefined {
  return route.form ? undefined : readIdempotencyKey(c.req.header('idempotency-key'));
}

/** Nothing is read from the body before its signature was found right. Errors: `not_found`, `unauthenticated`. */
async function newDelivery(
  c: AppContext,
  { route, name }: { route: AnyRoute; name: SenderName },
  parts: Parts,
  limit: Limit,
): Promise<Call> {
  const sender = senderOf(parts.settings.senders, name);
  await limit(c, () => Promise.resolve());
  const delivery = await readDelivery(name, {
    sender,
    header: (header) => c.req.header(header),
    bytes: new Uint8Array(await c.req.arrayBuffer()),
    nowMs: parts.deps.clock.now(),
  });
  const { identity } = delivery;
  c.set('identity', identity);
  const body = readSigned(route, c, delivery.text);
  return newCall(c, route, parts, { identity, body, delivery });
}

/** The route's own answer, or that of whoever is asked instead (elsewhere.ts). */
async function handleHere(call: Call, route: AnyRoute): Promise<Answer | Response> {
  try {
    return await route.handle(call);
  } catch (error) {
    const { c, deps, identity } = call;
    if (!(error instanceof NotHere) || deps.elsewhere === undefined) throw error;
    const { url, method } = c.req;
    const headers = new Headers(c.req.raw.headers);
    headers.set('request-id', c.get('requestId'));
    const body = changes(c) && c.req.raw.body !== null ? await c.req.arrayBuffer() : null;
    const request = new Request(url, { method, headers, body, redirect: 'manual' });
    const { wanted } = error;
    const answer = await deps.elsewhere({ wanted, request, path: route.path, identity });
    // with our own headers where it has none: it may come from what keeps the engine
    const { status, headers: theirs, body: bytes } = answer;
    return respond(c, { status, headers: Object.fromEntries(theirs), body: bytes });
  }
}

/** The first answer to a key, made now or remembered. An error that may pass is thrown, not remembered. */
async function answerOnce(
  call: Call,
  route: AnyRoute,
  key: string,
): Promise<{ answer: Answer; replayed: boolean }> {
  const { c, deps, settings } = call;
  const work = async (reservedId: string): Promise<RememberedAnswer> => {
    try {
      return remembered(await route.handle({ ...call, reservedId }));
    } catch (error) {
      const answer = errorAnswer(error, c, settings);
      const passing = toBackupError(error).retry === 'later';
      if (passing || answer.status >= 500 || answer.status === 429) throw error;
      return remembered(answer);
    }
  };
  const tokenName = call.identity?.name ?? '';
  const { method, path } = c.req;
  // what is asked for may also stand in the query
  const body = route.query === undefined ? call.body : { query: call.query, body: call.body };
  const request = { tokenName, key, method, path, body };
  return await deps.idempotency.run(request, work, { signal: NEVER });
}

function remembered(answer: Answer): RememberedAnswer {
  if (typeof answer.body !== 'string') throw new Error('a POST must answer with text');
  return { status: answer.status, headers: answer.headers, body: answer.body };
}

/** Errors: `unauthenticated`, `forbidden`. */
async function authorise(
  c: AppContext,
  route: AnyRoute,
  { auth, settings }: Parts,
): Promise<Identity | undefined> {
  const open = route.scope === 'none' || (route.scope === 'metrics' && settings.metricsOpen);
  if (open && !route.wantsDetails?.(c)) return undefined;
  const session = route.session ? sessionToken(c.req.header('cookie')) : undefined;
  const authorization = c.req.header('authorization') ?? (session && `Bearer ${session}`);
  const identity = await auth.identify(
    { authorization, ...originOf(c) },
    { basic: route.basic === true },
  );
  c.set('identity', identity);
  const scope = route.scope === 'none' || route.scope === 'metrics' ? 'read' : route.scope;
  requireScope(identity, scope);
  return identity;
}

function originOf(c: AppContext) {
  return {
    host: c.req.header('host') ?? new URL(c.req.url).host,
    origin: c.req.header('origin'),
    secFetchSite: c.req.header('sec-fetch-site'),
  };
}

function newCall(
  c: AppContext,
  route: AnyRoute,
  { deps, settings, holds, followUps, auth }: Parts,
  input: { identity: Identity | undefined; body: unknown; delivery?: Delivery },
): Call {
  const mark = c.req.url.indexOf('?');
  const search = mark === -1 ? undefined : new URLSearchParams(c.req.url.slice(mark + 1));
  return {
    c,
    deps,
    settings,
    holds,
    followUps,
    routes: ROUTES,
    ...input,
    query: readQuery(route, search),
    param: (name) => c.req.param(name) ?? '',
    identify: (token) =>
      auth.identify({ authorization: `Bearer ${token}`, ...originOf(c) }, { basic: false }),
    get signal() {
      return c.req.raw.signal;
    },
  };
}

function respond(c: AppContext, { status, headers, body }: Answer): Response {
  // every status below 600 is fine with a null body; Hono's type wants the two told apart
  return c.body(body as string, status as ContentfulStatusCode, headers);
}

function errorAnswer(error: unknown, c: AppContext, { concurrency }: AppSettings): Answer {
  const requestId = c.get('requestId');
  // the announced limit is that of jobs: only a POST can have met it
  const ids = changes(c) ? { requestId, concurrency } : { requestId };
  return problemAnswer(error, ids);
}

const changes = (c: AppContext) => c.req.method === 'POST' || c.req.method === 'DELETE';

/** 405 with Allow where another method would have done, else 404. */
function routeError(c: AppContext): HTTPException {
  const methods = ROUTES.filter((route) => pathPattern(route.path).test(c.req.path)).map(
    (route) => route.method,
  );
  if (methods.length === 0) {
    return new HTTPException(404, {
      message: `find ${c.req.method} ${c.req.path.slice(0, 200)}: no such route`,
    });
  }
  const allow = methods.flatMap((method) => (method === 'GET' ? ['GET', 'HEAD'] : [method]));
  return new HTTPException(405, {
    message: `use ${allow.join(', ')} on ${c.req.path.slice(0, 200)}: it does not know ${c.req.method}`,
    res: new Response(null, { headers: { allow: allow.join(', ') } }),
  });
}

function pathPattern(path: string): RegExp {
  return new RegExp(`^${path.replaceAll('.', '\\.').replaceAll(/\{\w+\}/g, '[^/]+')}$`);
}

function beginRequest(c: AppContext, { ids, service }: AppDeps): void {
  const given = c.req.header('request-id');
  const requestId = given !== undefined && REQUEST_ID.test(given) ? given : ids.uuid();
  c.set('requestId', requestId);
  c.header('request-id', requestId);
  for (const [name, value] of STANDING_HEADERS) c.header(name, value);
  // lets the listener close soon: an idle kept-alive connection would hold it for seconds
  if (service.draining) c.header('connection', 'close');
}

/** RFC 9112, 3.2: somebody on the way may have gone by the other one. */
function refuseTwoHosts(c: AppContext): void {
  if (!c.req.header('host')?.includes(',')) return;
  throw new HTTPException(400, { message: 'read Host: there is more than one' });
}

function logRequest(c: AppContext, { log, clock, tracer }: AppDeps, startedAt: number): void {
  // a line that is written in a span has the ids of that
  const given = tracer?.active() === undefined ? c.req.header('traceparent') : undefined;
  const traceId = TRACE_PARENT.exec(given ?? '')?.[1];
  // the job or run it started: from here on the lines have that id
  const started = c.res.status < 300 ? c.res.headers.get('location') : null;
  const fields = {
    request_id: c.get('requestId'),
    method: c.req.method,
    path: c.req.path,
    status: c.res.status,
    seconds: Math.round(clock.elapsed() - startedAt) / 1000,
    token_name: c.get('identity')?.name,
    ...(started === null ? {} : { started }),
    ...(traceId === undefined ? {} : { trace_id: traceId }),
  };
  // polls come by the thousand; what changes something or failed is worth a line
  if (changes(c) || c.res.status >= 500) log.info('request', fields);
  else log.debug('request', fields);
}

function logError(error: unknown, c: AppContext, { log }: AppDeps): void {
  if (error instanceof HTTPException) return;
  const { code } = toBackupError(error);
  const fields = { request_id: c.get('requestId'), path: c.req.path, code, error };
  if (code === 'internal') log.error('request failed', fields);
  else log.debug('request refused', fields);
}
