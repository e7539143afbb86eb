/** Signing in and out with a browser. */
import { z } from 'zod';
import { isBackupError } from '../../errors.ts';
import { requireScope } from '../auth.ts';
import { pageAnswer } from '../page.ts';
import { loginPage } from '../pages/login-page.ts';
import { type Answer, type AnyRoute, type Call, defineRoute } from '../route.ts';
import { endedCookie, isSecure, ownPath, sessionCookie } from '../session.ts';

const toField = z.string().max(2000).optional().meta({ description: 'Where to go on: a path.' });
const seeOther = { description: 'On to the next page.' };

const ask = defineRoute({
  method: 'GET',
  path: '/login',
  scope: 'none',
  summary: 'Sign in with a browser',
  description: 'The page that asks for a token.',
  query: z.object({ to: toField }),
  answers: { 200: { description: 'HTML.', contentType: 'text/html', schema: z.string() } },
  handle: async ({ c, query, settings }) => {
    const to = ownPath(query.to);
    // nobody need sign in there; a cookie left by another service on this machine must not be in the way
    if (settings.loopbackWithoutToken) return goOn(to, endedCookie(schemeOf(c)));
    return await pageAnswer('xvault: sign in', loginPage({ to }));
  },
});

const enter = defineRoute({
  method: 'POST',
  path: '/login',
  scope: 'none',
  summary: 'Sign in',
  description:
    'A form with a token of scope read, from the page itself only. The answer sets a cookie that opens pages, and nothing that changes anything.',
  body: z.object({
    token: z.string().max(1024).optional().meta({ description: 'A token with scope read.' }),
    to: toField,
  }),
  form: true,
  answers: {
    303: seeOther,
    401: { description: 'Nobody has this token.', contentType: 'text/html', schema: z.string() },
  },
  handle: async (call) => {
    const { c, body } = call;
    const to = ownPath(body.to);
    const token = body.token?.trim();
    if (!token) return goOn(`/login?to=${encodeURIComponent(to)}`);
    try {
      requireScope(await call.identify(token), 'read');
    } catch (error) {
      if (!isBackupError(error, 'unauthenticated', 'forbidden')) throw error;
      const isKnown = error.code === 'forbidden';
      const wrong = isKnown ? 'This token lacks scope read.' : 'Nobody has this token.';
      return await pageAnswer('xvault: sign in', loginPage({ to, wrong }), {
        status: isKnown ? 403 : 401,
        headers: isKnown ? {} : { 'www-authenticate': 'Bearer realm="xvault"' },
      });
    }
    return goOn(to, sessionCookie(token, schemeOf(c)));
  },
});

const leave = defineRoute({
  method: 'POST',
  path: '/logout',
  scope: 'none',
  summary: 'Sign out',
  description: 'Takes the cookie away. The token itself stays good.',
  body: z.object({}),
  form: true,
  answers: { 303: seeOther },
  handle: ({ c }) => goOn('/login', endedCookie(schemeOf(c))),
});

function schemeOf(c: Call['c']): { isSecure: boolean } {
  return { isSecure: isSecure({ origin: c.req.header('origin'), url: c.req.url }) };
}

function goOn(location: string, cookie?: string): Answer {
  return {
    status: 303,
    headers: { location, ...(cookie === undefined ? {} : { 'set-cookie': cookie }) },
    body: null,
  };
}

export const SESSION_ROUTES: readonly AnyRoute[] = [ask, enter, leave];
