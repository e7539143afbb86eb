/** `xvault run --waiting`: does what waits and ends, for schedulers that start a process when there is something to do. */
import type { JobView } from '../http/views.ts';
import type { ServiceClient } from './client.ts';
import type { Terminal } from './command.ts';
import type { ExitCode } from './exit-code.ts';
import { jobExitCode } from './follow.ts';

const INTERRUPTED = 130;

/** The exit code is that of the first job that failed, else 130 where something was cancelled or left. */
export async function runWaiting({
  client,
  terminal,
  json,
  stop,
}: {
  client: Pick<ServiceClient, 'workOff'>;
  terminal: Pick<Terminal, 'out' | 'err'>;
  json: boolean;
  /** Ends it early. */
  stop: AbortSignal;
}): Promise<ExitCode> {
  const jobs = (await client.workOff?.({ signal: stop })) ?? [];
  if (json) terminal.out(`${JSON.stringify({ jobs })}\n`);
  else if (jobs.length === 0) terminal.err('nothing waits\n');
  else terminal.out(jobs.map(lineOf).join(''));
  const codes = jobs.map(jobExitCode);
  const failed = codes.find((code) => code !== 0 && code !== INTERRUPTED);
  if (failed !== undefined) return failed;
  return stop.aborted || codes.includes(INTERRUPTED) ? INTERRUPTED : 0;
}

function lineOf({ id, kind, status, vm, error }: JobView): string {
  const why = error === undefined ? '' : `: ${error.detail}`;
  return `${kind} of ${vm.name} ${status}${why} (job ${id})\n`;
}
