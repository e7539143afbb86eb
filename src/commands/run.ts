/** `xvault run`: one machine or many in the foreground, for schedulers: Kubernetes Job, Cloud Run Job, Fargate, timer, CI. */
import { isDeepStrictEqual } from 'node:util';
import { backupRequestSchema } from '../catalog/record.ts';
import { selectSchema } from '../catalog/run.ts';
import { systemClock } from '../clock.ts';
import { readSettings } from '../config.ts';
import { BackupError, isBackupError } from '../errors.ts';
import type { RunView } from '../http/run-answers.ts';
import type { JobView } from '../http/views.ts';
import { parseTime } from '../time.ts';
import { BACKUP_OPTIONS, readWishes } from './backup-options.ts';
import { openClient, type ServiceClient, type Wishes } from './client.ts';
import {
  type Command,
  type Invocation,
  listOption,
  type OptionValues,
  textOption,
} from './command.ts';
import type { ExitCode } from './exit-code.ts';
import { backUp, jobExitCode } from './follow.ts';
import { leaveAfterMs, parseGrace, stopsOf, withinGrace } from './grace.ts';
import type { RunWishes } from './run-client.ts';
import { runMany } from './run-many.ts';
import { runWaiting } from './run-waiting.ts';
import { parseWishes } from './wishes.ts';

const LEFT: ExitCode = 143;
/** A backup that an earlier process began is as good as a new one, its snapshot being younger than this. */
const AS_OF_NOW_MS = 3_600_000;

export const command: Command = {
  name: 'run',
  usage:
    'run --vm <machine> | --all | --tag <tag> | --name <machine> | --select <json> | --waiting',
  summary:
    'Back up in the foreground, for schedulers: this process does the work and ends with it.',
  examples: [
    'xvault run --vm web-1',
    'xvault run --vm 5bc9b4e6-6bd4-4a4b-9ce1-0a9f5e1c3f7a --retention weekly --json',
    'xvault run --all --skip test- --deadline 8h',
    'xvault run --tag nightly --retention auto --json',
    `xvault run --select '{"tags": ["nightly"], "pool": "dc1"}' --grace 30s`,
  ],
  options: {
    vm: { type: 'string', value: '<machine>', help: 'One machine, by name or uuid' },
    all: { type: 'boolean', help: 'Every machine' },
    tag: {
      type: 'string',
      multiple: true,
      value: '<tag>',
      help: 'Machines that carry this tag; may be repeated',
    },
    name: {
      type: 'string',
      multiple: true,
      value: '<machine>',
      help: 'Machines of this name or uuid; may be repeated',
    },
    select: {
      type: 'string',
      value: '<json>',
      help: 'Machines as the API’s `select` says them, instead of the three above',
    },
    skip: {
      type: 'string',
      multiple: true,
      value: '<machine>',
      help: 'Not those whose uuid this is, or whose name contains it; may be repeated',
    },
    deadline: {
      type: 'string',
      value: '<time>',
      help: 'Begin nothing after it: 8h, 90m or 2026-11-24T06:00:00Z (default 1d)',
    },
    waiting: {
      type: 'boolean',
      help: 'Do the jobs that wait and end: those of the shared queue, or that an earlier process left',
    },
    grace: {
      type: 'string',
      value: '<time>',
      help: 'End so long after SIGTERM at the latest (default 5s: XVAULT_RUN_GRACE_SECONDS)',
    },
    ...BACKUP_OPTIONS,
  },
  words: { min: 0, max: 0 },
  notes: `What an earlier run left is gone on with first. If that was the same wish, it is the answer: the run of the last twelve
hours, or the backup whose snapshot is less than an hour old. Otherwise comes the backup asked for. A run of the same wish that
another instance is at is watched to its end, and gone on with should that instance die; with --vm its lease is waited for,
and one that is renewed is a conflict (exit code 11).
With --all, --tag, --name or --select each machine is a job of its own, begun as the limits allow: first what has no backup, then what
was backed up longest ago. Machines with the tag xvault:skip and disks with [nobackup] in their name are left out. The report
comes at the end (docs/runs.md); the exit code is 0 when all succeeded, 3 when some did.
--waiting begins nothing new: it does what waits and ends (docs/queue.md), with the exit code of the first job that failed.
SIGTERM: what runs is stopped and left to the next run or a service, cleaned up as far as the grace goes; exit code 143, and
with --json the job or run as it was left. Ctrl-C cancels and cleans up. Exit codes: xvault help exit-codes.`,
  async run(invocation) {
    const { options, json, terminal, signal } = invocation;
    const asked = readAsked(options);
    const { settings } = readSettings();
    const grace = textOption(options, 'grace');
    const graceMs = grace === undefined ? settings.runGraceMs : parseGrace(grace);
    const { cancel, leave } = stopsOf(signal);
    const seen: Seen = {};
    const work = async (): Promise<ExitCode> => {
      await using client = await openClient({
        terminal,
        direct: true,
        resume: true,
        waiting: asked.waiting === true,
        until: signal,
        leave: { signal: leave, afterMs: leaveAfterMs(graceMs) },
      });
      leave.throwIfAborted();
      const code = await runAsked(invocation, { asked, client, cancel, leave, seen });
      seen.code = code;
      return code;
    };
    const late = (): ExitCode => {
      if (seen.code !== undefined) return seen.code;
      terminal.err(`the ${graceMs / 1000} s of grace are over: ending with work under way\n`);
      if (json && seen.latest !== undefined) terminal.out(`${JSON.stringify(seen.latest)}\n`);
      return LEFT;
    };
    try {
      return await withinGrace({ leave, graceMs, clock: systemClock }, work, late);
    } catch (error) {
      if (!leave.aborted || !isBackupError(error, 'cancelled', 'draining')) throw error;
      terminal.err('stopped before it was begun\n');
      return LEFT;
    }
  },
};

