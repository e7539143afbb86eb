/**
 * The frame of our pages: one style, no script, nothing from elsewhere, so that the policy can forbid everything else.
 *
 * The style is allowed by its hash. All values go through hono's html tag, which escapes them.
 */
import { html, raw } from 'hono/html';
import type { Answer } from './route.ts';

const STYLE = `
:root{color-scheme:light dark;--line:#8884;--soft:#8882}
body{font:15px/1.5 system-ui,sans-serif;max-width:75rem;margin:2rem auto;padding:0 1rem}
h1{font-size:1.5rem}h2{font-size:1.15rem;margin-top:2rem}h2 code{font-size:1rem}
table{border-collapse:collapse;width:100%}th,td{text-align:left;vertical-align:top;padding:.35rem .7rem;border-bottom:1px solid var(--line)}
.n{text-align:right;font-variant-numeric:tabular-nums}code,pre{font:13px/1.45 ui-monospace,monospace}
pre{background:var(--soft);padding:.7rem;overflow:auto;border-radius:.4rem}
.tag{padding:.1rem .5rem;border-radius:1rem;font-size:.85rem;color:#fff;background:#666}
.ok{background:#1a7f37}.warning{background:#b35900}.critical{background:#c62828}.quiet{opacity:.7}
progress{width:9rem}nav a{margin-right:1rem}.k,.n,time{white-space:nowrap}.k{width:9rem}table+table{margin-top:1rem}
@media(max-width:45rem){.wide{display:none}th,td{padding:.35rem .4rem}.k{width:auto}}`;

export type Html = ReturnType<typeof html>;

let policy: Promise<string> | undefined;

/** A whole page. `refreshSeconds` lets the browser fetch it again and again. */
export async function pageAnswer(
  title: string,
  body: Html,
  { refreshSeconds }: { refreshSeconds?: number } = {},
): Promise<Answer> {
  policy ??= contentPolicy();
  const refresh = refreshSeconds
    ? html`<meta http-equiv="refresh" content="${refreshSeconds}">`
    : '';
  const page = await html`<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>${title}</title>
<meta name="viewport" content="width=device-width,initial-scale=1">${refresh}
<style>${raw(STYLE)}</style></head><body>${body}</body></html>
`;
  return {
    status: 200,
    headers: {
      'content-type': 'text/html; charset=utf-8',
      'content-security-policy': await policy,
    },
    body: String(page),
  };
}

async function contentPolicy(): Promise<string> {
  const digest = await crypto.subtle.digest('SHA-256', new TextEncoder().encode(STYLE));
  const hash = btoa(String.fromCharCode(...new Uint8Array(digest)));
  return `default-src 'none'; style-src 'sha256-${hash}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'`;
}
