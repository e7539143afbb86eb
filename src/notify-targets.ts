/**
 * Whom to tell: the targets of XVAULT_NOTIFY_FILE, with what each wants to hear. See docs/notifications.md.
 *
 * Addresses come from the settings only, never from a request. They are secrets, most of them: whoever knows the URL of a
 * chat's webhook can write there. So they may lie in files of their own, and are shown nowhere.
 */
import { z } from 'zod';
import type { FileReader, SettingMistake } from './config.ts';
import { nearest } from './nearest.ts';
import { EVENTS, type NoticeEvent, type Notifier } from './notices.ts';
import { parseJsonFile } from './pools.ts';
import { createSecret, type Secret } from './secret.ts';
import { isSigningSecret } from './settings-hooks.ts';

/** Each end of a job is told to each of them. */
const MAX_TARGETS = 50;
const SETTING = 'XVAULT_NOTIFY_FILE';

/** What people want to hear of unless they say otherwise: what they should look at. */
const WORTH_A_LOOK = [
  '*.failed',
  'run.finished',
  'guard.renewed',
  'sweep.leftover_found',
  'freshness.critical',
];

const URL_KINDS = ['slack', 'mattermost', 'teams', 'discord', 'healthchecks'] as const;
export const NOTIFY_KINDS = ['webhook', 'cloudevents', 'email', ...URL_KINDS] as const;
export type NotifyKind = (typeof NOTIFY_KINDS)[number];

/** By kind; of the others, what is worth a look. */
const DEFAULT_EVENTS: Partial<Record<NotifyKind, readonly string[]>> = {
  webhook: ['*'],
  cloudevents: ['*'],
  healthchecks: ['backup.*'],
};

interface Common {
  name: string;
  events: ReadonlySet<NoticeEvent>;
  /** uuids or names; undefined: all. */
  vms?: ReadonlySet<string>;
  /** Trusted besides the system's. */
  caPem?: string;
}

export interface MailServer {
  host: string;
  port: number;
  /** TLS from the first byte; else STARTTLS, which only `insecure` makes dispensable. */
  tls: boolean;
}

/** One target, as its adapter needs it. */
export type NotifyTarget = Common &
  (
    | { kind: 'webhook'; url: Secret; secrets: readonly Secret[] }
    | { kind: 'cloudevents'; url: Secret; token?: Secret; source: string }
    | { kind: (typeof URL_KINDS)[number]; url: Secret }
    | {
        kind: 'email';
        server: MailServer;
        insecure: boolean;
        login?: { username: string; password: Secret };
        from: string;
        to: readonly string[];
      }
  );

const word = z.string().min(1).max(2000);
const words = z.array(word).min(1).max(1000);
const common = {
  name: z
    .string()
    .regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/, 'letters, digits, . _ - (at most 63)'),
  events: words.optional(),
  vms: words.optional(),
  ca_file: word.optional(),
  insecure: z.boolean().optional(),
};
const address = { url: word.optional(), url_file: word.optional() };
const mailbox = z
  .string()
  .max(320)
  .regex(
    /^([^<>\p{C}]{1,100} )?<?[^\s@<>,;\p{C}]+@[^\s@<>,;\p{C}]+>?$/u,
    'expected an e-mail address',
  );

/** Of CloudEvents, where neither the target nor a public address says another. */
export const DEFAULT_SOURCE = '/xvault';

const entrySchema = z.discriminatedUnion(
  'kind',
  [
    z.strictObject({
      kind: z.literal('webhook'),
      ...common,
      ...address,
      secret: word.optional(),
      secret_file: word.optional(),
    }),
    z.strictObject({
      kind: z.literal('cloudevents'),
      ...common,
      ...address,
      token: word.optional(),
      token_file: word.optional(),
      source: z
        .string()
        .regex(/^[!-~]{1,200}$/, 'expected a URI reference')
        .default(DEFAULT_SOURCE),
    }),
    z.strictObject({ kind: z.enum(URL_KINDS), ...common, ...address }),
    z.strictObject({
      kind: z.literal('email'),
      ...common,
      server: word,
      username: word.optional(),
      password: word.optional(),
      password_file: word.optional(),
      from: mailbox,
      to: z.union([mailbox.transform((one) => [one]), z.array(mailbox).min(1).max(100)]),
    }),
  ],
  { error: () => `kind: one of ${NOTIFY_KINDS.join(', ')}` },
);
type Entry = z.infer<typeof entrySchema>;
const fileSchema = z.array(entrySchema).min(1).max(MAX_TARGETS);

