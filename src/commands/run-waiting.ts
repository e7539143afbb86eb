/** `xvault run --waiting`: does what waits and ends, for schedulers that start a process when there is something to do. */
import type { JobView } from '../http/views.ts';
import type { ServiceClient } from './client.ts';
import type { Terminal } from './command.ts';
import type { ExitCode } from './exit-code.ts';
import { jobExitCode } from './follow.ts';

const CANCELLED = 130;
const LEFT = 143;

/** The exit code is that of the first job that failed, else 143 after SIGTERM, 130 where something was cancelled. */
export async function runWaiting({
  client,
  terminal,
  json,
  signal,
  leave,
}: {
  client: Pick<ServiceClient, 'workOff'>;
  terminal: Pick<Terminal, 'out' | 'err'>;
  json: boolean;
  signal: AbortSignal;
  /** Aborted when what waits is to be left to the next process. */
  leave: AbortSignal;
}): Promise<ExitCode> {
  const stop = AbortSignal.any([signal, leave]);
  const jobs = (await client.workOff?.({ signal: stop })) ?? [];
  if (json) terminal.out(`${JSON.stringify({ jobs })}\n`);
  else if (jobs.length === 0) terminal.err('nothing waits\n');
  else terminal.out(jobs.map(lineOf).join(''));
  const codes = jobs.map(jobExitCode);
  const failed = codes.find((code) => code !== 0 && code !== CANCELLED);
  if (failed !== undefined) return failed;
  if (leave.aborted) return LEFT;
  return signal.aborted || codes.includes(CANCELLED) ? CANCELLED : 0;
}

function lineOf({ id, kind, status, vm, error }: JobView): string {
  const why = error === undefined ? '' : `: ${error.detail}`;
  return `${kind} of ${vm.name} ${status}${why} (job ${id})\n`;
}
