/** `xvault index`: checks the archive of one backup and makes its index anew, here or through a running service. */
import type { Command } from './command.ts';
import { startJob, WAIT_OPTIONS } from './start-job.ts';

export const command: Command = {
  name: 'index',
  usage: 'index <backup>',
  summary:
    'Read the archive of a backup, check every block, and make its index anew if it is not right.',
  examples: [
    'xvault index 01988a52-9b1e-7c44-8d20-6f1e2d3c4b5a',
    'XVAULT_URL=https://xvault.example.com xvault index 01988a52-9b1e-7c44-8d20-6f1e2d3c4b5a --wait',
  ],
  options: {
    ...WAIT_OPTIONS,
  },
  words: { min: 1, max: 1 },
  notes: `Deltas copy from a backup by its index (docs/delta.md); restores need none. The archive is read from the bucket, a block
after the other, and never changed.`,
  async run(invocation) {
    const { positionals, signal } = invocation;
    const backupId = (positionals[0] ?? '').toLowerCase();
    return await startJob(invocation, (client) => client.startIndex({ backupId }, { signal }));
  },
};
