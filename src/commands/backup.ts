/** `xvault backup`: one machine now, here or through a running service. */
import { BACKUP_OPTIONS, readWishes } from './backup-options.ts';
import type { Command } from './command.ts';
import { startJob, WAIT_OPTIONS } from './start-job.ts';

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
    ...WAIT_OPTIONS,
  },
  words: { min: 1, max: 1 },
  notes: `With XVAULT_URL the service does the work, otherwise this process does. Ctrl-C cancels the backup and
cleans up.`,
  async run(invocation) {
    const { positionals, options, signal } = invocation;
    const wish = { vm: positionals[0] ?? '', wishes: readWishes(options) };
    return await startJob(invocation, (client) => client.startBackup(wish, { signal }));
  },
};
