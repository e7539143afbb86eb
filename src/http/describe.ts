/**
 * The route table as an OpenAPI 3.1 document, and as text for docs/api.md and docs/errors.md.
 *
 * All pure: the same table in, the same text out. A test compares the files in docs/ with what comes out here.
 */
import { OpenAPIHono } from '@hono/zod-openapi';
import { z } from 'zod';
import { problemType, STATUS_OF } from '../catalog/problem.ts';
import { BackupError, ERROR_CODES, type ErrorCode } from '../errors.ts';
import { SCOPES } from './auth.ts';
import { type AnswerDoc, type AnyRoute, queryNames, scopeOf } from './route.ts';
import { httpProblemSchema } from './schemas.ts';
import { senderHeaders, sendsForms } from './senders.ts';

const IDEMPOTENCY_KEY = z.string().max(255).optional().meta({
  description: 'A repeat with the same key gets the first answer, for two days. A UUID is best.',
});
const PREFER = z.string().optional().meta({
  description: '`wait=N`: hold the answer until the job ended, at most 55 s.',
  example: 'wait=55',
});

const METHODS = { GET: 'get', POST: 'post', DELETE: 'delete' } as const;

/** The OpenAPI document. */
export function openApiDocument(routes: readonly AnyRoute[], version: string): object {
  // only its registry and generator are used: routing is app.ts's own, with answers that can be remembered
  const generator = new OpenAPIHono();
  const registry = generator.openAPIRegistry;
  registry.registerComponent('securitySchemes', 'bearer', {
    type: 'http',
    scheme: 'bearer',
    description: `A token of the settings. Scopes: ${SCOPES.join(', ')}; none implies another.`,
  });
  for (const route of routes) {
    registry.registerPath({
      method: METHODS[route.method],
      path: route.path,
      operationId: operationId(route),
      summary: route.summary,
      ...(route.description === undefined ? {} : { description: route.description }),
      tags: [tagOf(route)],
      security: route.scope === 'none' ? [] : [{ bearer: [scopeOf(route)] }],
      request: requestDoc(route),
      responses: {
        ...Object.fromEntries(
          Object.entries(route.answers).map(([status, doc]) => [status, responseDoc(doc)]),
        ),
        default: responseDoc({
          description: 'A problem (RFC 9457); `code` says which, see docs/errors.md.',
          contentType: 'application/problem+json',
          schema: httpProblemSchema,
        }),
      },
    });
  }
  return generator.getOpenAPI31Document({
    openapi: '3.1.0',
    info: {
      title: 'xvault',
      version,
      description: 'Backs up XenServer and XCP-ng machines to object storage as importable .xva.',
      license: { name: 'MIT', url: 'https://opensource.org/license/mit' },
    },
    // relative: every instance describes itself
    servers: [{ url: '/' }],
  });
}

function requestDoc(route: AnyRoute) {
  const params = Object.entries(route.params ?? {}).map(([name, description]) => [
    name,
    z.string().meta({ description }),
  ]);
  const signed = Object.entries(route.sender === undefined ? {} : senderHeaders(route.sender));
  const takesKey = route.method === 'POST' && !route.form && route.sender === undefined;
  const headers = {
    ...Object.fromEntries(
      signed.map(([name, description]) => [name, z.string().meta({ description })]),
    ),
    ...(takesKey ? { 'Idempotency-Key': IDEMPOTENCY_KEY } : {}),
    ...(route.waits ? { Prefer: PREFER } : {}),
  };
  return {
    ...(params.length === 0 ? {} : { params: z.object(Object.fromEntries(params)) }),
    ...(route.query === undefined ? {} : { query: route.query as z.ZodObject }),
    ...(Object.keys(headers).length === 0 ? {} : { headers: z.object(headers) }),
    ...(route.body === undefined
      ? {}
      : {
          body: {
            required: false,
            content: { [bodyTypeOf(route)]: { schema: route.body as z.ZodObject } },
          },
        }),
  };
}

function bodyTypeOf({ form, sender }: AnyRoute): string {
  return form || (sender !== undefined && sendsForms(sender))
    ? 'application/x-www-form-urlencoded'
    : 'application/json';
}

function responseDoc({ description, contentType, schema, example, headers }: AnswerDoc) {
  const media = { ...(schema ? { schema } : {}), ...(example === undefined ? {} : { example }) };
  return {
    description,
    ...(schema === undefined
      ? {}
      : { content: { [contentType ?? 'application/json']: media as { schema: z.ZodType } } }),
    ...(headers === undefined
      ? {}
      : {
          headers: Object.fromEntries(
            Object.entries(headers).map(([name, text]) => [
              name,
              { description: text, schema: { type: 'string' as const } },
            ]),
          ),
        }),
  };
}

