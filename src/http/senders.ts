/**
 * Who calls the routes under /hooks/: services that sign what they send, each in its own way, instead of sending a token.
 *
 *   standard  Standard Webhooks 1.0.0: HMAC-SHA256 of `id.timestamp.body`, base64, several signatures while a key changes
 *   github    HMAC-SHA256 of the body, hex (docs.github.com, "Validating webhook deliveries")
 *   slack     HMAC-SHA256 of `v0:timestamp:body`, hex (docs.slack.dev, "Verifying requests from Slack")
 *   mattermost  signs nothing: a token in Authorization, and the same in the form
 *
 * The signature is of the bytes as they came, so it is checked before anything is read from them; WebCrypto compares in
 * constant time. Secrets may be several, for the time of a change. A delivery's id is its idempotency key: a repeat gets
 * the first answer. What Standard Webhooks sign holds id and time, so a copy of it is good for five minutes, in which its
 * id is known; GitHub signs the body only, so there the copy is as good as TLS lets nobody have one.
 */
import { BackupError } from '../errors.ts';
import type { Secret } from '../secret.ts';
import { isUuid } from '../uuid.ts';
import type { Identity } from './auth.ts';

export type SenderName = 'standard' | 'github' | 'slack' | 'mattermost';
export const CHAT_COMMANDS = ['run', 'status', 'list', 'cancel'] as const;
export type ChatCommand = (typeof CHAT_COMMANDS)[number];

/** One sender as the settings have it. */
export interface Sender {
  /** The first that fits counts: old and new while it is changed. */
  secrets: readonly Secret[];
  /** uuids, names, or beginnings of names that end with `*`. */
  vms: readonly string[];
  /** Of a chat: user id, or `*` for all others → what he may. */
  users?: Readonly<Record<string, readonly ChatCommand[]>>;
  /** Of a chat: where its later answers may go. */
  replyOrigins?: readonly string[];
}
export type Senders = Partial<Record<SenderName, Sender>>;

/** A delivery whose signature is right. */
export interface Delivery {
  sender: Sender;
  identity: Identity;
  /** The sender's own id of it, if it has one that is signed or random. */
  key: string | undefined;
  text: string;
}

interface Kind {
  setting: string;
  /** Header → what it holds, for the description. */
  headers: Record<string, string>;
  read(input: Received): Signed;
  /** Its bodies are forms. */
  form?: boolean;
}

interface Received {
  header(name: string): string | undefined;
  bytes: Uint8Array<ArrayBuffer>;
  nowMs: number;
}

interface Signed {
  key: string | undefined;
  signed: Uint8Array<ArrayBuffer>;
  /** Any of them may be right. */
  signatures: Uint8Array<ArrayBuffer>[];
  /** Instead of signatures: what must be the secret itself. */
  token?: Uint8Array<ArrayBuffer>;
  keyOf(secret: string): Uint8Array<ArrayBuffer>;
}

/** Of Standard Webhooks: how far sender's and own clock may be apart, with the time on the way. */
export const TOLERANCE_SECONDS = 300;
/** One for each key of a rotation; more are work for nothing. */
const MAX_SIGNATURES = 8;
const ID = /^[\x21-\x7e]{1,255}$/;
const SHA256_BYTES = 32;
const HMAC = { name: 'HMAC', hash: 'SHA-256' };

const KINDS: Record<SenderName, Kind> = {
  standard: {
    setting: 'XVAULT_HOOK_STANDARD_SECRET',
    headers: {
      'webhook-id': 'Id of the message, the same in every try: the idempotency key.',
      'webhook-timestamp': 'When it was signed, in seconds; at most five minutes off.',
      'webhook-signature': '`v1,` and the signature; several separated by spaces.',
    },
    read: readStandard,
  },
  github: {
    setting: 'XVAULT_HOOK_GITHUB_SECRET',
    headers: {
      'x-github-event': '`ping`, `repository_dispatch` or `workflow_dispatch`.',
      'x-github-delivery': 'Id of the delivery, the idempotency key.',
      'x-hub-signature-256': '`sha256=` and the signature.',
    },
    read: readGithub,
  },
  slack: {
    setting: 'XVAULT_HOOK_SLACK_SECRET',
    headers: {
      'x-slack-request-timestamp': 'When it was signed, in seconds; at most five minutes off.',
      'x-slack-signature': '`v0=` and the signature.',
    },
    read: readSlack,
    form: true,
  },
  mattermost: {
    setting: 'XVAULT_HOOK_MATTERMOST_TOKEN',
    headers: { authorization: '`Token` and the token of the slash command.' },
    read: readMattermost,
    form: true,
  },
};