/** What is known of the work, for when it has to be left under way. */
interface Seen {
  latest?: JobView | RunView;
  code?: ExitCode;
}

/** One machine, or many. */
interface Asked {
  vm?: string;
  many?: RunWishes;
  wishes: Wishes;
  /** What waits, and nothing new. */
  waiting?: boolean;
}

/** Errors: `invalid_request`. */
function readAsked(options: OptionValues): Asked {
  if (options.waiting === true) return readWaiting(options);
  const vm = textOption(options, 'vm');
  const many = readSelection(options);
  if (vm === undefined && many === undefined) {
    const text =
      'name the machine with --vm, or several with --all, --tag, --name or --select; or --waiting';
    throw new BackupError('invalid_request', text);
  }
  if (vm !== undefined && many !== undefined) {
    const text =
      'choose --vm for one machine, or --all, --tag, --name, --select, --skip, --deadline for many';
    throw new BackupError('invalid_request', text);
  }
  const wishes = readWishes(options);
  if (many === undefined) return { vm: vm ?? '', wishes };
  if (wishes.hooks !== undefined) {
    const text = 'leave out --before-snapshot and --after-snapshot: hooks are of one machine, --vm';
    throw new BackupError('invalid_request', text);
  }
  return { many, wishes };
}

/** It asks for nothing, so nothing can be said of it. Errors: `invalid_request`. */
function readWaiting(options: OptionValues): Asked {
  const other = Object.keys(options).find((name) => {
    return !['waiting', 'grace', 'json'].includes(name) && options[name] !== undefined;
  });
  if (other === undefined) return { waiting: true, wishes: {} };
  const text = `leave out --${other}: --waiting does what was asked for before`;
  throw new BackupError('invalid_request', text);
}

async function runAsked(
  { terminal, json }: Pick<Invocation, 'terminal' | 'json'>,
  input: {
    asked: Asked;
    client: ServiceClient;
    cancel: AbortSignal;
    leave: AbortSignal;
    seen: Seen;
  },
): Promise<ExitCode> {
  const { asked, client, cancel: signal, leave, seen } = input;
  const { vm = '', many, wishes } = asked;
  if (asked.waiting) {
    return await runWaiting({ client, terminal, json, signal, leave });
  }
  const look = (latest: JobView | RunView) => {
    seen.latest = latest;
  };
  if (many !== undefined) {
    const { pool, hooks: _, ...defaults } = wishes;
    const select = { ...many.select, ...(pool === undefined ? {} : { pool }) };
    const clock = systemClock;
    return await runMany(
      { client, terminal, json, clock, signal, leave, seen: look },
      { ...defaults, ...many, select },
    );
  }
  const isAnswer = answersTo(wishes, systemClock.now());
  const ended = await backUp(
    { client, terminal, signal, leave, seen: look, isAnswer, waitForLease: systemClock },
    { vm, wishes },
  );
  if (json) terminal.out(`${JSON.stringify(ended)}\n`);
  return jobExitCode(ended);
}

/**
 * Whether a job that an earlier process left is the backup asked for now: asked the same, and as of now. A scheduler that
 * starts its container once more wants no second one; the next night wants its own.
 */
function answersTo(wishes: Wishes, nowMs: number): (left: JobView) => boolean {
  const wanted = backupRequestSchema.safeParse(wishes).data;
  return ({ kind, status, request, result }) =>
    kind === 'backup' &&
    status === 'succeeded' &&
    result !== undefined &&
    parseTime(result.created_at) > nowMs - AS_OF_NOW_MS &&
    isDeepStrictEqual(request, wanted);
}

/** Which machines, when several are meant. */
function readSelection(options: OptionValues): RunWishes | undefined {
  const tags = listOption(options, 'tag');
  const names = listOption(options, 'name');
  const skip = listOption(options, 'skip');
  const deadline = textOption(options, 'deadline');
  const all = options.all === true;
  const json = textOption(options, 'select');
  if (json !== undefined && (all || tags.length + names.length > 0 || options.pool !== undefined)) {
    const text = '--select says all of it: leave out --all, --tag, --name and --pool';
    throw new BackupError('invalid_request', text);
  }
  if (
    !all &&
    json === undefined &&
    tags.length + names.length + skip.length === 0 &&
    deadline === undefined
  ) {
    return undefined;
  }
  return {
    select: json === undefined ? { all, tags, names } : parseSelect(json),
    ...(skip.length === 0 ? {} : { skip }),
    ...(deadline === undefined ? {} : { deadline }),
  };
}

/** As the API takes it. Errors: `invalid_request`. */
function parseSelect(text: string): RunWishes['select'] {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new BackupError('invalid_request', 'read --select: it is no JSON', { cause });
  }
  return parseWishes(selectSchema, value, '--select');
}
