/** The page at /docs: the route table for people, with a curl line and every field each. */
import { html } from 'hono/html';
import { z } from 'zod';
import type { Html } from './page.ts';
import { type AnyRoute, scopeOf } from './route.ts';

/** The body of the page. */
export function docsPage(routes: readonly AnyRoute[], origin: string): Html {
  return html`<h1>xvault: the HTTP API</h1>
<p>The description for machines is <a href="/openapi.json">/openapi.json</a>; the state of the backups is <a href="/">here</a>.
Errors are problems (RFC 9457) with a <code>code</code>. Every POST takes an <code>Idempotency-Key</code>.
In the tables <code>{…}</code> is part of the path, <code>?…</code> of the query; the others are fields of a JSON body, all optional.</p>
<ul>${routes.map((route) => html`<li><a href="#${anchor(route)}"><code>${route.method} ${route.path}</code></a> ${route.summary}</li>`)}</ul>
${routes.map((route) => section(route, origin))}`;
}

function section(route: AnyRoute, origin: string): Html {
  const answers = Object.entries(route.answers).map(
    ([status, { description }]) =>
      html`<tr><td class="k"><code>${status}</code></td><td>${withCode(description)}</td></tr>`,
  );
  const fields = [
    ...Object.entries(route.params ?? {}).map(([name, text]) =>
      fieldRow({ name: `{${name}}`, description: text }),
    ),
    ...fieldRows(route.query, '?'),
    ...fieldRows(route.body, ''),
  ];
  return html`<h2 id="${anchor(route)}"><code>${route.method} ${route.path}</code></h2>
<p>${route.summary.replace(/[^?]$/, '$&.')} ${withCode(route.description ?? '')} <span class="quiet">Scope: ${scopeOf(route)}.</span></p>
<pre>${curlLine(route, origin)}</pre>
${fields.length ? html`<table><tbody>${fields}</tbody></table>` : ''}
<table><tbody>${answers}</tbody></table>`;
}

interface Field {
  name: string;
  description?: string | undefined;
  enum?: string[] | undefined;
  default?: unknown;
}

/** A query parameter or a field of the body, as its schema describes it. */
function fieldRows(schema: z.ZodType | undefined, before: string): Html[] {
  if (schema === undefined) return [];
  const { properties = {} } = z.toJSONSchema(schema, { io: 'input' });
  return Object.entries(properties).map(([name, property]) =>
    fieldRow({ ...(property as Omit<Field, 'name'>), name: `${before}${name}` }),
  );
}

function fieldRow({ name, description = '', enum: values, default: usual }: Field): Html {
  const choice = values?.map((value, at) => html`${at > 0 ? ', ' : ''}<code>${value}</code>`);
  return html`<tr><td class="k"><code>${name}</code></td><td>${withCode(description)}
${choice ? html`<span class="quiet">One of</span> ${choice}. ` : ''}
${usual === undefined ? '' : html`<span class="quiet">Default</span> <code>${JSON.stringify(usual)}</code>.`}</td></tr>`;
}

/** Text in backticks becomes code. */
function withCode(text: string): Html[] {
  return text
    .split('`')
    .map((part, at) => (at % 2 === 1 ? html`<code>${part}</code>` : html`${part}`));
}

function anchor({ method, path }: AnyRoute): string {
  return `${method} ${path}`.toLowerCase().replaceAll(/[^a-z0-9]+/g, '-');
}

function curlLine(route: AnyRoute, origin: string): string {
  const token = route.scope === 'none' ? '' : ' -H "Authorization: Bearer $TOKEN"';
  const post = route.method === 'GET' ? '' : ` -X ${route.method}`;
  const path = route.path.replaceAll(/\{(\w+)\}/g, (_, name: string) => `$${name.toUpperCase()}`);
  const flags = route.path.endsWith('/xva') ? '-fL -OJ' : '-fsS';
  return `curl ${flags}${post}${token} "${origin}${path}"`;
}