/** What a sender puts into its headers, for the description. */
export function senderHeaders(name: SenderName): Record<string, string> {
  return KINDS[name].headers;
}

/** Says whether a sender sends forms. */
export function sendsForms(name: SenderName): boolean {
  return KINDS[name].form === true;
}

/** The sender of the settings. Errors: `not_found`, naming the setting. */
export function senderOf(senders: Senders | undefined, name: SenderName): Sender {
  const sender = senders?.[name];
  if (sender !== undefined) return sender;
  const { setting } = KINDS[name];
  throw new BackupError('not_found', `find /hooks/${name}: it is off, ${setting} turns it on`);
}

/** Checks signature and time. Errors: `unauthenticated`, saying what is wrong and nothing of the secret. */
export async function readDelivery(
  name: SenderName,
  { sender, ...received }: Received & { sender: Sender },
): Promise<Delivery> {
  if (name === 'slack' && isSslCheck(received)) {
    // not signed, so nothing else of it is taken, and nothing done
    const identity = { name: 'hook:slack', scopes: new Set<never>() };
    return { sender, identity, key: undefined, text: 'ssl_check=1' };
  }
  const { key, signed, signatures, keyOf, token } = KINDS[name].read(received);
  for (const secret of sender.secrets) {
    const raw = keyOf(secret.reveal());
    const hmac = await crypto.subtle.importKey('raw', raw, HMAC, false, ['verify']);
    // a token is compared as what it makes of the same text: in constant time, too
    const proofs = token === undefined ? signatures : [await hmacOf(token, signed)];
    for (const signature of proofs) {
      if (!(await crypto.subtle.verify('HMAC', hmac, signature, signed))) continue;
      const identity = { name: `hook:${name}`, scopes: new Set(['backup'] as const) };
      return { sender, identity, key, text: new TextDecoder().decode(received.bytes) };
    }
  }
  throw stranger('the signature is of another secret or another body');
}

/** Errors: `forbidden` for a machine this sender may not name. */
export function requireVm(sender: Sender, vm: string): void {
  if (!mayName(sender, vm)) throw strangeVm(vm);
}

/** The same of a machine that is known: by its name or its uuid. */
export function requireKnownVm(sender: Sender, { name, uuid }: { name: string; uuid: string }) {
  if (!mayName(sender, name) && !mayName(sender, uuid)) throw strangeVm(name || uuid);
}

function strangeVm(vm: string): BackupError {
  return new BackupError('forbidden', `allow request: this sender may not name it, vm=${vm}`);
}

/** Says whether the sender may name any machine. */
export function mayNameAll({ vms }: Sender): boolean {
  return vms.includes('*');
}

/** The beginning of a name is none of a uuid: `db*` would be one machine in 256, whatever it is called. */
function mayName({ vms }: Sender, vm: string): boolean {
  const byUuid = isUuid(vm);
  return vms.some((entry) => {
    if (entry === '*') return true;
    if (byUuid) return entry.toLowerCase() === vm.toLowerCase();
    return entry.endsWith('*') ? vm.startsWith(entry.slice(0, -1)) : entry === vm;
  });
}

