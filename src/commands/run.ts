/** `xvault run`: one job in the foreground, for schedulers: Kubernetes Job, Cloud Run Job, Fargate, timer, CI. */
import { BackupError } from '../errors.ts';
import { BACKUP_OPTIONS, readWishes } from './backup-options.ts';
import { openClient } from './client.ts';
import { type Command, textOption } from './command.ts';
import { backUp, jobExitCode } from './follow.ts';

export const command: Command = {
  name: 'run',
  usage: 'run --vm <machine>',
  summary:
    'One backup in the foreground, for schedulers: this process does the work and ends with it.',
  examples: [
    'xvault run --vm web-1',
    'xvault run --vm 5bc9b4e6-6bd4-4a4b-9ce1-0a9f5e1c3f7a --retention weekly --json',
  ],
  options: {
    vm: { type: 'string', value: '<machine>', help: 'Name or uuid' },
    ...BACKUP_OPTIONS,
  },
  words: { min: 0, max: 0 },
  notes: `What an earlier run left when it was killed is finished first, then comes the backup asked for.
SIGTERM cancels the backup and cleans up. Exit codes: xvault help exit-codes.`,
  async run({ options, json, terminal, signal }) {
    const vm = textOption(options, 'vm');
    if (vm === undefined) throw new BackupError('invalid_request', 'name the machine with --vm');
    const wishes = readWishes(options);
    await using client = await openClient({ terminal, direct: true, resume: true });
    const ended = await backUp({ client, terminal, signal }, { vm, wishes });
    if (json) terminal.out(`${JSON.stringify(ended)}\n`);
    return jobExitCode(ended);
  },
};
