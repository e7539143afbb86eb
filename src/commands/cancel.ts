/** `xvault cancel`: asks the instance that runs a job to stop and clean up. */
import { openClient } from './client.ts';
import type { Command } from './command.ts';

export const command: Command = {
  name: 'cancel',
  usage: 'cancel <job>',
  summary: 'Cancel a job; it ends as cancelled with nothing left behind.',
  examples: ['xvault cancel 01988a52-7d6f-7c1e-9f70-0b5f3a9f2c11'],
  options: {},
  words: { min: 1, max: 1 },
  async run({ positionals, json, terminal, signal }) {
    await using client = await openClient({ terminal });
    const job = await client.cancelJob(positionals[0] ?? '', { signal });
    if (json) terminal.out(`${JSON.stringify(job)}\n`);
    else terminal.out(`job ${job.id}: ${job.cancel_requested ? 'asked to stop' : job.status}\n`);
    return 0;
  },
};