function readStandard({ header, bytes, nowMs }: Received): Signed {
  const id = header('webhook-id') ?? '';
  if (!ID.test(id)) throw stranger('there is no webhook-id');
  const timestamp = header('webhook-timestamp') ?? '';
  if (!/^\d{1,12}$/.test(timestamp)) throw stranger('there is no webhook-timestamp in seconds');
  const offSeconds = Math.abs(nowMs / 1000 - Number(timestamp));
  if (offSeconds > TOLERANCE_SECONDS) {
    throw stranger(`webhook-timestamp is ${Math.round(offSeconds)} s off, more than five minutes`);
  }
  const list = (header('webhook-signature') ?? '').split(' ').slice(0, MAX_SIGNATURES);
  const signatures = list.flatMap((entry) => {
    const base64 = /^v1,([A-Za-z0-9+/]{43}=)$/.exec(entry)?.[1];
    return base64 === undefined ? [] : [fromBase64(base64)];
  });
  if (signatures.length === 0) throw stranger('there is no webhook-signature of version v1');
  return {
    key: id,
    signed: joined(new TextEncoder().encode(`${id}.${timestamp}.`), bytes),
    signatures,
    keyOf: (secret) => fromBase64(secret.replace(/^whsec_/, '')),
  };
}

function readGithub({ header, bytes }: Received): Signed {
  const key = header('x-github-delivery') ?? '';
  if (!ID.test(key)) throw stranger('there is no X-GitHub-Delivery');
  const hex = /^sha256=([0-9a-f]{64})$/i.exec(header('x-hub-signature-256') ?? '')?.[1];
  if (hex === undefined) {
    throw stranger('there is no X-Hub-Signature-256: set the secret in the webhook, too');
  }
  return {
    key,
    signed: bytes,
    signatures: [fromHex(hex)],
    keyOf: (secret) => new TextEncoder().encode(secret),
  };
}

function readSlack({ header, bytes, nowMs }: Received): Signed {
  const timestamp = header('x-slack-request-timestamp') ?? '';
  if (!/^\d{1,12}$/.test(timestamp)) throw stranger('there is no X-Slack-Request-Timestamp');
  const offSeconds = Math.abs(nowMs / 1000 - Number(timestamp));
  if (offSeconds > TOLERANCE_SECONDS) {
    throw stranger(`the timestamp is ${Math.round(offSeconds)} s off, more than five minutes`);
  }
  const hex = /^v0=([0-9a-f]{64})$/.exec(header('x-slack-signature') ?? '')?.[1];
  if (hex === undefined) throw stranger('there is no X-Slack-Signature of version v0');
  return {
    // of this body at this second, and of no other: a copy is a repeat
    key: `${timestamp}.${hex}`,
    signed: joined(new TextEncoder().encode(`v0:${timestamp}:`), bytes),
    signatures: [fromHex(hex)],
    keyOf: (secret) => new TextEncoder().encode(secret),
  };
}

/** The token is no key; taken as one, it is compared in constant time: with what it makes of a text. */
function readMattermost({ header }: Received): Signed {
  const token = /^Token ([\x21-\x7e]{16,255})$/i.exec(header('authorization') ?? '')?.[1];
  if (token === undefined) throw stranger('there is no Authorization: Token …');
  const bytes = new TextEncoder().encode(token);
  return {
    key: undefined,
    signed: bytes,
    signatures: [],
    token: bytes,
    keyOf: (text) => new TextEncoder().encode(text),
  };
}

/** Slack looks whether the address speaks TLS (docs.slack.dev, slash commands). */
function isSslCheck({ bytes }: Received): boolean {
  return new URLSearchParams(new TextDecoder().decode(bytes)).get('ssl_check') === '1';
}

function stranger(why: string): BackupError {
  return new BackupError('unauthenticated', `read signature: ${why}`, {
    details: { www_authenticate: 'Signature realm="xvault"' },
  });
}

async function hmacOf(key: Uint8Array<ArrayBuffer>, text: Uint8Array<ArrayBuffer>) {
  const hmac = await crypto.subtle.importKey('raw', key, HMAC, false, ['sign']);
  return new Uint8Array(await crypto.subtle.sign('HMAC', hmac, text));
}

function fromHex(hex: string): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(SHA256_BYTES);
  for (let i = 0; i < bytes.length; i++)
    bytes[i] = Number.parseInt(hex.slice(2 * i, 2 * i + 2), 16);
  return bytes;
}

function fromBase64(text: string): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
}

function joined(head: Uint8Array, tail: Uint8Array): Uint8Array<ArrayBuffer> {
  const all = new Uint8Array(head.length + tail.length);
  all.set(head);
  all.set(tail, head.length);
  return all;
}
