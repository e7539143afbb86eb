/**
 * A request as a span, by the conventions for HTTP servers; a caller's own trace (W3C `traceparent`) is gone on with.
 *
 * Probes and scrapes are left out: they come every few seconds for ever. Of what only looks, the calls behind it are left out
 * unless they fail, for the same reason. The query is left out, too: people put tokens there, though none is taken from it.
 */
import type { Span, Tracer } from '../tracer.ts';
import type { AppContext } from './route.ts';

const UNTRACED = new Set(['/livez', '/readyz', '/healthz', '/metrics', '/favicon.ico']);

/** Runs the rest of the request in a span, which is named after its route once that is known. */
export async function traceRequest(
  c: AppContext,
  tracer: Tracer | undefined,
  work: () => Promise<void>,
): Promise<void> {
  const { method, path } = c.req;
  if (tracer === undefined || UNTRACED.has(path)) return await work();
  const attributes = {
    'http.request.method': method,
    'url.path': path,
    'url.scheme': new URL(c.req.url).protocol.slice(0, -1),
    'user_agent.original': c.req.header('user-agent'),
    'xvault.request.id': c.get('requestId'),
  };
  const parent = c.req.header('traceparent');
  const options = { kind: 'server', root: true, parent, attributes } as const;
  await tracer.span(method, options, async (span) => {
    await (changes(method) ? work() : tracer.quietly(work));
    describe(c, span);
  });
}

function describe(c: AppContext, span: Span): void {
  const { status } = c.res;
  const route = c.get('route');
  if (route !== undefined) span.rename(`${c.req.method} ${route}`);
  span.set({
    'http.route': route,
    'http.response.status_code': status,
    'xvault.token.name': c.get('identity')?.name,
  });
  // what the caller did wrong is no failure of the server
  if (status >= 500) span.fail(String(status));
}

const changes = (method: string) => method === 'POST' || method === 'DELETE';
