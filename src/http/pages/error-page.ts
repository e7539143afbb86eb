/** What went wrong, for people with a browser: what it was and what mends it, or the way to sign in. */
import { html } from 'hono/html';
import { isBackupError } from '../../errors.ts';
import { pageAnswer } from '../page.ts';
import { type HttpProblem, problemAnswer } from '../problem.ts';
import type { Answer } from '../route.ts';
import { loginPath } from '../session.ts';

/** A store or pool that is away for a moment. */
const RETRY_SECONDS = 15;

/** The answer for anything thrown on the way to a page. */
export async function errorPage(
  error: unknown,
  { path, requestId }: { path: string; requestId: string },
): Promise<Answer> {
  if (isBackupError(error, 'unauthenticated')) {
    return { status: 303, headers: { location: loginPath(path) }, body: null };
  }
  const { status, headers, body } = problemAnswer(error, { requestId });
  const problem = JSON.parse(String(body)) as HttpProblem;
  const { 'content-type': _, ...kept } = headers;
  const page = html`<h1>${status === 404 ? 'Not found' : 'That did not work'}</h1>
<p class="wrong">${problem.detail}</p><p>${problem.title}</p>
<p class="quiet">${problem.code}, request <code>${requestId}</code></p>
${problem.code === 'forbidden' ? html`<p><a href="/login">Sign in with another token</a></p>` : ''}`;
  const retrySeconds = problem.retry === 'later' ? RETRY_SECONDS : undefined;
  return await pageAnswer('xvault', page, { status, headers: kept, retrySeconds });
}
