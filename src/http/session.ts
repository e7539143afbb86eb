/**
 * Signed in with a browser: the token of a person in a cookie, for pages only.
 *
 * Nothing is kept on our side, so every instance takes it, and a token removed from the settings ends its sessions at
 * once. The cookie holds the token itself: only its digest is known here, and a session made from that digest could be
 * made by whoever reads the settings. Scripts cannot read it, other sites cannot send it (SameSite=Strict), and it opens
 * GETs only: nothing that changes anything takes it, so a forged request has nothing to forge. Forms are taken from our
 * own pages only (Fetch metadata, else Origin), so nobody is signed in as somebody else, either.
 */
import { BackupError } from '../errors.ts';

/** A working day: then the token is asked for again. */
export const SESSION_SECONDS = 12 * 3600;
/** The prefix makes browsers insist on Secure, on this host and on no other path (RFC 6265bis, 4.1.3). */
const SECURE_NAME = '__Host-xvault';
/** On plain HTTP, where browsers refuse the other. */
const PLAIN_NAME = 'xvault';

/** The token in a Cookie header, if there is one of ours. */
export function sessionToken(cookie: string | undefined): string | undefined {
  const pairs = (cookie ?? '').split(';').map((pair) => pair.trim());
  for (const name of [SECURE_NAME, PLAIN_NAME]) {
    const found = pairs.find((pair) => pair.startsWith(`${name}=`));
    if (found === undefined) continue;
    try {
      const token = decodeURIComponent(found.slice(name.length + 1));
      // what goes on as a bearer token must be one word
      if (/^[\x21-\x7e]+$/.test(token)) return token;
    } catch {
      // not written by us: as good as none
    }
  }
  return undefined;
}

/** Set-Cookie of who signed in. `isSecure`: the browser sees https, whatever the proxy before us speaks to us. */
export function sessionCookie(token: string, { isSecure }: { isSecure: boolean }): string {
  return cookie(encodeURIComponent(token), { isSecure, maxAgeSeconds: SESSION_SECONDS });
}

/** Set-Cookie of who signs out. */
export function endedCookie({ isSecure }: { isSecure: boolean }): string {
  return cookie('', { isSecure, maxAgeSeconds: 0 });
}

function cookie(
  value: string,
  { isSecure, maxAgeSeconds }: { isSecure: boolean; maxAgeSeconds: number },
): string {
  const name = isSecure ? SECURE_NAME : PLAIN_NAME;
  const secure = isSecure ? '; Secure' : '';
  return `${name}=${value}; Path=/; Max-Age=${maxAgeSeconds}; HttpOnly; SameSite=Strict${secure}`;
}

/** Where to go after signing in: a path of ours, never another site. */
export function ownPath(to: string | undefined): string {
  if (to === undefined || !/^\/(?![/\\])[\x21-\x7e]{0,1000}$/.test(to)) return '/';
  return to.includes('\\') || to.startsWith('/login') ? '/' : to;
}

/** The way to the page that asks for a token, and back. */
export function loginPath(from: string): string {
  const to = ownPath(from);
  return to === '/' ? '/login' : `/login?to=${encodeURIComponent(to)}`;
}

/** Says whether the answer is for a person: browsers name HTML, programs do not. */
export function wantsHtml(accept: string | undefined): boolean {
  return /\btext\/html\b/.test(accept ?? '');
}

/** The browser speaks https with somebody; its own word for it is the Origin of a form. */
export function isSecure({ origin, url }: { origin: string | undefined; url: string }): boolean {
  return origin === undefined ? url.startsWith('https:') : origin.startsWith('https:');
}

/** Errors: `forbidden` for a form another site sent. Who sends neither header is no browser. */
export function refuseForeignForm(headers: {
  host: string;
  origin: string | undefined;
  secFetchSite: string | undefined;
}): void {
  const { host, origin, secFetchSite } = headers;
  const isOurs =
    secFetchSite === undefined
      ? origin === undefined || origin.replace(/^https?:\/\//, '') === host
      : secFetchSite === 'same-origin' || secFetchSite === 'none';
  if (isOurs) return;
  throw new BackupError('forbidden', 'take form: it comes from a page of another origin');
}
