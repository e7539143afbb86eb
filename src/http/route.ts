/**
 * What a route is: data that says method, path, scope, input and answers, and the function that answers.
 *
 * The table of all routes (`routes/index.ts`) is made of these. From it come the routing itself, who may call what,
 * the strict check of query and body, the Allow header, the OpenAPI document, the page at /docs and docs/api.md,
 * so none of them can say something else than another. Handlers return plain answers, not Responses: an answer to
 * a POST can then be kept for its idempotency key.
 */
import type { Context } from 'hono';
import { z } from 'zod';
import type { Service } from '../backup/service.ts';
import type { Idempotency } from '../catalog/idempotency.ts';
import type { Chat, Job } from '../catalog/record.ts';
import type { Clock, Ids, Log } from '../ports.ts';
import type { Tracer } from '../tracer.ts';
import type { Identity, Scope, TokenTable } from './auth.ts';
import type { AskElsewhere } from './elsewhere.ts';
import type { FollowUps, Reply } from './follow-ups.ts';
import type { Holds } from './holds.ts';
import type { Delivery, SenderName, Senders } from './senders.ts';

export interface AppDeps {
  service: Service;
  idempotency: Idempotency;
  log: Log;
  clock: Clock;
  ids: Ids;
  tokens: TokenTable;
  /** What /livez, the document and the pages call this build. */
  version: string;
  /** The text of /metrics; without it the route says not_found. */
  metrics?: () => Promise<{ body: string; contentType: string }>;
  /** Nothing is traced unless given. */
  tracer?: Tracer;
  /** Tells chats what a command came to; without it they hear only what is ready in time. */
  reply?: Reply;
  /** Whether a notification of this machine's backups can lead to a chat. */
  tellsChat?(chat: Chat, vm: Job['vm']): boolean;
  /** Answers what the reading half of a service does not, from after the checks on; see elsewhere.ts. */
  elsewhere?: AskElsewhere;
}

export interface AppSettings {
  /** Who comes without a token may do all but restore, if he asks for a loopback name. For loopback listeners only. */
  loopbackWithoutToken: boolean;
  /** All but restore unless given. */
  loopbackScopes?: readonly Scope[] | undefined;
  /** GET /metrics needs no token. */
  metricsOpen: boolean;
  /** Running jobs, as the RateLimit headers announce them. */
  concurrency: number;
  /** How long a link to an archive is good; SigV4 allows seven days at most. */
  linkSeconds: number;
  /** Older than this a backup is overdue in /v1/status and on the status page, unless the caller says otherwise. */
  maxAgeSeconds: number;
  /** Who may call /hooks/; a sender that is not here has no route. */
  senders?: Senders;
  /** XVAULT_PUBLIC_URL: where people find the pages. */
  publicUrl?: string | undefined;
}

export type AppEnv = { Variables: { requestId: string; route?: string; identity?: Identity } };
export type AppContext = Context<AppEnv>;

export interface Answer {
  status: number;
  headers: Record<string, string>;
  body: string | ReadableStream<Uint8Array> | null;
}

/** What a handler gets: the request, checked, and what it may use. */
export interface Call<Query = unknown, Body = unknown> {
  c: AppContext;
  deps: AppDeps;
  settings: AppSettings;
  holds: Holds;
  followUps: FollowUps;
  routes: readonly AnyRoute[];
  /** Nobody, on a route that needs no token. */
  identity: Identity | undefined;
  query: Query;
  body: Body;
  param(name: string): string;
  /** Says whose token it is. Errors: `unauthenticated`. */
  identify(token: string): Promise<Identity>;
  /** On a route of a sender: what came, with its signature checked. */
  delivery?: Delivery;
  /** With an idempotency key: the id of what this request makes, the same when it is done again after a crash. */
  reservedId?: string;
  /** Ends a wait when the client leaves. Never given to what changes something. */
  signal: AbortSignal;
}

/** How one possible answer looks in the description. */
export interface AnswerDoc {
  description: string;
  contentType?: string;
  schema?: z.ZodType;
  example?: unknown;
  headers?: Record<string, string>;
}

export interface Route<Query extends z.ZodType = z.ZodType, Body extends z.ZodType = z.ZodType> {
  method: 'GET' | 'POST' | 'DELETE';
  /** As OpenAPI writes it: /v1/jobs/{id}. */
  path: string;
  /** 'none': no token. 'metrics': read, unless the settings open it. */
  scope: Scope | 'none' | 'metrics';
  summary: string;
  description?: string;
  /** Path parameter → what it is. */
  params?: Record<string, string>;
  /** A strict object; without it any query is refused on /v1 and ignored elsewhere. */
  query?: Query;
  /** A strict object whose fields are all optional: an empty body counts as {}. */
  body?: Body;
  /** Understands Prefer: wait=N. */
  waits?: boolean;
  /** Also takes a token as the password of Basic, for people with browsers. Only for GET of pages. */
  basic?: boolean;
  /** For browsers: takes the cookie of /login, sends there who has none, and tells errors as pages. Only for GET. */
  session?: boolean;
  /** The body is a form of a page of ours, and of no other. Its answer is not remembered: it may hold a cookie. */
  form?: boolean;
  /** Called by this sender, with a signature instead of a token, and an id of its own for the idempotency key. */
  sender?: SenderName;
  /** On a route without a token: whether this request asks for more, which needs scope read. */
  wantsDetails?(c: AppContext): boolean;
  /** Answers with a weak ETag and honours If-None-Match. */
  conditional?: boolean;
  answers: Record<number, AnswerDoc>;
  handle(call: Call<z.output<Query>, z.output<Body>>): Answer | Promise<Answer>;
  /** After the answer was remembered for its idempotency key: may hold it back and make it better. */
  hold?(call: Call<z.output<Query>, z.output<Body>>, answer: Answer): Promise<Answer>;
}

// A list of routes with different inputs: what fits together was checked where each was defined.
// biome-ignore lint/suspicious/noExplicitAny: the only type that holds routes of every input
export type AnyRoute = Route<any, any>;

/** Checks one route's handler against its own input schemas. */
export function defineRoute<
  Query extends z.ZodType = z.ZodUndefined,
  Body extends z.ZodType = z.ZodUndefined,
>(route: Route<Query, Body>): AnyRoute {
  return route;
}

/** A JSON answer. */
export function jsonAnswer(
  status: number,
  value: unknown,
  headers: Record<string, string> = {},
): Answer {
  return {
    status,
    headers: { 'content-type': 'application/json', ...headers },
    body: JSON.stringify(value),
  };
}

/** A text answer of any type. */
export function textAnswer(status: number, contentType: string, body: string): Answer {
  return { status, headers: { 'content-type': contentType }, body };
}

/** The scope a caller needs, in words of the tables. */
export function scopeOf({ scope, sender }: AnyRoute): string {
  if (sender !== undefined) return 'signature';
  return scope === 'metrics' ? 'read' : scope;
}

/** Names of a route's query parameters. */
export function queryNames(route: AnyRoute): string[] {
  return route.query instanceof z.ZodObject ? Object.keys(route.query.shape) : [];
}
