/**
 * `xvault run` over many machines: starts the run in this process and stays to its end.
 *
 * Ctrl-C asks for the run to be cancelled and goes on watching, as with one job; a second one ends the program at once, and
 * the next `xvault run` or a service goes on with what is left. So it does after SIGTERM, which cancels nothing. A run of the
 * same wish that is under way already is the answer, wherever it is: a scheduler that begins anew wants no second night.
 */
import { runHeadline, runReport } from '../backup/runs-report.ts';
import { isMachineEnded, isRunEnded, type RunMachine } from '../catalog/run.ts';
import type { RunView } from '../http/run-answers.ts';
import type { Clock } from '../ports.ts';
import type { ServiceClient } from './client.ts';
import type { Terminal } from './command.ts';
import type { ExitCode } from './exit-code.ts';
import { LEAVING } from './follow.ts';
import { formatBytes, formatSeconds, plain } from './format.ts';
import { createLiveLines } from './live-lines.ts';
import type { RunClient, RunWishes } from './run-client.ts';

const LOOK_EVERY_MS = 1000;
/** What another instance is at has to be read from the bucket each time. */
const LOOK_ELSEWHERE_MS = 5000;
/** Snapshot removal may have to wait for a busy host; longer than that nobody waits at a prompt. */
const CANCEL_LIMIT_MS = 180_000;
/** Machines at work that are named while one waits. */
const SHOWN = 8;

const EXIT: Record<RunView['status'], ExitCode> = {
  queued: 143,
  running: 143,
  succeeded: 0,
  partial: 3,
  failed: 1,
  cancelled: 130,
};

/** Runs to the end and returns the exit code. */
export async function runMany(
  input: {
    client: Pick<RunClient, 'startRun' | 'getRun' | 'cancelRun' | 'openRun'> &
      Pick<ServiceClient, 'left' | 'instance'>;
    terminal: Terminal;
    json: boolean;
    clock: Clock;
    signal: AbortSignal;
    /** Aborted when the run is to be left as it is to the next process. */
    leave?: AbortSignal;
    /** Called with the run whenever it was looked at. */
    seen?(run: RunView): void;
  },
  wishes: RunWishes,
): Promise<ExitCode> {
  const { client, terminal, json, leave } = input;
  const signal = AbortSignal.any([input.signal, ...(leave ? [leave] : [])]);
  const open = await client.openRun?.(wishes, { signal });
  if (open !== undefined) terminal.err(`${openLine(open, client)}\n`);
  const started = open ?? (await client.startRun(wishes, { signal }));
  const ended = started.request.dry_run ? started : await followRun(input, started);
  terminal.out(json ? `${JSON.stringify(ended)}\n` : runReport(ended));
  return ended.request.dry_run ? 0 : runExitCode(ended);
}

/** The exit code for how a run ended, or was left. */
export function runExitCode({ status }: Pick<RunView, 'status'>): ExitCode {
  return EXIT[status];
}

/** A taken over run carries our name from then on. */
function isElsewhere({ instance }: RunView, client: Pick<ServiceClient, 'instance'>): boolean {
  return client.instance !== undefined && instance !== client.instance;
}

function openLine(run: RunView, client: Pick<ServiceClient, 'instance'>): string {
  if (!isElsewhere(run, client)) return `going on with the run that an earlier one left: ${run.id}`;
  const who = plain(run.instance ?? 'another instance');
  return `${who} is at this run: ${run.id}; watching it, and going on with it should that instance be gone`;
}

async function followRun(
  { client, terminal, clock, signal, leave, seen }: Parameters<typeof runMany>[0],
  started: RunView,
): Promise<RunView> {
  const watching = new AbortController();
  const show = createShow(terminal);
  let run = started;
  const cancel = () => {
    if (isElsewhere(run, client)) return watching.abort(signal.reason); // not ours to cancel
    terminal.err('\ncancelling; Ctrl-C again leaves at once\n');
    const limit = AbortSignal.timeout(CANCEL_LIMIT_MS);
    limit.addEventListener('abort', () => watching.abort(signal.reason));
    client.cancelRun(started.id, { signal: limit }).catch((error) => watching.abort(error));
  };
  if (signal.aborted) cancel();
  else signal.addEventListener('abort', cancel, { once: true });
  const stopWatching = () => watching.abort(leave?.reason);
  if (leave?.aborted) stopWatching();
  else leave?.addEventListener('abort', stopWatching, { once: true });
  try {
    for (;;) {
      seen?.(run);
      show.update(run);
      if (isRunEnded(run)) return run;
      const everyMs = isElsewhere(run, client) ? LOOK_ELSEWHERE_MS : LOOK_EVERY_MS;
      await clock.sleep(everyMs, { signal: watching.signal });
      run = await client.getRun(run.id, { signal: watching.signal });
    }
  } catch (error) {
    if (!leave?.aborted) throw error;
    terminal.err(`\n${LEAVING}\n`);
    await client.left?.();
    return await client.getRun(run.id, { signal });
  } finally {
    show.end();
    signal.removeEventListener('abort', cancel);
    leave?.removeEventListener('abort', stopWatching);
  }
}

/** A line for each machine that begins or ends; on a terminal also who is at work now. */
function createShow(terminal: Terminal): { update(run: RunView): void; end(): void } {
  const lines = createLiveLines(terminal);
  const seen = new Map<string, RunMachine['status']>();
  const print = (line: string) => {
    if (terminal.errIsTty) lines.print(line);
    else terminal.err(`${line}\n`);
  };
  return {
    update: (run) => {
      for (const machine of run.machines) {
        const key = `${machine.vm.pool}/${machine.vm.uuid}`;
        const before = seen.get(key) ?? 'waiting';
        seen.set(key, machine.status);
        if (machine.status === before) continue;
        if (isMachineEnded(machine) || !terminal.errIsTty) print(machineLine(machine));
      }
      if (!terminal.errIsTty) return;
      const running = run.machines.filter(({ status }) => status === 'running');
      const names = running.slice(0, SHOWN).map(({ vm }) => `  ${plain(vm.name)}`);
      lines.draw([runHeadline(run), ...names]);
    },
    end: () => {
      if (terminal.errIsTty) lines.clear();
    },
  };
}

function machineLine({ vm, status, made, error }: RunMachine): string {
  const name = plain(vm.name) || vm.uuid;
  if (status === 'succeeded' && made !== undefined) {
    return `${name}: ${formatBytes(made.size_bytes)} in ${formatSeconds(made.duration_seconds)}`;
  }
  const why = error === undefined ? '' : `: ${plain(error.detail)} (${error.code})`;
  return `${name}: ${status.replace('_', ' ')}${why}`;
}
