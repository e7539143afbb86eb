/**
 * A self-signed certificate per simulated host, as a fresh XenServer host has one.
 *
 * Node can make keys and signatures but no certificates, and the demo must run where there is no openssl program;
 * so the few DER structures of RFC 5280 are written here. P-256 instead of the RSA of real hosts: a key takes a
 * millisecond instead of half a second. Nothing is stored: every start makes new ones.
 */
import { generateKeyPairSync, sign, X509Certificate } from 'node:crypto';

export interface HostCertificate {
  certPem: string;
  keyPem: string;
  /** SHA-256 of the DER, lower-case hex without colons. */
  fingerprint: string;
}

/** Long enough for any test run, short enough that nobody mistakes it for a real one. */
const VALID_MS = 90 * 24 * 3_600_000;

function der(tag: number, ...parts: Uint8Array[]): Buffer {
  const body = Buffer.concat(parts);
  if (body.length < 0x80) return Buffer.concat([Buffer.from([tag, body.length]), body]);
  const hex = body.length.toString(16);
  const length = Buffer.from(hex.length % 2 === 0 ? hex : `0${hex}`, 'hex');
  return Buffer.concat([Buffer.from([tag, 0x80 | length.length]), length, body]);
}

const sequence = (...parts: Uint8Array[]) => der(0x30, ...parts);
const octets = (bytes: Uint8Array) => der(0x04, bytes);
const utf8 = (value: string) => der(0x0c, Buffer.from(value, 'utf8'));

function oid(dotted: string): Buffer {
  const [first = 0, second = 0, ...rest] = dotted.split('.').map(Number);
  const bytes = [first * 40 + second];
  for (const arc of rest) {
    const digits = [arc & 0x7f];
    for (let value = arc >> 7; value > 0; value >>= 7) digits.unshift((value & 0x7f) | 0x80);
    bytes.push(...digits);
  }
  return der(0x06, Buffer.from(bytes));
}

/** RFC 5280 4.1.2.5: UTCTime through 2049. */
function utcTime(ms: number): Buffer {
  const digits = new Date(ms).toISOString().replace(/[-:T]/g, '').slice(2, 14);
  return der(0x17, Buffer.from(`${digits}Z`, 'ascii'));
}

function bitString(bytes: Uint8Array): Buffer {
  return der(0x03, Buffer.from([0]), bytes);
}

function subjectAltName(names: string[]): Buffer {
  const entries = names.map((name) => {
    const v4 = /^\d+\.\d+\.\d+\.\d+$/.test(name);
    return v4
      ? der(0x87, Buffer.from(name.split('.').map(Number)))
      : der(0x82, Buffer.from(name, 'ascii'));
  });
  return sequence(oid('2.5.29.17'), octets(sequence(...entries)));
}

/** Makes a key and a self-signed certificate for `address` (an IPv4 address or a name). */
export function createCertificate(input: {
  address: string;
  serial: number;
  nowMs: number;
}): HostCertificate {
  const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'prime256v1' });
  const algorithm = sequence(oid('1.2.840.10045.4.3.2'));
  const name = sequence(der(0x31, sequence(oid('2.5.4.3'), utf8(input.address))));
  const serial = Buffer.alloc(5);
  serial.writeUInt32BE(input.serial, 1);
  serial[0] = 1;
  const basicConstraints = sequence(
    oid('2.5.29.19'),
    der(0x01, Buffer.from([0xff])),
    octets(sequence(der(0x01, Buffer.from([0xff])))),
  );
  const body = sequence(
    der(0xa0, der(0x02, Buffer.from([2]))),
    der(0x02, serial),
    algorithm,
    name,
    sequence(utcTime(input.nowMs - 3_600_000), utcTime(input.nowMs + VALID_MS)),
    name,
    publicKey.export({ type: 'spki', format: 'der' }),
    der(0xa3, sequence(basicConstraints, subjectAltName([input.address, 'localhost']))),
  );
  const signature = sign('sha256', body, privateKey);
  const certificate = new X509Certificate(sequence(body, algorithm, bitString(signature)));
  return {
    certPem: certificate.toString(),
    keyPem: privateKey.export({ type: 'pkcs8', format: 'pem' }) as string,
    fingerprint: certificate.fingerprint256.replaceAll(':', '').toLowerCase(),
  };
}
