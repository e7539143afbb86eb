/** What commands that start a job share: whether they stay until it has ended, and what they say. */
import { BackupError } from '../errors.ts';
import type { JobView } from '../http/views.ts';
import { openClient, type ServiceClient } from './client.ts';
import type { Invocation, OptionHelp } from './command.ts';
import { jobExitCode, runToEnd } from './follow.ts';
import { plain } from './format.ts';

/** As these commands take them. */
export const WAIT_OPTIONS: Record<string, OptionHelp> = {
  wait: { type: 'boolean', help: 'Stay until it has ended (default on a terminal)' },
  'no-wait': { type: 'boolean', help: 'Only start it; needs XVAULT_URL' },
};

/** Starts a job, stays with it unless told otherwise, and returns the exit code. */
export async function startJob(
  { options, json, terminal, signal }: Invocation,
  start: (client: ServiceClient) => Promise<JobView>,
): Promise<number> {
  const leave = options['no-wait'] === true;
  if (leave && options.wait === true) {
    throw new BackupError('invalid_request', 'choose --wait or --no-wait, not both');
  }
  await using client = await openClient({ terminal, resume: !leave, until: signal });
  if (leave && client.kind === 'direct') {
    const text = 'use --no-wait with XVAULT_URL only: without a service this process does the work';
    throw new BackupError('invalid_request', text);
  }
  // who asks what would be done wants to read it
  const wants = options.wait === true || options['dry-run'] === true || terminal.errIsTty;
  const stay = client.kind === 'direct' || (!leave && wants);
  const job = stay
    ? await runToEnd({ client, terminal, signal }, () => start(client))
    : await start(client);
  if (json) terminal.out(`${JSON.stringify(job)}\n`);
  else if (!stay) terminal.out(`${plain(job.vm.name)}: ${job.status}, job ${job.id}\n`);
  return stay ? jobExitCode(job) : 0;
}
