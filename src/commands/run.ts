/** `xvault run`: one machine or many in the foreground, for schedulers: Kubernetes Job, Cloud Run Job, Fargate, timer, CI. */
import { systemClock } from '../clock.ts';
import { BackupError } from '../errors.ts';
import { BACKUP_OPTIONS, readWishes } from './backup-options.ts';
import { openClient } from './client.ts';
import { type Command, listOption, type OptionValues, textOption } from './command.ts';
import { backUp, jobExitCode } from './follow.ts';
import type { RunWishes } from './run-client.ts';
import { runMany } from './run-many.ts';

export const command: Command = {
  name: 'run',
  usage: 'run --vm <machine> | --all | --tag <tag> | --name <machine>',
  summary:
    'Back up in the foreground, for schedulers: this process does the work and ends with it.',
  examples: [
    'xvault run --vm web-1',
    'xvault run --vm 5bc9b4e6-6bd4-4a4b-9ce1-0a9f5e1c3f7a --retention weekly --json',
    'xvault run --all --skip test- --deadline 8h',
    'xvault run --tag nightly --retention auto --json',
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
    ...BACKUP_OPTIONS,
  },
  words: { min: 0, max: 0 },
  notes: `What an earlier run left when it was killed is finished first, then comes the backup asked for.
With --all, --tag or --name each machine is a job of its own, begun as the limits allow: first what has no backup, then what
was backed up longest ago. Machines with the tag xvault:skip and disks with [nobackup] in their name are left out. The report
comes at the end (docs/runs.md); the exit code is 0 when all succeeded, 3 when some did.
SIGTERM cancels and cleans up. Exit codes: xvault help exit-codes.`,
  async run({ options, json, terminal, signal }) {
    const vm = textOption(options, 'vm');
    const many = readSelection(options);
    if (vm === undefined && many === undefined) {
      const text = 'name the machine with --vm, or several with --all, --tag or --name';
      throw new BackupError('invalid_request', text);
    }
    if (vm !== undefined && many !== undefined) {
      const text =
        'choose --vm for one machine, or --all, --tag, --name, --skip, --deadline for many';
      throw new BackupError('invalid_request', text);
    }
    const wishes = readWishes(options);
    if (many !== undefined && wishes.hooks !== undefined) {
      const text =
        'leave out --before-snapshot and --after-snapshot: hooks are of one machine, --vm';
      throw new BackupError('invalid_request', text);
    }
    await using client = await openClient({ terminal, direct: true, resume: true, until: signal });
    if (many !== undefined) {
      const { pool, hooks: _, ...defaults } = wishes;
      const select = { ...many.select, ...(pool === undefined ? {} : { pool }) };
      const clock = systemClock;
      return await runMany(
        { client, terminal, json, clock, signal },
        { ...defaults, ...many, select },
      );
    }
    const ended = await backUp({ client, terminal, signal }, { vm: vm ?? '', wishes });
    if (json) terminal.out(`${JSON.stringify(ended)}\n`);
    return jobExitCode(ended);
  },
};

/** Which machines, when several are meant. */
function readSelection(options: OptionValues): RunWishes | undefined {
  const tags = listOption(options, 'tag');
  const names = listOption(options, 'name');
  const skip = listOption(options, 'skip');
  const deadline = textOption(options, 'deadline');
  const all = options.all === true;
  if (!all && tags.length + names.length + skip.length === 0 && deadline === undefined) {
    return undefined;
  }
  return {
    select: { all, tags, names },
    ...(skip.length === 0 ? {} : { skip }),
    ...(deadline === undefined ? {} : { deadline }),
  };
}
