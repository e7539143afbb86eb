/**
 * The settings of one pool: where it is, who logs in, whose certificate is trusted; pools.ts reads the same of several.
 */
import { z } from 'zod';
import type { SettingMeta } from './settings-table.ts';

const text = z.string().trim().min(1);
const flag = z.stringbool();

/** A plain path segment: it becomes part of every key. */
export const poolNameSchema = z
  .string()
  .regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/, 'letters, digits, . _ - (at most 63)');

/** One or several addresses of the same pool: `https://host[:port]`, comma-separated. */
export const poolUrlsSchema = text.transform((value, context) => {
  const urls = value
    .split(',')
    .map((part) => part.trim())
    .filter((part) => part !== '');
  for (const url of urls) {
    const problem = originProblem(url);
    if (problem !== undefined) context.addIssue({ code: 'custom', message: problem });
  }
  return urls.map((url) => (URL.canParse(url) ? new URL(url).origin : url));
});

/** SHA-256 fingerprints as openssl prints them, colons or not, comma-separated → plain lower-case hex. */
export const fingerprintsSchema = text.transform((value, context) =>
  value.split(',').map((part) => {
    const hex = part
      .trim()
      .replace(/^sha-?256[:=]/i, '')
      .replace(/^sha256 fingerprint=/i, '')
      .replaceAll(':', '')
      .toLowerCase();
    if (!/^[0-9a-f]{64}$/.test(hex)) {
      context.addIssue({ code: 'custom', message: 'expected the 64 hex digits of a SHA-256' });
    }
    return hex;
  }),
);

/** As parts of the settings object. */
export const poolSettings = {
  XVAULT_POOL_NAME: poolNameSchema.default('default').meta({
    group: 'Pool',
    description: 'Name of the pool in keys, requests and answers.',
    example: 'office',
  } satisfies SettingMeta),
  XVAULT_POOL_URL: poolUrlsSchema.optional().meta({
    group: 'Pool',
    description:
      'Address of any pool member; several members comma-separated (the first that answers is used). Required, unless XVAULT_POOLS_FILE is set.',
    example: 'https://10.0.0.11,https://10.0.0.12',
  } satisfies SettingMeta),
  XVAULT_POOL_USERNAME: text.optional().meta({
    group: 'Pool',
    description:
      'XenAPI login. The role vm-power-admin is enough to back up. Required with XVAULT_POOL_URL.',
    example: 'xvault',
  } satisfies SettingMeta),
  XVAULT_POOL_PASSWORD: z
    .string()
    .min(1)
    .optional()
    .meta({
      group: 'Pool',
      description: 'Password of that login. Required with XVAULT_POOL_URL.',
      example: 'XVAULT_POOL_PASSWORD_FILE=/run/secrets/pool-password',
      secret: true,
    } satisfies SettingMeta),
  XVAULT_POOL_CA_FILE: text.optional().meta({
    group: 'Pool',
    description: 'PEM file of the CA that signed the hosts’ certificates.',
    example: '/etc/xvault/pool-ca.pem',
    defaultText: 'the system’s CAs',
    file: true,
  } satisfies SettingMeta),
  XVAULT_POOL_FINGERPRINT: fingerprintsSchema.optional().meta({
    group: 'Pool',
    description:
      'SHA-256 of the certificate to expect, instead of a CA; several comma-separated. `openssl x509 -noout -fingerprint -sha256` prints it.',
    example:
      '9F:86:D0:81:88:4C:7D:65:9A:2F:EA:A0:C5:5A:D0:15:A3:BF:4F:1B:2B:0B:82:2C:D1:5D:6C:15:B0:F0:0A:08',
  } satisfies SettingMeta),
  XVAULT_POOL_INSECURE: flag.default(false).meta({
    group: 'Pool',
    description:
      'Trust any certificate. Whoever is on the way can read the password and every disk; shown in /readyz and in the log.',
    example: 'true',
  } satisfies SettingMeta),
  XVAULT_POOLS_FILE: text.optional().meta({
    group: 'Pool',
    description: 'JSON file with several pools, see below. Instead of the XVAULT_POOL_ settings.',
    example: '/etc/xvault/pools.json',
    file: true,
  } satisfies SettingMeta),
};

/** Why this is no address of a server; undefined when it is one. */
export function originProblem(value: string, allowPath = false): string | undefined {
  if (!URL.canParse(value)) return `expected https://host[:port], got ${value}`;
  const url = new URL(value);
  if (url.protocol !== 'https:' && url.protocol !== 'http:') return 'expected https:// or http://';
  if (url.username !== '' || url.password !== '') return 'no user or password in the address';
  if (url.search !== '' || url.hash !== '') return 'no query or fragment in the address';
  if (!allowPath && url.pathname !== '/') return 'no path in the address';
  return undefined;
}
