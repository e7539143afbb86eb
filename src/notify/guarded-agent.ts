/**
 * Connections to addresses a request may choose: a name is looked up by ourselves, and what it resolves to is judged in
 * the same moment it is connected to (outgoing.ts says what is refused). A name that resolves to something else a
 * moment later (DNS rebinding) gains nothing: between judging and connecting nobody asks again.
 *
 * Proxies of the environment are not used: they would look names up themselves. Redirects are not followed.
 */
import { lookup as resolve } from 'node:dns/promises';
import type { LookupFunction } from 'node:net';
import { getCACertificates } from 'node:tls';
import { Agent } from 'undici';
import { BackupError } from '../errors.ts';
import { type AllowList, refuseAddress } from '../outgoing.ts';

export interface Address {
  address: string;
  family: number;
}

/** Every address of a name. */
export type Resolve = (hostname: string) => Promise<Address[]>;

const systemResolve: Resolve = (hostname) => resolve(hostname, { all: true, verbatim: true });

export interface GuardInput {
  allow: AllowList;
  connectTimeoutMs: number;
  /** Trusted besides the system's. */
  caPem?: string | undefined;
  resolve?: Resolve;
}

/** An agent for one call, without idle connections; destroy it afterwards. */
export function createGuardedAgent(input: GuardInput): Agent {
  const { allow, connectTimeoutMs, caPem } = input;
  // giving TLS a list replaces its own, so that is repeated
  const ca = caPem === undefined ? {} : { ca: [...getCACertificates('default'), caPem] };
  return new Agent({
    pipelining: 0,
    connect: {
      ...ca,
      timeout: connectTimeoutMs,
      lookup: createLookup(allow, input.resolve ?? systemResolve),
    },
  });
}

/** Given to net.connect, which asks it for every name and never for an address. */
function createLookup(allow: AllowList, resolve: Resolve): LookupFunction {
  return (hostname, options, callback) => {
    const family = options.family === 'IPv4' ? 4 : options.family === 'IPv6' ? 6 : options.family;
    allowedAddresses(allow, { hostname, resolve }).then(
      (found) => {
        const fitting = found.filter((one) => !family || one.family === family);
        const [first] = fitting;
        if (first === undefined) callback(notFound(hostname), '', 0);
        else if (options.all === true) callback(null, fitting);
        else callback(null, first.address, first.family);
      },
      (error) => callback(error, '', 0),
    );
  };
}

async function allowedAddresses(
  allow: AllowList,
  { hostname, resolve }: { hostname: string; resolve: Resolve },
): Promise<Address[]> {
  const addresses = await resolve(hostname);
  const reasons = addresses.map(({ address }) => refuseAddress(allow, { hostname, address }));
  const allowed = addresses.filter((_, at) => reasons[at] === undefined);
  if (allowed.length > 0 || addresses.length === 0) return allowed;
  throw new BackupError('hook_failed', `connect: ${reasons[0]}`, { retry: 'after-fix' });
}

function notFound(hostname: string): NodeJS.ErrnoException {
  return Object.assign(new Error(`no address for ${hostname}`), { code: 'ENOTFOUND' });
}
