/**
 * Is this host the one it claims to be? Asked on every connection, calls and exports alike, before a byte is sent.
 *
 * Hosts have self-signed certificates by default, each its own, so a pin for one does not fit the next. Rule: a
 * certificate is good when it fits the setting (system CAs or the given CA with the host's name; one of the given
 * SHA-256 fingerprints), or when it is exactly the one that the already trusted master told us for that address
 * (`host.get_server_certificate`). So one pinned member is enough to follow a redirect to any other. Fingerprints are of
 * the DER certificate, as `openssl x509 -fingerprint -sha256` prints them; CA and dates do not matter then.
 */

import { X509Certificate } from 'node:crypto';
import type { PeerCertificate, TLSSocket } from 'node:tls';
import { BackupError } from '../errors.ts';

export type PoolTrust =
  | { kind: 'system' }
  | { kind: 'ca'; pem: string }
  | { kind: 'fingerprint'; sha256: readonly string[] }
  | { kind: 'insecure' };

/** A pool has at most 64 hosts; certificates change. */
const MAX_LEARNED = 256;

export interface TrustBook {
  readonly kind: PoolTrust['kind'];
  /** CAs for the TLS handshake; undefined means the system's. */
  readonly ca: string | undefined;
  /** Takes a certificate for an address from a source that is itself trusted. */
  learn(address: string, fingerprint: string): void;
  knows(address: string): boolean;
  /** Throws `pool_certificate` unless the connected host is the expected one. */
  check(socket: TLSSocket, address: string): void;
}

/** The certificates expected of one pool. */
export function createTrustBook(trust: PoolTrust): TrustBook {
  const pins = new Set(pinsOf(trust));
  const learned = new Map<string, string>();
  return {
    kind: trust.kind,
    ca: trust.kind === 'ca' ? trust.pem : undefined,
    learn: (address, fingerprint) => {
      if (learned.size >= MAX_LEARNED) learned.clear();
      learned.set(address, normaliseFingerprint(fingerprint));
    },
    knows: (address) => learned.has(address),
    check: (socket, address) => {
      if (trust.kind === 'insecure') return;
      const certificate = socket.getPeerCertificate();
      const found = normaliseFingerprint(certificate.fingerprint256 ?? '');
      if (found !== '' && (pins.has(found) || learned.get(address) === found)) return;
      if (trust.kind !== 'fingerprint' && socket.authorized) return;
      throw mismatch(trust, { address, certificate, found, reason: reasonOf(socket) });
    },
  };
}

/** A host's own self-signed certificate given as the CA is a pin, whatever names it carries. */
function pinsOf(trust: PoolTrust): string[] {
  if (trust.kind === 'fingerprint') return trust.sha256.map(normaliseFingerprint);
  if (trust.kind !== 'ca') return [];
  const blocks = trust.pem.match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g);
  return (blocks ?? []).map(fingerprintOf).filter((pin) => pin !== undefined);
}

/** Lower-case hex without colons. */
export function normaliseFingerprint(fingerprint: string): string {
  return fingerprint.replaceAll(':', '').trim().toLowerCase();
}

/** The fingerprint of a PEM certificate, as XenAPI tells it; undefined when it is none. */
export function fingerprintOf(pem: string): string | undefined {
  try {
    return normaliseFingerprint(new X509Certificate(pem).fingerprint256);
  } catch {
    // Nothing is trusted then: the connection is judged by the setting alone.
    return undefined;
  }
}

function reasonOf(socket: TLSSocket): string {
  const error: unknown = socket.authorizationError;
  return error instanceof Error ? error.message : String(error ?? '');
}

function mismatch(
  trust: PoolTrust,
  seen: { address: string; certificate: PeerCertificate; found: string; reason: string },
): BackupError {
  const expected =
    trust.kind === 'fingerprint'
      ? 'it is none of the fingerprints in the settings'
      : `it is not trusted (${seen.reason})`;
  return new BackupError(
    'pool_certificate',
    `check certificate of the host: ${expected}, address=${seen.address} sha256=${seen.found}`,
    {
      details: {
        address: seen.address,
        found_sha256: seen.found,
        subject: String(seen.certificate.subject?.CN ?? ''),
        names: seen.certificate.subjectaltname ?? '',
        valid_to: seen.certificate.valid_to ?? '',
        trust: trust.kind,
        ...(trust.kind === 'fingerprint'
          ? { expected_sha256: trust.sha256.map(normaliseFingerprint) }
          : { reason: seen.reason }),
      },
    },
  );
}
