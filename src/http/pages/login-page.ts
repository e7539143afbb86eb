/** The page that asks for a token. */
import { html } from 'hono/html';
import type { Html } from '../page.ts';

/** The body of the page; `to`: where to go on. */
export function loginPage({ to, wrong }: { to: string; wrong?: string }): Html {
  return html`<h1>Sign in</h1>
${wrong ? html`<p class="wrong" role="alert">${wrong}</p>` : ''}
<form method="post" action="/login"><input type="hidden" name="to" value="${to}">
<label for="token">Token with scope read</label>
<input id="token" name="token" type="password" required autofocus autocomplete="current-password" spellcheck="false">
<button>Sign in</button></form>
<p class="quiet">It is kept in a cookie of this browser for twelve hours and opens these pages only; nothing can be changed with it.
Administrators give tokens in <code>XVAULT_TOKENS_FILE</code>.</p>`;
}
