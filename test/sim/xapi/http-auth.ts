/**
 * Who calls an HTTP handler: query, cookie, Basic; and the parameters handlers take.
 *
 * Source: xen-api `ocaml/xapi/xapi_http.ml`, `ocaml/libs/http-lib/http.ml`. Session: cookie before query, then Basic.
 * xapi <= 24.19 splits a Cookie header at `&` only; later ones at `;` if there is one, without trimming spaces.
 */
import type { IncomingMessage } from 'node:http';
import { assertCredentials, assertSession } from './sessions.ts';
import { nowDate, type Sim, type SimHost } from './sim.ts';

export interface HandlerRequest {
  path: string;
  query: ReadonlyMap<string, string>;
  cookie: ReadonlyMap<string, string>;
  /** The query as it came, for redirects. */
  rawQuery: string;
}

function parsePairs(source: string, separator: string): Map<string, string> {
  const pairs = new Map<string, string>();
  for (const part of source.split(separator)) {
    if (part === '') continue;
    const at = part.indexOf('=');
    const key = at < 0 ? part : part.slice(0, at);
    pairs.set(decodeURIComponent(key), at < 0 ? '' : decodeURIComponent(part.slice(at + 1)));
  }
  return pairs;
}

/** Splits path, query and cookies of a request as the persona's xapi does. */
export function readRequest(sim: Sim, request: IncomingMessage): HandlerRequest {
  const url = request.url ?? '/';
  const at = url.indexOf('?');
  const rawQuery = at < 0 ? '' : url.slice(at + 1);
  const cookie = request.headers.cookie ?? '';
  const modern = sim.persona.xapi.major >= 24;
  return {
    path: at < 0 ? url : url.slice(0, at),
    query: parsePairs(rawQuery, '&'),
    cookie: parsePairs(cookie, modern && cookie.includes(';') ? ';' : '&'),
    rawQuery,
  };
}

/** A parameter that may come by query or cookie. */
export function parameter(request: HandlerRequest, name: string): string | undefined {
  return request.query.get(name) ?? request.cookie.get(name);
}

export type Caller = { session: string; own: boolean } | 'unauthorised';

/** Finds out who calls. With Basic the host makes a session of its own, to be logged out afterwards. */
export async function authenticate(
  sim: Sim,
  input: {
    host: SimHost;
    request: HandlerRequest;
    header: string | undefined;
    signal: AbortSignal;
  },
): Promise<Caller> {
  const { host, request, header, signal } = input;
  const session = request.cookie.get('session_id') ?? request.query.get('session_id');
  try {
    if (session !== undefined) {
      assertSession(sim, session);
      return { session, own: false };
    }
    const match = /^Basic (.+)$/i.exec(header ?? '');
    if (match === null) return 'unauthorised';
    const plain = Buffer.from(match[1] ?? '', 'base64').toString('utf8');
    const at = plain.indexOf(':');
    const credentials = { username: plain.slice(0, at), password: plain.slice(at + 1) };
    await assertCredentials(sim, { ...credentials, signal });
    const made = sim.world.create('session', { this_host: host.ref, last_active: nowDate(sim) });
    return { session: made, own: true };
  } catch (error) {
    signal.throwIfAborted();
    if (error instanceof Error) return 'unauthorised';
    throw error;
  }
}
