/**
 * The settings of guest hooks: whom xvault may call on request, and the secret that proves it is xvault.
 *
 * Both or none: calls that nobody can check would teach guests to freeze for strangers.
 */
import { z } from 'zod';
import { type AllowList, parseAllowList } from './outgoing.ts';
import { createSecret, type Secret } from './secret.ts';
import type { SettingMeta } from './settings-table.ts';

/** Of the Standard Webhooks specification: 24 to 64 random bytes, in base64. */
const MIN_KEY_BYTES = 24;
const MAX_KEY_BYTES = 64;

const allowSchema = z
  .string()
  .trim()
  .min(1)
  .transform((text, context): AllowList => {
    const { list, mistakes } = parseAllowList('XVAULT_HOOK_ALLOW', text);
    for (const message of mistakes) context.addIssue({ code: 'custom', message });
    return list;
  });

const secretsSchema = z
  .string()
  .trim()
  .min(1)
  .transform((text, context): Secret[] => {
    const secrets = text.split(',').map((part) => part.trim());
    if (!secrets.every(isSigningSecret)) {
      const message = `expected whsec_ and ${MIN_KEY_BYTES} to ${MAX_KEY_BYTES} bytes in base64`;
      context.addIssue({ code: 'custom', message });
    }
    return secrets.map(createSecret);
  });

/** As parts of the settings object. */
export const hookSettings = {
  XVAULT_HOOK_ALLOW: allowSchema.optional().meta({
    group: 'Guest hooks',
    description:
      'Whom requests may name as guest hooks, comma-separated: `https://host[:port][/path]`, everything below a path included; `http://` only where written so. Names may resolve to public addresses only, unless the address or its network is listed, too. None: hooks are refused. See docs/guest-hooks.md.',
    example: 'https://db-1.example.com/hooks,https://10.0.0.7:8443,10.0.0.0/24',
    defaultText: 'none',
  } satisfies SettingMeta),
  XVAULT_HOOK_SECRET: secretsSchema.optional().meta({
    group: 'Guest hooks',
    description:
      'Signs every call (Standard Webhooks): `echo whsec_$(openssl rand -base64 32)` makes one. While it is changed: the new one and the old one, comma-separated. Required with XVAULT_HOOK_ALLOW.',
    example: 'XVAULT_HOOK_SECRET_FILE=/run/secrets/hook-secret',
    secret: true,
  } satisfies SettingMeta),
  XVAULT_HOOK_TIMEOUT_SECONDS: z.coerce
    .number('expected a whole number, 1 to 120')
    .pipe(z.int('expected a whole number, 1 to 120').min(1).max(120))
    .default(30)
    .meta({
      group: 'Guest hooks',
      description: 'How long a guest may take to answer one call.',
      example: '60',
    } satisfies SettingMeta),
  XVAULT_HOOK_CA_FILE: z
    .string()
    .trim()
    .min(1)
    .optional()
    .meta({
      group: 'Guest hooks',
      description:
        'PEM file of a CA that guests’ certificates may be signed by, besides the system’s.',
      example: '/etc/xvault/guests-ca.pem',
      defaultText: 'the system’s CAs',
      file: true,
    } satisfies SettingMeta),
};

export interface HookSettings {
  allow: AllowList;
  secrets: Secret[];
  timeoutMs: number;
  caPem?: string;
}

interface HookValues {
  XVAULT_HOOK_ALLOW?: AllowList | undefined;
  XVAULT_HOOK_SECRET?: Secret[] | undefined;
  XVAULT_HOOK_TIMEOUT_SECONDS: number;
  XVAULT_HOOK_CA_FILE?: string | undefined;
}

/** The settings of the hooks; undefined where none are allowed. */
export function readHookSettings(
  values: HookValues,
  {
    readFile,
    require,
  }: {
    readFile(name: string, path: string): string | undefined;
    require(name: 'XVAULT_HOOK_SECRET', message: string): void;
  },
): HookSettings | undefined {
  const { XVAULT_HOOK_ALLOW: allow, XVAULT_HOOK_SECRET: secrets } = values;
  if (allow === undefined) return undefined;
  if (secrets === undefined) require('XVAULT_HOOK_SECRET', 'is required with XVAULT_HOOK_ALLOW');
  const path = values.XVAULT_HOOK_CA_FILE;
  const caPem = path === undefined ? undefined : readFile('XVAULT_HOOK_CA_FILE', path);
  return {
    allow,
    secrets: secrets ?? [],
    timeoutMs: values.XVAULT_HOOK_TIMEOUT_SECONDS * 1000,
    ...(caPem === undefined ? {} : { caPem }),
  };
}

/** As Standard Webhooks has them. */
export function isSigningSecret(text: string): boolean {
  const base64 = /^whsec_([A-Za-z0-9+/]+={0,2})$/.exec(text)?.[1];
  if (base64 === undefined) return false;
  const { length } = Buffer.from(base64, 'base64');
  return length >= MIN_KEY_BYTES && length <= MAX_KEY_BYTES;
}
