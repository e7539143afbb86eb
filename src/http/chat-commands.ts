/**
 * What a slash command of a chat says and does: `run`, `status`, `list`, `cancel`, `help`, with answers as lines of text.
 *
 * Everything is an answer for people, refusals too: chats show nothing but "failed" for other statuses than 200. A machine's
 * name is the whole rest of the command, so it may hold spaces. Names are foreign text: they are made plain, and what a chat
 * would read as markup or as calling somebody is escaped.
 */
import { z } from 'zod';
import type { Service } from '../backup/service.ts';
import { backupRequestSchema, type Chat, isEnded, type Job } from '../catalog/record.ts';
import { type BackupError, ERROR_CODES, toBackupError } from '../errors.ts';
import { unsteered } from '../plain-text.ts';
import type { Cancellable } from '../ports.ts';
import { formatTime } from '../time.ts';
import { isUuid } from '../uuid.ts';
import { ageText, bytesText, jobPath } from './pages/words.ts';
import {
  CHAT_COMMANDS,
  type ChatCommand,
  requireKnownVm,
  requireVm,
  type Sender,
} from './senders.ts';
import { sharedNames } from './text-views.ts';

export interface ChatInput {
  service: Service;
  sender: Sender;
  /** The chat's id of the person. */
  user: string;
  /** What was typed behind the command's name. */
  text: string;
  maxAgeSeconds: number;
  triggeredBy: string;
  /** Of the job that is begun. */
  jobId: string | undefined;
  /** Which chat this is, and until when it takes later answers. */
  chat: { kind: Chat; followMs: number; nowMs: number };
  /** Whether a notification can lead there. */
  tellsLater(vm: Job['vm']): boolean;
  /** Where people find the pages. */
  publicUrl?: string | undefined;
}

export interface ChatAnswer {
  text: string;
  /** Begun by this command. */
  job?: Job;
}

/** More lines nobody reads in a chat. */
const MAX_LINES = 20;
const LISTED = 10;

const USAGE: Record<ChatCommand, string> = {
  run: '`run <machine>`: back it up now',
  status: '`status [<machine>]`: when each was backed up last, what is overdue',
  list: '`list <machine>`: its backups, newest first',
  cancel: '`cancel <job>`: stop a job',
};