/** GET /v1/jobs/{id}/events → getV1JobsIdEvents. */
function operationId({ method, path }: AnyRoute): string {
  const words = path.split(/[^A-Za-z0-9]+/).filter((word) => word !== '');
  const name = words.map((word) => `${word.charAt(0).toUpperCase()}${word.slice(1)}`).join('');
  return `${method.toLowerCase()}${name || 'Root'}`;
}

function tagOf({ path }: AnyRoute): string {
  if (path.startsWith('/hooks/')) return 'hooks';
  if (!path.startsWith('/v1/')) return 'service';
  if (path.startsWith('/v1/status')) return 'status';
  if (path.startsWith('/v1/runs')) return 'runs';
  return path.startsWith('/v1/jobs') || path === '/v1/vms/{vm}/backups' ? 'jobs' : 'backups';
}

/** docs/api.md: what the API is, with the table of its routes. */
export function apiPage(routes: readonly AnyRoute[]): string {
  const rows = routes.map(
    (route) =>
      `| \`${route.method} ${route.path}\` | ${scopeOf(route)} | ${route.summary}` +
      `${queryNames(route).length ? `; \`${queryNames(route).join('`, `')}\`` : ''} |`,
  );
  return `${API_HEAD}\n\n| call | scope | does |\n|---|---|---|\n${rows.join('\n')}\n\n${API_RULES}\n`;
}

/** docs/errors.md: one section for each code. */
export function errorsPage(): string {
  const codes = Object.keys(ERROR_CODES) as ErrorCode[];
  const sections = codes.map((code) => {
    const { retry } = new BackupError(code, '');
    const facts = `HTTP status ${STATUS_OF[code]} · retry: ${retry} · type \`${problemType(code)}\``;
    return `## ${code}\n\n${ERROR_CODES[code]}\n\n${facts}\n`;
  });
  return `${ERRORS_HEAD}\n\n${sections.join('\n')}`;
}

const GENERATED = '<!-- Made from src/http/ and src/errors.ts by `npm run docs`; do not edit. -->';

const API_HEAD = `# The HTTP API

${GENERATED}

JSON under \`/v1\`. The whole description with schemas and examples is at \`/openapi.json\` (OpenAPI 3.1) and, to read,
at \`/docs\` of every instance.`;

const API_RULES = `## Rules

- **Tokens**: \`Authorization: Bearer …\`. The scopes (${SCOPES.join(', ')}) are spelled out; none implies another. The status page,
  archives and disks also take a token as the password of Basic, any user name, for programs that read disks. A browser signs in at \`/login\`;
  its cookie opens pages and archives only, and nothing that changes anything ([status-page.md](status-page.md)). An instance on loopback may run
  without tokens: then the Host must be a loopback name and no page of another origin may call.
- **Starting work** answers 202 with the job and \`Location\`; it does not stop when the caller hangs up.
  \`Prefer: wait=N\` holds the answer until the job ended (200) or N seconds passed (202), 55 at most.
- **Idempotency-Key** on every POST, quoted or bare, 1 to 255 characters, valid for two days for the token that sent it: the same payload
  gets the first answer with \`Idempotency-Replayed: true\`, another payload 422 \`idempotency_mismatch\`, a repeat during the
  first request 409 \`idempotency_in_flight\`. Errors that may pass (409 and 429 to be tried later, 5xx) are not remembered.
- **Errors** are problems (RFC 9457) with \`code\` and \`request_id\`, see [errors.md](errors.md); \`errors\` names every wrong field by
  \`pointer\` or query \`parameter\`. A failed job is no error: 200 with \`status: "failed"\` and the problem in \`error\`.
- **Strict**: unknown body fields and unknown query parameters are refused. Bodies are JSON, at most 1 MiB.
- **Pages**: \`page_size\`, \`page_token\` → \`next_page_token\`, empty at the end.
  A list of backups may be half a minute old; once an instance has told of a job's end, its lists hold what that job made.
- **Polling**: a weak \`ETag\` and \`If-None-Match\`; \`Retry-After\` on a job that goes on. Better: \`Prefer: wait=55\`, or the events.
- \`Request-Id\` of the caller (at most 64 plain characters) is returned and logged; without one it is made.
- Integers \`*_bytes\`, times RFC 3339 in UTC, durations \`*_seconds\`.

\`\`\`sh
curl -fsS -X POST -H "Authorization: Bearer $TOKEN" -H "Idempotency-Key: $(uuidgen)" -H 'Prefer: wait=55' \\
     -H 'Content-Type: application/json' -d '{"retention":"weekly"}' http://localhost:8080/v1/vms/web-1/backups
\`\`\``;

const ERRORS_HEAD = `# Errors

${GENERATED}

Every error has one of these codes: in \`code\` of a problem (RFC 9457) over HTTP, in \`error.code\` of a failed job, and behind the exit
code of the command line. \`retry\` says whether a repeat can help: \`later\` as it is, \`after-fix\` once something was mended, \`never\`.
Broken JSON (400), a wrong method (405), too large a body (413) and a body that is not labelled as JSON (415) are \`invalid_request\` too.`;
