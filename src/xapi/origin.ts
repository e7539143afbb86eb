/** Where a pool member listens: scheme, address, port. A pool tells bare addresses; scheme and port are ours. */
import { isIPv6 } from 'node:net';
import { BackupError } from '../errors.ts';

export interface Origin {
  readonly protocol: 'http:' | 'https:';
  /** Name or address, IPv6 without brackets. */
  readonly hostname: string;
  readonly port: number;
}

/** Reads a configured URL; a bare host name means https. */
export function parseOrigin(url: string): Origin {
  const full = url.includes('://') ? url : `https://${url}`;
  const parsed = URL.parse(full);
  const protocol = parsed?.protocol;
  if (parsed === null || (protocol !== 'https:' && protocol !== 'http:')) {
    throw new BackupError('configuration', 'read address of the pool: no http or https URL');
  }
  const hostname = parsed.hostname.replace(/^\[|\]$/g, '');
  const port = parsed.port === '' ? (protocol === 'https:' ? 443 : 80) : Number(parsed.port);
  return { protocol, hostname, port };
}

/** Another member of the same pool: XenAPI tells bare addresses, IPv6 unbracketed. */
export function withAddress(origin: Origin, address: string): Origin {
  return { ...origin, hostname: address.replace(/^\[|\]$/g, '') };
}

/** `host:port`, for a Host header and for people. */
export function formatAuthority({ hostname, port }: Origin): string {
  return `${isIPv6(hostname) ? `[${hostname}]` : hostname}:${port}`;
}

/** `https://host:port`. */
export function formatOrigin(origin: Origin): string {
  return `${origin.protocol}//${formatAuthority(origin)}`;
}
