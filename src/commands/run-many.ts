/**
 * `xvault run` over many machines: starts the run in this process and stays to its end.
 *
 * Ctrl-C asks for the run to be cancelled and goes on watching, as with one job; a second one ends the program at once, and
 * the next `xvault run` or a service goes on with what is left.
 */
import { runHeadline, runReport } from '../backup/runs-report.ts';
import { isMachineEnded, isRunEnded, type RunMachine } from '../catalog/run.ts';
import type { RunView } from '../http/run-answers.ts';
import type { Clock } from '../ports.ts';
import type { Terminal } from './command.ts';
import type { ExitCode } from './exit-code.ts';
import { formatBytes, formatSeconds, plain } from './format.ts';
import { createLiveLines } from './live-lines.ts';
import type { RunClient, RunWishes } from './run-client.ts';

const LOOK_EVERY_MS = 1000;
/** Snapshot removal may have to wait for a busy host; longer than that nobody waits at a prompt. */
const CANCEL_LIMIT_MS = 180_000;
/** Machines at work that are named while one waits. */
const SHOWN = 8;

const EXIT: Record<RunView['status'], ExitCode> = {
  queued: 1,
  running: 1,
  succeeded: 0,
  partial: 3,
  failed: 1,
  cancelled: 130,
};

/** Runs to the end and returns the exit code. */
export async function runMany(
  input: {
    client: Pick<RunClient, 'startRun' | 'getRun' | 'cancelRun'>;
    terminal: Terminal;
    json: boolean;
    clock: Clock;
    signal: AbortSignal;
  },
  wishes: RunWishes,
): Promise<number> {
  const { client, terminal, json, signal } = input;
  const started = await client.startRun(wishes, { signal });
  const ended = started.request.dry_run ? started : await followRun(input, started);
  terminal.out(json ? `${JSON.stringify(ended)}\n` : runReport(ended));
  return ended.request.dry_run ? 0 : EXIT[ended.status];
}

async function followRun(
  { client, terminal, clock, signal }: Parameters<typeof runMany>[0],
  started: RunView,
): Promise<RunView> {
  const watching = new AbortController();
  const looking = new AbortController();
  const show = createShow(terminal);
  const cancel = () => {
    terminal.err('\ncancelling; Ctrl-C again leaves at once\n');
    const limit = AbortSignal.timeout(CANCEL_LIMIT_MS);
    limit.addEventListener('abort', () => watching.abort(signal.reason));
    client.cancelRun(started.id, { signal: limit }).catch((error) => watching.abort(error));
    looking.abort();
  };
  if (signal.aborted) cancel();
  else signal.addEventListener('abort', cancel, { once: true });
  try {
    let run = started;
    for (;;) {
      show.update(run);
      if (isRunEnded(run)) return run;
      await clock.sleep(LOOK_EVERY_MS, { signal: watching.signal });
      run = await client.getRun(run.id, { signal: watching.signal });
    }
  } finally {
    show.end();
    signal.removeEventListener('abort', cancel);
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
