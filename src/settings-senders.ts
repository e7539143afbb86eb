/** The settings of the routes under /hooks/: each sender's secret, and the machines it may name. What it signs: http/senders.ts. */
import { z } from 'zod';
import { CHAT_COMMANDS, type ChatCommand, type Senders } from './http/senders.ts';
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

/** Slack's own, and that of its cloud for governments. */
const SLACK_ORIGINS = ['https://hooks.slack.com', 'https://hooks.slack-gov.com'];
/** Looking is for all; what does something is for those who are named. */
const USERS: Users = { '*': ['status', 'list'] };

type Users = Record<string, ChatCommand[]>;

const usersSchema = z
  .string()
  .trim()
  .min(1)
  .transform((text): unknown => {
    try {
      return JSON.parse(text);
    } catch {
      return undefined;
    }
  })
  .pipe(
    z.record(z.string().regex(/^([A-Za-z0-9]{1,64}|\*)$/), z.array(z.enum(CHAT_COMMANDS)), {
      error: `expected JSON: user id or * → list of ${CHAT_COMMANDS.join(', ')}`,
    }),
  );

const usersOf = (chat: string) =>
  usersSchema.default(USERS).meta({
    group: 'Triggers',
    description: `JSON: who may type which commands in ${chat}, by user id; \`*\` is everybody who is not named.`,
    example: '{"U2147483697":["run","status","list","cancel"],"*":["status","list"]}',
    defaultText: '`{"*":["status","list"]}`',
  } satisfies SettingMeta);

const originSchema = z
  .string()
  .trim()
  .refine((text) => URL.canParse(text) && /^https?:$/.test(new URL(text).protocol), {
    message: 'expected https://host[:port]',
    abort: true,
  })
  .transform((text) => new URL(text).origin);

const longEnough = (text: string) => text.length >= MIN_SECRET_CHARACTERS;
const TOO_SHORT = `expected ${MIN_SECRET_CHARACTERS} characters at least, and no comma in it`;

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
  XVAULT_HOOK_GITHUB_SECRET: secretList(longEnough, TOO_SHORT)
    .optional()
    .meta({
      group: 'Triggers',
      description:
        'Turns on `POST /hooks/github`: the secret of the webhook at GitHub. `openssl rand -hex 32` makes one. Several comma-separated. See docs/triggers.md.',
      example: 'XVAULT_HOOK_GITHUB_SECRET_FILE=/run/secrets/hook-github',
      secret: true,
    } satisfies SettingMeta),
  XVAULT_HOOK_GITHUB_VMS: vmsOf('/hooks/github'),
  XVAULT_HOOK_SLACK_SECRET: secretList(longEnough, TOO_SHORT)
    .optional()
    .meta({
      group: 'Triggers',
      description:
        'Turns on `POST /hooks/slack`: the signing secret of the Slack app. Several comma-separated. See docs/triggers.md.',
      example: 'XVAULT_HOOK_SLACK_SECRET_FILE=/run/secrets/hook-slack',
      secret: true,
    } satisfies SettingMeta),
  XVAULT_HOOK_SLACK_USERS: usersOf('Slack'),
  XVAULT_HOOK_SLACK_VMS: vmsOf('/hooks/slack'),
  XVAULT_HOOK_MATTERMOST_TOKEN: secretList(longEnough, TOO_SHORT)
    .optional()
    .meta({
      group: 'Triggers',
      description:
        'Turns on `POST /hooks/mattermost`: the token of the slash command. Several comma-separated. See docs/triggers.md.',
      example: 'XVAULT_HOOK_MATTERMOST_TOKEN_FILE=/run/secrets/hook-mattermost',
      secret: true,
    } satisfies SettingMeta),
  XVAULT_HOOK_MATTERMOST_URL: originSchema.optional().meta({
    group: 'Triggers',
    description:
      'Address of the Mattermost server: how a backup ended is told there, and nowhere else a command may say.',
    example: 'https://chat.example.com',
    defaultText: 'nothing is told later',
  } satisfies SettingMeta),
  XVAULT_HOOK_MATTERMOST_USERS: usersOf('Mattermost'),
  XVAULT_HOOK_MATTERMOST_VMS: vmsOf('/hooks/mattermost'),
};

interface SenderValues {
  XVAULT_HOOK_STANDARD_SECRET?: Secret[] | undefined;
  XVAULT_HOOK_STANDARD_VMS: string[];
  XVAULT_HOOK_GITHUB_SECRET?: Secret[] | undefined;
  XVAULT_HOOK_GITHUB_VMS: string[];
  XVAULT_HOOK_SLACK_SECRET?: Secret[] | undefined;
  XVAULT_HOOK_SLACK_USERS: Users;
  XVAULT_HOOK_SLACK_VMS: string[];
  XVAULT_HOOK_MATTERMOST_TOKEN?: Secret[] | undefined;
  XVAULT_HOOK_MATTERMOST_URL?: string | undefined;
  XVAULT_HOOK_MATTERMOST_USERS: Users;
  XVAULT_HOOK_MATTERMOST_VMS: string[];
}

/** The senders that have a secret. */
export function readSenders(values: SenderValues): Senders {
  const {
    XVAULT_HOOK_STANDARD_SECRET: standard,
    XVAULT_HOOK_GITHUB_SECRET: github,
    XVAULT_HOOK_SLACK_SECRET: slack,
    XVAULT_HOOK_MATTERMOST_TOKEN: mattermost,
    XVAULT_HOOK_MATTERMOST_URL: url,
  } = values;
  const slackChat = {
    users: values.XVAULT_HOOK_SLACK_USERS,
    vms: values.XVAULT_HOOK_SLACK_VMS,
    replyOrigins: SLACK_ORIGINS,
  };
  const mattermostChat = {
    users: values.XVAULT_HOOK_MATTERMOST_USERS,
    vms: values.XVAULT_HOOK_MATTERMOST_VMS,
    replyOrigins: url === undefined ? [] : [url],
  };
  return {
    ...(standard && { standard: { secrets: standard, vms: values.XVAULT_HOOK_STANDARD_VMS } }),
    ...(github && { github: { secrets: github, vms: values.XVAULT_HOOK_GITHUB_VMS } }),
    ...(slack && { slack: { secrets: slack, ...slackChat } }),
    ...(mattermost && { mattermost: { secrets: mattermost, ...mattermostChat } }),
  };
}
