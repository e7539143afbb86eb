/**
 * Who calls, and what he may do: bearer tokens (RFC 6750) with scopes, and the loopback rule.
 *
 * Settings hold the SHA-256 of each token, never the token. A presented token is hashed and compared with every
 * entry in constant time. Scopes are spelled out; none implies another. Without tokens the service may listen on
 * loopback only, and two attacks from a browser on the same machine remain: a foreign page whose name was re-bound
 * to 127.0.0.1 (its Host gives it away) and one that posts across origins (its Origin does).
 */
import { BackupError } from '../errors.ts';

export const SCOPES = ['read', 'backup', 'restore', 'admin'] as const;
export type Scope = (typeof SCOPES)[number];

export interface Token {
  /** Appears in logs, in `triggered_by` and in front of idempotency keys. Two entries of one name: a rotation. */
  name: string;
  /** Hex. */
  sha256: string;
  scopes: readonly Scope[];
}
export type TokenTable = readonly Token[];

export interface Identity {
  name: string;
  scopes: ReadonlySet<Scope>;
}

/** Longer ones are refused unhashed. */
const MAX_TOKEN_CHARACTERS = 1024;
const LOOPBACK_NAME = /^(localhost|127(\.\d{1,3}){3}|\[::1\])(:\d{1,5})?$/i;
/** Of whoever calls from the same machine, where there are no tokens. */
const LOOPBACK_SCOPES: readonly Scope[] = ['read', 'backup', 'admin'];

export interface Presented {
  authorization: string | undefined;
  host: string;
  origin: string | undefined;
  secFetchSite: string | undefined;
}

export interface Auth {
  /**
   * Says who calls. Errors: `unauthenticated` (with the challenge in its details), `forbidden` (loopback rule).
   * `basic`: a token as password counts too, for pages.
   */
  identify(presented: Presented, options: { basic: boolean }): Promise<Identity>;
}

export interface AuthSettings {
  loopbackWithoutToken: boolean;
  /** All but restore unless given. */
  loopbackScopes?: readonly Scope[] | undefined;
}

/** Checks the table once. Errors: `configuration`. */
export function createAuth(tokens: TokenTable, settings: AuthSettings): Auth {
  const loopback: Identity = {
    name: 'loopback',
    scopes: new Set(settings.loopbackScopes ?? LOOPBACK_SCOPES),
  };
  const entries = tokens.map((token) => ({
    digest: parseDigest(token),
    identity: { name: token.name, scopes: new Set(token.scopes) } satisfies Identity,
  }));

  async function identityOf(token: string): Promise<Identity | undefined> {
    if (token.length > MAX_TOKEN_CHARACTERS) return undefined;
    const digest = new Uint8Array(
      await crypto.subtle.digest('SHA-256', new TextEncoder().encode(token)),
    );
    let found: Identity | undefined;
    // all entries, always: the time says nothing about which one matched
    for (const entry of entries) if (equal(entry.digest, digest)) found = entry.identity;
    return found;
  }

  return {
    identify: async (presented, { basic }) => {
      const challenge = basic ? 'Basic realm="xvault", charset="UTF-8"' : 'Bearer realm="xvault"';
      if (presented.authorization === undefined) {
        if (!settings.loopbackWithoutToken) {
          throw unauthenticated('read Authorization: there is no token', challenge);
        }
        checkLoopback(presented);
        return loopback;
      }
      const token = presentedToken(presented.authorization, basic);
      const identity = token === undefined ? undefined : await identityOf(token);
      if (identity !== undefined) return identity;
      throw unauthenticated(
        'read Authorization: nobody has this token',
        basic ? challenge : `${challenge}, error="invalid_token"`,
      );
    },
  };
}

/** Errors: `forbidden`, naming the scope. */
export function requireScope(identity: Identity, scope: Scope): void {
  if (identity.scopes.has(scope)) return;
  throw new BackupError('forbidden', `allow request: token ${identity.name} lacks scope ${scope}`, {
    details: {
      scope,
      www_authenticate: `Bearer realm="xvault", error="insufficient_scope", scope="${scope}"`,
    },
  });
}

function unauthenticated(message: string, challenge: string): BackupError {
  return new BackupError('unauthenticated', message, { details: { www_authenticate: challenge } });
}

function checkLoopback({ host, origin, secFetchSite }: Presented): void {
  if (!LOOPBACK_NAME.test(host)) {
    throw new BackupError(
      'forbidden',
      `answer without a token: the Host is no loopback name, host=${host}`,
    );
  }
  const sameOrigin = origin === undefined || origin.replace(/^https?:\/\//, '') === host;
  if (!sameOrigin || secFetchSite === 'cross-site') {
    throw new BackupError(
      'forbidden',
      'answer without a token: the call comes from a page of another origin',
    );
  }
}

function presentedToken(authorization: string, basic: boolean): string | undefined {
  const bearer = /^Bearer +([\x21-\x7e]+) *$/i.exec(authorization)?.[1];
  if (bearer !== undefined || !basic) return bearer;
  const encoded = /^Basic +([A-Za-z0-9+/]+={0,2}) *$/i.exec(authorization)?.[1];
  if (encoded === undefined) return undefined;
  try {
    const pair = atob(encoded);
    return pair.slice(pair.indexOf(':') + 1);
  } catch {
    return undefined; // no base64: the caller answers 401
  }
}

function parseDigest(token: Token): Uint8Array {
  const known = token.scopes.every((scope) => SCOPES.includes(scope));
  if (!/^[0-9a-f]{64}$/i.test(token.sha256) || !known || !/^[\w.@-]{1,64}$/.test(token.name)) {
    throw new BackupError(
      'configuration',
      `read token entry: name plain, sha256 64 hex digits, scopes of ${SCOPES}, name=${token.name}`,
    );
  }
  return Uint8Array.from(token.sha256.match(/../g) ?? [], (hex) => Number.parseInt(hex, 16));
}

function equal(a: Uint8Array, b: Uint8Array): boolean {
  let difference = a.length ^ b.length;
  for (let i = 0; i < a.length; i++) difference |= (a[i] ?? 0) ^ (b[i] ?? 0);
  return difference === 0;
}
