/** `xvault backup`: one machine now, here or through a running service. */
import { BackupError } from '../errors.ts';
import { BACKUP_OPTIONS, readWishes } from './backup-options.ts';
import { openClient } from './client.ts';
import type { Command } from './command.ts';
import { backUp, jobExitCode } from './follow.ts';
import { plain } from './format.ts';

export const command: Command = {
  name: 'backup',
  usage: 'backup <machine>',
  summary: 'Back up one machine (name or uuid), with progress.',
  examples: [
    'xvault backup web-1',
    'xvault backup web-1 --retention weekly --exclude 2 --note "before the upgrade"',
    'XVAULT_URL=https://xvault.example.com xvault backup web-1 --wait',
  ],
  options: {
    ...BACKUP_OPTIONS,
    wait: { type: 'boolean', help: 'Stay until it has ended (default on a terminal)' },
    'no-wait': { type: 'boolean', help: 'Only start it; needs XVAULT_URL' },
  },
  words: { min: 1, max: 1 },
  notes: `With XVAULT_URL the service does the work, otherwise this process does. Ctrl-C cancels the backup and
cleans up.`,
  async run({ positionals, options, json, terminal, signal }) {
    const wishes = readWishes(options);
    const vm = positionals[0] ?? '';
    const leave = options['no-wait'] === true;
    if (leave && options.wait === true) {
      throw new BackupError('invalid_request', 'choose --wait or --no-wait, not both');
    }
    await using client = await openClient({ terminal, resume: !leave });
    if (leave && client.kind === 'direct') {
      const text =
        'use --no-wait with XVAULT_URL only: without a service this process does the work';
      throw new BackupError('invalid_request', text);
    }
    const wait =
      client.kind === 'direct' || (!leave && (options.wait === true || terminal.errIsTty));
    if (wait) {
      const ended = await backUp({ client, terminal, signal }, { vm, wishes });
      if (json) terminal.out(`${JSON.stringify(ended)}\n`);
      return jobExitCode(ended);
    }
    const job = await client.startBackup({ vm, wishes }, { signal });
    if (json) terminal.out(`${JSON.stringify(job)}\n`);
    else terminal.out(`${plain(job.vm.name)}: ${job.status}, job ${job.id}\n`);
    return 0;
  },
};