const FILE_EXAMPLE =
  '[{"name": "ops", "kind": "slack", "url_file": "/run/secrets/slack-url", "events": ["*.failed"]}]';

/** The names of those that want to hear of it. */
export function wantedBy(
  targets: readonly NotifyTarget[],
  about: Parameters<Notifier['targets']>[0],
): string[] {
  return targets.filter((one) => wants(one, about)).map(({ name }) => name);
}

function wants(
  target: NotifyTarget,
  { event, vm, chat }: Parameters<Notifier['targets']>[0],
): boolean {
  if (!target.events.has(event) && target.kind !== chat) return false;
  if (target.vms === undefined) return true;
  return vm !== undefined && (target.vms.has(vm.uuid) || target.vms.has(vm.name));
}

/** Reads the targets; mistakes are added to `mistakes`, each with the name of its target. */
export function readNotifyTargets(
  values: { XVAULT_NOTIFY_FILE?: string | undefined },
  files: FileReader,
  mistakes: SettingMistake[],
): NotifyTarget[] {
  const path = values.XVAULT_NOTIFY_FILE;
  const text = path === undefined ? undefined : files(SETTING, path);
  if (text === undefined) return [];
  const into = { mistakes, example: FILE_EXAMPLE };
  const entries = parseJsonFile(SETTING, text, fileSchema, into) ?? [];
  const seen = new Set<string>();
  return entries.flatMap((entry) => {
    const context = createContext(entry, files, mistakes);
    if (seen.has(entry.name)) context.mistake('names of targets must differ');
    seen.add(entry.name);
    const target = targetOf(entry, context);
    return target === undefined ? [] : [target];
  });
}

interface Context {
  mistake(message: string): undefined;
  /** Of `field` or `field_file`, one of which must be there; undefined after a mistake. */
  secret(field: string, given: Given): Secret | undefined;
  file(field: string, path: string): string | undefined;
}

interface Given {
  text?: string | undefined;
  path?: string | undefined;
}

function createContext(entry: Entry, files: FileReader, mistakes: SettingMistake[]): Context {
  const name = `${SETTING} (${entry.name})`;
  const mistake = (message: string): undefined => {
    mistakes.push({ name, message });
  };
  const file = (field: string, path: string) =>
    files(`${SETTING} (${entry.name}: ${field})`, path)?.replace(/\r?\n$/, '');
  return {
    mistake,
    file,
    secret: (field, { text, path }) => {
      if ((text === undefined) === (path === undefined)) {
        return mistake(`set ${field} or ${field}_file, one of them`);
      }
      const value = text ?? file(`${field}_file`, path ?? '');
      if (value === '') return mistake(`${field}_file: the file is empty`);
      return value === undefined ? undefined : createSecret(value);
    },
  };
}

function targetOf(entry: Entry, context: Context): NotifyTarget | undefined {
  const { name, kind, vms, ca_file: caFile } = entry;
  const caPem = caFile === undefined ? undefined : context.file('ca_file', caFile);
  const shared: Common = {
    name,
    events: eventsOf(entry.events ?? DEFAULT_EVENTS[kind] ?? WORTH_A_LOOK, context),
    ...(vms === undefined ? {} : { vms: new Set(vms) }),
    ...(caPem === undefined ? {} : { caPem }),
  };
  if (kind === 'email') return mailTarget(entry, shared, context);
  const url = urlOf(entry, context);
  switch (kind) {
    case 'webhook': {
      const given = { text: entry.secret, path: entry.secret_file };
      const secrets = signingSecrets(context.secret('secret', given), context);
      return url && secrets && { ...shared, kind, url, secrets };
    }
    case 'cloudevents': {
      const given = { text: entry.token, path: entry.token_file };
      const isGiven = given.text !== undefined || given.path !== undefined;
      const token = isGiven ? context.secret('token', given) : undefined;
      const { source } = entry;
      return url && { ...shared, kind, url, source, ...(token === undefined ? {} : { token }) };
    }
    default:
      return url && { ...shared, kind, url };
  }
}

