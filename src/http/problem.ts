/**
 * Every error as RFC 9457 problem+json, with the headers that belong to it.
 *
 * Two kinds of errors arrive: BackupErrors, whose status stands in the table of catalog/problem.ts, and
 * HTTPExceptions for what only HTTP knows (400 broken JSON, 405, 413, 415), which carry their status themselves and
 * are told apart from other invalid requests by it. A bug is logged with its cause and shown without it.
 */
import { HTTPException } from 'hono/http-exception';
import type { z } from 'zod';
import { problemOf } from '../catalog/problem.ts';
import type { Problem } from '../catalog/record.ts';
import { BackupError, type ErrorCode, toBackupError } from '../errors.ts';
import type { Answer } from './route.ts';

/** When a repeat makes sense; the error's own details.retry_after_seconds goes before. */
const RETRY_AFTER_SECONDS: Partial<Record<ErrorCode, number>> = {
  job_conflict: 30,
  lease_held: 60,
  idempotency_in_flight: 1,
  limit_reached: 30,
  draining: 10,
  engine_unavailable: 10,
  pool_unavailable: 30,
  store_unavailable: 10,
};

/** Wrong fields the detail tells; `errors` has more. */
const SHOWN_ERRORS = 5;
/** Of a body of a megabyte everything may be wrong: nobody mends more than this at once, and answers stay small. */
const MAX_ERRORS = 50;
const MAX_ERROR_CHARACTERS = 200;

/** For a 429 or 503 that the table does not name. */
const BUSY_SECONDS = 30;

/** One wrong field of a body (RFC 6901 pointer) or one wrong query parameter. */
export interface FieldError {
  detail: string;
  pointer?: string;
  parameter?: string;
}

export type HttpProblem = Omit<Problem, 'errors'> & {
  errors?: FieldError[];
  links?: Record<string, string>;
};

/** The answer for anything thrown. */
export function problemAnswer(
  error: unknown,
  { concurrency, ...ids }: { requestId?: string; concurrency?: number },
): Answer {
  const problem =
    error instanceof HTTPException
      ? httpProblem(error, ids)
      : backupProblem(toBackupError(error), ids);
  return {
    status: problem.status,
    headers: {
      'content-type': 'application/problem+json',
      ...exceptionHeaders(error),
      ...retryHeaders(problem, concurrency),
      ...(problem.links?.job ? { link: `<${problem.links.job}>; rel="related"` } : {}),
    },
    body: JSON.stringify(problem),
  };
}

/** Errors: the invalid_request that names every wrong field, with its pointer into the body. */
export function bodyError(error: z.ZodError): BackupError {
  const errors: FieldError[] = [];
  for (const issue of error.issues) {
    if (issue.code === 'unrecognized_keys') {
      for (const key of issue.keys) {
        errors.push({ detail: 'unknown field', pointer: pointer([...issue.path, key]) });
      }
    } else errors.push({ detail: issue.message, pointer: pointer(issue.path) });
  }
  return fieldsError('body', errors);
}

/** The same for a query. */
export function queryError(errors: FieldError[]): BackupError {
  return fieldsError('query', errors);
}

function fieldsError(what: string, all: readonly FieldError[]): BackupError {
  const short = (text: string) =>
    text.length > MAX_ERROR_CHARACTERS ? `${text.slice(0, MAX_ERROR_CHARACTERS)}…` : text;
  const errors = all
    .slice(0, MAX_ERRORS)
    .map((error) =>
      Object.fromEntries(Object.entries(error).map(([name, text]) => [name, short(text)])),
    ) as unknown as FieldError[];
  return new BackupError('invalid_request', `accept ${what}: ${listed(errors, all.length)}`, {
    details: { errors },
  });
}

/** Every wrong field with what is wrong: many clients show the detail only. */
function listed(errors: readonly FieldError[], total: number): string {
  const shown = errors
    .slice(0, SHOWN_ERRORS)
    .map(({ detail, pointer: at, parameter }) => `${at ?? parameter}: ${detail}`);
  const more = total - shown.length;
  return `${shown.join('; ')}${more > 0 ? `; and ${more} more` : ''}`;
}

function backupProblem(error: BackupError, ids: { requestId?: string }): HttpProblem {
  const { details = {}, errors: _errors, ...problem } = problemOf(error, ids);
  const { errors, www_authenticate: _, ...shown } = details;
  const jobId = typeof shown.job_id === 'string' ? shown.job_id : undefined;
  return {
    ...problem,
    // a bug's message may hold anything; the log has it under the request id
    ...(error.code === 'internal' ? { detail: 'hit a bug: see the log, request_id' } : {}),
    ...(jobId === undefined ? {} : { job_id: jobId, links: { job: `/v1/jobs/${jobId}` } }),
    ...(Object.keys(shown).length === 0 || error.code === 'internal' ? {} : { details: shown }),
    ...(Array.isArray(errors) ? { errors: errors as FieldError[] } : {}),
  };
}

function httpProblem(error: HTTPException, ids: { requestId?: string }): HttpProblem {
  const code: ErrorCode = error.status === 404 ? 'not_found' : 'invalid_request';
  const { errors: _, ...problem } = problemOf(new BackupError(code, error.message), ids);
  return { ...problem, status: error.status };
}

/** WWW-Authenticate and Allow travel on the error itself. */
function exceptionHeaders(error: unknown): Record<string, string> {
  if (error instanceof HTTPException) {
    const headers = Object.fromEntries(error.res?.headers ?? []);
    delete headers['content-type'];
    return headers;
  }
  const challenge = error instanceof BackupError ? error.details.www_authenticate : undefined;
  return typeof challenge === 'string' ? { 'www-authenticate': challenge } : {};
}

function retryHeaders(
  problem: HttpProblem,
  concurrency: number | undefined,
): Record<string, string> {
  const own = problem.details?.retry_after_seconds;
  const busy = problem.status === 429 || problem.status === 503;
  const usual = RETRY_AFTER_SECONDS[problem.code as ErrorCode] ?? (busy ? BUSY_SECONDS : undefined);
  // what somebody has to mend first does not pass by itself
  const waits = problem.retry === 'later' ? usual : undefined;
  const seconds = typeof own === 'number' ? Math.ceil(own) : waits;
  if (seconds === undefined) return {};
  const retry = { 'retry-after': String(seconds) };
  if (problem.status !== 429 || concurrency === undefined) return retry;
  return {
    ...retry,
    'ratelimit-policy': `"jobs";q=${concurrency};qu="concurrent-requests"`,
    ratelimit: `"jobs";r=0;t=${seconds}`,
  };
}

/** RFC 6901, in the fragment form RFC 9457 shows. */
function pointer(path: readonly PropertyKey[]): string {
  const segments = path.map((name) => String(name).replaceAll('~', '~0').replaceAll('/', '~1'));
  return `#${segments.map((segment) => `/${segment}`).join('')}`;
}
