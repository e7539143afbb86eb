/**
 * What a request may say: query, JSON body, and the headers Prefer, Idempotency-Key and If-None-Match.
 *
 * Strict where a mistake would be silent (an unknown field or parameter is refused), tolerant where the standard
 * wants it (an unknown preference is ignored, RFC 7240). A body is JSON and labelled so; an absent one is {}.
 */
import { HTTPException } from 'hono/http-exception';
import { z } from 'zod';
import { bodyError, type FieldError, queryError } from './problem.ts';
import type { AnyRoute, AppContext } from './route.ts';
import { sendsForms } from './senders.ts';

/** Requests are small: the largest, with 255 disks named, stays below 64 KiB. */
export const MAX_BODY_BYTES = 1024 * 1024;
/** Below the 60 s after which common proxies cut an idle connection. */
export const MAX_WAIT_SECONDS = 55;
const MAX_KEY_CHARACTERS = 255;

const UNIT_SECONDS: Record<string, number> = { s: 1, m: 60, h: 3600, d: 86_400 };

/** 90s, 30m, 26h, 3d → seconds. */
export const durationSchema = z
  .string()
  .regex(/^\d{1,8}[smhd]$/, 'a whole number and a unit, such as 90s, 30m, 26h or 3d')
  .transform((text) => Number(text.slice(0, -1)) * (UNIT_SECONDS[text.slice(-1)] ?? 1));

/** Reads the query of a request by its route's schema. Errors: `invalid_request`, a line for each parameter. */
export function readQuery(route: AnyRoute, search: URLSearchParams | undefined): unknown {
  // without a prototype: ?__proto__=1 is a parameter like any other
  const fields: Record<string, string> = Object.create(null);
  const errors: FieldError[] = [];
  for (const [name, value] of search ?? []) {
    if (Object.hasOwn(fields, name)) errors.push({ detail: 'given twice', parameter: name });
    fields[name] = value;
  }
  if (route.query === undefined) {
    // pages and probes are called with cache busters and the like; the API is not
    if (!route.path.startsWith('/v1/')) return undefined;
    for (const name of Object.keys(fields)) {
      errors.push({ detail: 'unknown parameter', parameter: name });
    }
    if (errors.length > 0) throw queryError(errors);
    return undefined;
  }
  const result = route.query.safeParse(fields);
  if (!result.success) errors.push(...result.error.issues.flatMap(parameterErrors));
  if (errors.length > 0) throw queryError(errors);
  return result.data;
}

function parameterErrors(issue: z.core.$ZodIssue): FieldError[] {
  if (issue.code === 'unrecognized_keys') {
    return issue.keys.map((parameter) => ({ detail: 'unknown parameter', parameter }));
  }
  return [{ detail: issue.message, parameter: String(issue.path[0] ?? '') }];
}

/** Reads the body, JSON or a form, by its route's schema. Errors: 400, 415, `invalid_request`. */
export async function readBody(route: AnyRoute, c: AppContext): Promise<unknown> {
  const text = await c.req.text();
  if (route.form) return checkBody(route, Object.fromEntries(new URLSearchParams(text)));
  if (text === '') return checkBody(route, {});
  requireJson(c);
  return checkBody(route, parseJson(text));
}

/** Reads what a sender signed. Errors: 400, 415, `invalid_request`. */
export function readSigned(route: AnyRoute, c: AppContext, text: string): unknown {
  if (route.sender !== undefined && sendsForms(route.sender)) {
    return checkBody(route, Object.fromEntries(new URLSearchParams(text)));
  }
  if (isJson(c)) return checkBody(route, parseJson(text));
  const message = 'read body: it is not labelled as JSON, set the content type application/json';
  throw new HTTPException(415, { message });
}

function checkBody(route: AnyRoute, value: unknown): unknown {
  const schema = route.body ?? z.strictObject({});
  const result = schema.safeParse(value);
  if (!result.success) throw bodyError(result.error);
  return result.data;
}

/** Tells the curl line that would have been right: curl -d labels everything as a form. */
function requireJson(c: AppContext): void {
  if (isJson(c)) return;
  const type = c.req.header('content-type') ?? '';
  throw new HTTPException(415, {
    message:
      `read body of type ${type === '' ? 'none' : type.slice(0, 100)}: send JSON and say so, ` +
      `curl -X POST -H 'Content-Type: application/json' -d '{"note":"hello"}' ${c.req.url}`,
    res: new Response(null, { headers: { accept: 'application/json' } }),
  });
}

function isJson(c: AppContext): boolean {
  const type = c.req.header('content-type') ?? '';
  return /^application\/([a-z0-9.-]+\+)?json\s*(;.*)?$/i.test(type);
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    const reason = error instanceof Error ? error.message : 'broken';
    throw new HTTPException(400, { message: `read body as JSON: ${reason.slice(0, 200)}` });
  }
}

export interface Preferences {
  /** Of Prefer: wait=N; undefined when absent or unreadable. */
  waitSeconds: number | undefined;
  respondAsync: boolean;
}

/** Reads Prefer (RFC 7240). Unknown preferences are ignored. */
export function readPreferences(header: string | undefined): Preferences {
  const preferences: Preferences = { waitSeconds: undefined, respondAsync: false };
  for (const part of header?.split(',') ?? []) {
    const [name = '', value = ''] = (part.split(';')[0] ?? '').split('=').map((s) => s.trim());
    if (name.toLowerCase() === 'respond-async') preferences.respondAsync = true;
    const wait = /^"?(\d{1,9})"?$/.exec(value)?.[1];
    if (name.toLowerCase() === 'wait' && wait !== undefined) {
      preferences.waitSeconds ??= Math.min(Number(wait), MAX_WAIT_SECONDS);
    }
  }
  return preferences;
}

/** Reads Idempotency-Key, quoted as a structured field or bare. Errors: 400. */
export function readIdempotencyKey(header: string | undefined): string | undefined {
  if (header === undefined) return undefined;
  const quoted = /^"((?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\])*)"$/.exec(header)?.[1];
  const key = quoted === undefined ? header : quoted.replace(/\\(["\\])/g, '$1');
  if (/^[\x20-\x7e]+$/.test(key) && key.length <= MAX_KEY_CHARACTERS) return key;
  throw new HTTPException(400, {
    message: `read Idempotency-Key: 1 to ${MAX_KEY_CHARACTERS} printable ASCII characters, a UUID is best`,
  });
}

/** Says whether If-None-Match names this entity tag, compared weakly. */
export function matchesEtag(header: string | undefined, etag: string): boolean {
  if (header === undefined) return false;
  if (header.trim() === '*') return true;
  const opaque = etag.replace(/^W\//, '');
  return header.split(',').some((tag) => tag.trim().replace(/^W\//, '') === opaque);
}

/** A weak entity tag of a text: 64 bits, not for use against an adversary. */
export function weakEtag(text: string): string {
  let a = 0xdeadbeef;
  let b = 0x41c6ce57;
  for (let i = 0; i < text.length; i++) {
    const unit = text.charCodeAt(i);
    a = Math.imul(a ^ unit, 2654435761);
    b = Math.imul(b ^ unit, 1597334677);
  }
  a = Math.imul(a ^ (a >>> 16), 2246822507) ^ Math.imul(b ^ (b >>> 13), 3266489909);
  b = Math.imul(b ^ (b >>> 16), 2246822507) ^ Math.imul(a ^ (a >>> 13), 3266489909);
  return `W/"${(b >>> 0).toString(16).padStart(8, '0')}${(a >>> 0).toString(16).padStart(8, '0')}"`;
}