/** `*`, `backup.*`, `*.failed` or the name of an event → the events. */
function eventsOf(patterns: readonly string[], { mistake }: Context): ReadonlySet<NoticeEvent> {
  const found = new Set<NoticeEvent>();
  for (const pattern of patterns) {
    const matching = EVENTS.filter((event) => matches(event, pattern));
    for (const event of matching) found.add(event);
    if (matching.length > 0) continue;
    const guess = nearest(pattern, [...EVENTS]);
    const meant =
      guess === undefined ? `events are ${EVENTS.join(', ')}` : `did you mean ${guess}?`;
    mistake(`events: ${pattern} is none; ${meant}`);
  }
  return found;
}

function matches(event: string, pattern: string): boolean {
  if (pattern === '*') return true;
  const [topic, what] = event.split('.');
  const [wantedTopic, wantedWhat, ...more] = pattern.split('.');
  if (more.length > 0) return false;
  const fits = (wanted: string | undefined, is: string | undefined) =>
    wanted === '*' || wanted === is;
  return fits(wantedTopic, topic) && fits(wantedWhat, what);
}

function urlOf(
  entry: {
    url?: string | undefined;
    url_file?: string | undefined;
    insecure?: boolean | undefined;
  },
  context: Context,
): Secret | undefined {
  const secret = context.secret('url', { text: entry.url, path: entry.url_file });
  if (secret === undefined) return undefined;
  const text = secret.reveal();
  if (!URL.canParse(text)) return context.mistake('url: not a URL');
  const url = new URL(text);
  if (url.protocol !== 'https:' && url.protocol !== 'http:')
    return context.mistake('url: not https://');
  if (url.username !== '' || url.password !== '')
    return context.mistake('url: a user or password in it');
  if (url.protocol === 'http:' && entry.insecure !== true) {
    return context.mistake('url: not https://; "insecure": true allows that');
  }
  return secret;
}

/** Several, comma-separated, while a secret is changed. */
function signingSecrets(secret: Secret | undefined, { mistake }: Context): Secret[] | undefined {
  if (secret === undefined) return undefined;
  const all = secret
    .reveal()
    .split(',')
    .map((part) => part.trim());
  if (all.every(isSigningSecret)) return all.map(createSecret);
  return mistake(
    'secret: expected whsec_ and 24 to 64 bytes in base64, as `echo whsec_$(openssl rand -base64 32)` makes',
  );
}

function mailTarget(
  entry: Extract<Entry, { kind: 'email' }>,
  shared: Common,
  context: Context,
): NotifyTarget | undefined {
  const { username, password, password_file: path, from, to, insecure = false } = entry;
  const server = mailServer(entry.server, context);
  const hasPassword = password !== undefined || path !== undefined;
  if ((username !== undefined) !== hasPassword)
    return context.mistake('username and password belong together');
  const secret = hasPassword ? context.secret('password', { text: password, path }) : undefined;
  if (server === undefined || (hasPassword && secret === undefined)) return undefined;
  return {
    ...shared,
    kind: 'email',
    server,
    insecure,
    ...(username !== undefined && secret !== undefined
      ? { login: { username, password: secret } }
      : {}),
    from,
    to,
  };
}

function mailServer(text: string, { mistake }: Context): MailServer | undefined {
  const match = /^(smtps?):\/\/(?:\[([0-9a-fA-F:.]+)\]|([A-Za-z0-9._-]+))(?::(\d{1,5}))?\/?$/.exec(
    text,
  );
  const host = match?.[2] ?? match?.[3];
  const tls = match?.[1] === 'smtps';
  const port = Number(match?.[4] ?? (tls ? 465 : 587));
  if (host === undefined || port === 0 || port > 65_535) {
    return mistake('server: expected smtp://host:587 (STARTTLS) or smtps://host:465');
  }
  return { host, port, tls };
}
