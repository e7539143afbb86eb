/** The page at /docs: the route table for people, with a curl line each. */
import { html } from 'hono/html';
import type { Html } from './page.ts';
import { type AnyRoute, queryNames, scopeOf } from './route.ts';

/** The body of the page. */
export function docsPage(routes: readonly AnyRoute[], origin: string): Html {
  return html`<h1>xvault: the HTTP API</h1>
<p>The description for machines is <a href="/openapi.json">/openapi.json</a>; the state of the backups is <a href="/">here</a>.
Errors are problems (RFC 9457) with a <code>code</code>. Every POST takes an <code>Idempotency-Key</code>.</p>
${routes.map((route) => section(route, origin))}`;
}

function section(route: AnyRoute, origin: string): Html {
  const answers = Object.entries(route.answers).map(
    ([status, { description }]) =>
      html`<tr><td><code>${status}</code></td><td>${description}</td></tr>`,
  );
  const names = [
    ...Object.entries(route.params ?? {}).map(([name, text]) => `${name}: ${text}`),
    ...queryNames(route).map((name) => `?${name}=`),
  ];
  return html`<h3><code>${route.method} ${route.path}</code></h3>
<p>${route.summary}. ${route.description ?? ''} <span class="quiet">scope: ${scopeOf(route)}</span></p>
${names.length ? html`<p class="quiet">${names.join(' · ')}</p>` : ''}
<pre>${curlLine(route, origin)}</pre>
<table><tbody>${answers}</tbody></table>`;
}

function curlLine(route: AnyRoute, origin: string): string {
  const token = route.scope === 'none' ? '' : ' -H "Authorization: Bearer $TOKEN"';
  const post = route.method === 'POST' ? ' -X POST' : '';
  const path = route.path.replaceAll(/\{(\w+)\}/g, (_, name: string) => `$${name.toUpperCase()}`);
  const flags = route.path.endsWith('/xva') ? '-fL -OJ' : '-fsS';
  return `curl ${flags}${post}${token} "${origin}${path}"`;
}
