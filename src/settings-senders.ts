/** The settings of the routes under /hooks/: each sender's secret, and the machines it may name. What it signs: http/senders.ts. */
import { z } from 'zod';
import type { Senders } from './http/senders.ts';
import { createSecret, type Secret } from './secret.ts';
import { isSigningSecret } from './settings-hooks.ts';
import type { SettingMeta } from './settings-table.ts';

/** Shorter ones are guessed: a delivery that was seen can be tried against word lists. */
const MIN_SECRET_CHARACTERS = 16;

const secretList = (isGood: (text: string) => boolean, expected: string) =>
  z
    .string()
    .trim()
    .min(1)
    .transform((text, context): Secret[] => {
      const secrets = text.split(',').map((part) => part.trim());
      if (!secrets.every(isGood)) context.addIssue({ code: 'custom', message: expected });
      return secrets.map(createSecret);
    });

const vmsSchema = z
  .string()
  .trim()
  .min(1)
  .transform((text, context): string[] => {
    const entries = text.split(',').map((part) => part.trim());
    if (entries.some((entry) => entry === '' || entry.slice(0, -1).includes('*'))) {
      const message = 'expected names or uuids; * only at the end';
      context.addIssue({ code: 'custom', message });
    }
    return entries;
  });

const vmsOf = (route: string) =>
  vmsSchema.default(['*']).meta({
    group: 'Triggers',
    description: `Machines \`${route}\` may have backed up, comma-separated: names, uuids, or beginnings of names with \`*\`. Requests must name them in the same way.`,
    example: 'web-*,db-1',
    defaultText: '`*`: all',
  } satisfies SettingMeta);

/** As parts of the settings object. */
export const senderSettings = {
  XVAULT_HOOK_STANDARD_SECRET: secretList(
    isSigningSecret,
    'expected whsec_ and 24 to 64 bytes in base64',
  )
    .optional()
    .meta({
      group: 'Triggers',
      description:
        'Turns on `POST /hooks/standard`: whoever has it may start backups (Standard Webhooks). `echo whsec_$(openssl rand -base64 32)` makes one. While it is changed: the new one and the old one, comma-separated. See docs/triggers.md.',
      example: 'XVAULT_HOOK_STANDARD_SECRET_FILE=/run/secrets/hook-standard',
      secret: true,
    } satisfies SettingMeta),
  XVAULT_HOOK_STANDARD_VMS: vmsOf('/hooks/standard'),
  XVAULT_HOOK_GITHUB_SECRET: secretList(
    (text) => text.length >= MIN_SECRET_CHARACTERS,
    `expected ${MIN_SECRET_CHARACTERS} characters at least, and no comma in it`,
  )
    .optional()
    .meta({
      group: 'Triggers',
      description:
        'Turns on `POST /hooks/github`: the secret of the webhook at GitHub. `openssl rand -hex 32` makes one. Several comma-separated. See docs/triggers.md.',
      example: 'XVAULT_HOOK_GITHUB_SECRET_FILE=/run/secrets/hook-github',
      secret: true,
    } satisfies SettingMeta),
  XVAULT_HOOK_GITHUB_VMS: vmsOf('/hooks/github'),
};

interface SenderValues {
  XVAULT_HOOK_STANDARD_SECRET?: Secret[] | undefined;
  XVAULT_HOOK_STANDARD_VMS: string[];
  XVAULT_HOOK_GITHUB_SECRET?: Secret[] | undefined;
  XVAULT_HOOK_GITHUB_VMS: string[];
}

/** The senders that have a secret. */
export function readSenders(values: SenderValues): Senders {
  const { XVAULT_HOOK_STANDARD_SECRET: standard, XVAULT_HOOK_GITHUB_SECRET: github } = values;
  return {
    ...(standard && { standard: { secrets: standard, vms: values.XVAULT_HOOK_STANDARD_VMS } }),
    ...(github && { github: { secrets: github, vms: values.XVAULT_HOOK_GITHUB_VMS } }),
  };
}