/** Does what a command says, as far as this person may. Never throws what a person can be told. */
export async function doChatCommand(input: ChatInput, options: Cancellable): Promise<ChatAnswer> {
  const text = input.text.trim();
  const word = text.split(/\s/, 1)[0] ?? '';
  const rest = text.slice(word.length).trim();
  const command = CHAT_COMMANDS.find((one) => one === word.toLowerCase());
  if (command === undefined) return { text: help(input, word) };
  if (!allowedTo(input).includes(command)) {
    const refusal = `You (${shown(input.user)}) may not \`${command}\` here: the settings of xvault say who may.`;
    return { text: refusal };
  }
  try {
    return await COMMANDS[command](input, rest.replace(/^["'“](.*)["'”]$/s, '$1'), options);
  } catch (thrown) {
    const error = toBackupError(thrown);
    if (error.code === 'internal') throw thrown;
    const lines = [`Not done: ${shown(error.message)}. ${ERROR_CODES[error.code]}`];
    return { text: [...lines, ...namesakes(error)].join('\n') };
  }
}

/** The machines of one name: whoever reads "use a uuid" needs one. */
function namesakes({ details: { candidates } }: BackupError): string[] {
  const known = z.array(z.object({ uuid: z.string(), pool: z.string() })).safeParse(candidates);
  const lines = (known.data ?? []).map(({ uuid, pool }) => `\`${shown(uuid)}\` (${shown(pool)})`);
  return lines.slice(0, MAX_LINES);
}

/** What is told of a job that ended. */
export function endedText(job: Job): string {
  const name = nameOf(job);
  if (job.status === 'succeeded') {
    const size = job.result === undefined ? '' : `, ${bytesText(job.result.archive.size_bytes)}`;
    const id = job.result === undefined ? '' : ` Backup \`${job.result.id}\`.`;
    return `${name} is backed up${size}.${id}`;
  }
  const why = job.error === undefined ? '' : ` ${shown(job.error.detail)}`;
  return `The backup of ${name} ${job.status === 'cancelled' ? 'was cancelled' : 'failed'}.${why}`;
}

function linkOf({ publicUrl }: ChatInput, { id }: Job): string {
  return publicUrl === undefined ? '' : `${publicUrl}${jobPath(id)}`;
}

/** Nobody shall wait for word that cannot come. */
function laterOf({ chat, tellsLater }: ChatInput, { vm }: Job): string {
  if (tellsLater(vm)) return '';
  const when =
    chat.followMs === 0 ? 'Its end' : `An end later than ${ageText(chat.followMs / 1000)} from now`;
  return `${when} is told nowhere here: ask for \`status\`. (No notification target of kind ${chat.kind} is set.)`;
}

type Do = (input: ChatInput, rest: string, options: Cancellable) => Promise<ChatAnswer>;

const COMMANDS: Record<ChatCommand, Do> = {
  run: async (input, vm, options) => {
    const { service, sender, triggeredBy, jobId, chat } = input;
    if (vm === '') return { text: USAGE.run };
    requireVm(sender, vm);
    const request = backupRequestSchema.parse({});
    const until = formatTime(chat.nowMs + chat.followMs);
    const wish = { vm, request, triggeredBy, jobId, chat: { kind: chat.kind, until } };
    const job = await service.startBackup(wish, options);
    const text = [
      `Backing up ${nameOf(job)}: job \`${job.id}\`.`,
      linkOf(input, job),
      laterOf(input, job),
    ];
    return { text: text.filter(Boolean).join(' '), job };
  },
  status: async ({ service, maxAgeSeconds }, vm, options) => {
    const report = await service.status({ maxAgeSeconds }, options);
    const rows = report.vms.filter((row) => vm === '' || isNamed(row.vm, vm));
    if (rows.length === 0) return { text: vm === '' ? 'No machines.' : `No machine ${shown(vm)}.` };
    const shared = sharedNames(rows);
    const lines = rows.map(({ status, vm: { name, uuid }, age_seconds: age, reason }) => {
      const when = age === undefined ? 'never' : `${ageText(age)} ago`;
      const who = shared.has(name) ? `${shown(name)} (\`${uuid}\`)` : shown(name || uuid);
      return `${status}: ${who}, ${when}${status === 'ok' ? '' : `: ${shown(reason)}`}`;
    });
    return { text: listed(lines) };
  },
  list: async ({ service }, vm, options) => {
    if (vm === '') return { text: USAGE.list };
    const { items } = await service.listBackups({ vm, pageSize: LISTED }, options);
    if (items.length === 0) return { text: `No backups of ${shown(vm)}.` };
    const lines = items.map(
      (one) =>
        `${one.created_at.slice(0, 16)}Z ${one.retention}, ${bytesText(one.archive.size_bytes)}: \`${one.id}\``,
    );
    return { text: listed(lines) };
  },
  cancel: async ({ service, sender }, id, options) => {
    if (!isUuid(id)) return { text: USAGE.cancel };
    const job = await service.getJob(id.toLowerCase(), options);
    if (job === undefined) return { text: `No job ${id}.` };
    if (isEnded(job)) return { text: `It has ended already: ${job.status}.` };
    requireKnownVm(sender, job.vm);
    await service.cancelJob(job.id, options);
    return { text: `Stopping the job of ${nameOf(job)}; what it began is removed.` };
  },
};

function allowedTo({ sender, user }: ChatInput): readonly ChatCommand[] {
  const users = sender.users ?? {};
  const own = Object.hasOwn(users, user) && user !== '*' ? users[user] : undefined;
  return own ?? users['*'] ?? [];
}

function help(input: ChatInput, word: string): string {
  const mine = allowedTo(input).map((command) => USAGE[command]);
  const unknown = word === '' || word === 'help' ? [] : [`I do not know \`${shown(word)}\`.`];
  if (mine.length === 0) mine.push(`You (${shown(input.user)}) may do nothing here.`);
  return [...unknown, ...mine].join('\n');
}

function isNamed(vm: { name: string; uuid: string }, wanted: string): boolean {
  return vm.name === wanted || vm.uuid === wanted.toLowerCase();
}

function listed(lines: string[]): string {
  const more = lines.length - MAX_LINES;
  return [...lines.slice(0, MAX_LINES), ...(more > 0 ? [`and ${more} more`] : [])].join('\n');
}

function nameOf({ vm }: Job): string {
  return shown(vm.name || vm.uuid);
}

/**
 * What calls people, links or formats, taken as plain text (docs.slack.dev, "Formatting message text"). Mattermost draws
 * Markdown: a word joiner takes its links and pictures apart, since it and Slack share no escape for them.
 */
function shown(text: string): string {
  const short = unsteered(text).slice(0, 300).replaceAll('`', "'");
  return short
    .replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;')
    .replaceAll('>', '&gt;')
    .replaceAll('@', '@\u2060')
    .replace(/\](?=[([])/g, ']\u2060');
}
