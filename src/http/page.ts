/**
 * The frame of our pages: one style, at most one script, nothing from elsewhere, so that the policy can forbid everything else.
 *
 * Style and script are allowed by their hashes. All values go through hono's html tag, which escapes them; its JSX would
 * need a compiler, and what Node runs here is the source itself. What would turn text round is taken out of the whole.
 */
import { html, raw } from 'hono/html';
import { unsteeredHtml } from '../plain-text.ts';
import { SCRIPT } from './pages/script.ts';
import { STYLE } from './pages/style.ts';
import type { Answer } from './route.ts';

export type Html = ReturnType<typeof html>;

const policies = new Map<boolean, Promise<string>>();

export interface PageOptions {
  status?: number;
  headers?: Record<string, string>;
  /** Follows its own events; where no script runs, the browser fetches it again this often. */
  live?: { refreshSeconds: number };
  /** Fetched again as it is: what it tells of may pass. */
  retrySeconds?: number | undefined;
  /** Who is signed in with a cookie, and can sign out. */
  signedIn?: string | undefined;
}

/** A whole page. */
export async function pageAnswer(
  title: string,
  body: Html,
  { status = 200, headers = {}, live, retrySeconds, signedIn }: PageOptions = {},
): Promise<Answer> {
  const refresh = live
    ? html`<noscript><meta http-equiv="refresh" content="${live.refreshSeconds}"></noscript>`
    : retrySeconds
      ? html`<meta http-equiv="refresh" content="${retrySeconds}">`
      : '';
  const signOut = signedIn
    ? html`<form method="post" action="/logout"><button>Sign out (${signedIn})</button></form>`
    : '';
  const page = await html`<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>${title}</title>
<meta name="viewport" content="width=device-width,initial-scale=1">${refresh}
<style>${raw(STYLE)}</style></head><body><header><a class="home" href="/">xvault</a>
<nav aria-label="Pages"><a href="/">Status</a> <a href="/runs">Runs</a> <a href="/docs">API</a> <a href="/openapi.json">OpenAPI</a></nav>${signOut}</header>
<main>${body}</main>${live ? html`<p id="live" class="quiet" role="status">Loaded anew every ${live.refreshSeconds} s.</p><script>${raw(SCRIPT)}</script>` : ''}</body></html>
`;
  return {
    status,
    headers: {
      'content-type': 'text/html; charset=utf-8',
      'content-security-policy': await policy(live !== undefined),
      // a form's Origin would be null without it, and could not be told from another site's
      'referrer-policy': 'same-origin',
      ...headers,
    },
    body: unsteeredHtml(String(page)),
  };
}

async function policy(hasScript: boolean): Promise<string> {
  const known = policies.get(hasScript) ?? contentPolicy(hasScript);
  policies.set(hasScript, known);
  return await known;
}

async function contentPolicy(hasScript: boolean): Promise<string> {
  const script = hasScript ? ` script-src ${await hashOf(SCRIPT)}; connect-src 'self';` : '';
  return `default-src 'none'; style-src ${await hashOf(STYLE)};${script} base-uri 'none'; form-action 'self'; frame-ancestors 'none'`;
}

async function hashOf(text: string): Promise<string> {
  const digest = await crypto.subtle.digest('SHA-256', new TextEncoder().encode(text));
  return `'sha256-${btoa(String.fromCharCode(...new Uint8Array(digest)))}'`;
}
