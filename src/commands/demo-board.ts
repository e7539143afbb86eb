/** What the demo shows while backups run: one line a machine, redrawn on a terminal, else one when it ends. */
import { systemClock } from '../clock.ts';
import type { JobView } from '../http/views.ts';
import type { Terminal } from './command.ts';
import { count, formatBytes, formatSeconds, pad, plain, truncate } from './format.ts';
import { styler } from './help.ts';
import { createLiveLines } from './live-lines.ts';
import { bar, createRateMeter, progressText, type RateMeter } from './progress.ts';

const NAME_WIDTH = 22;
const BAR_WIDTH = 16;

/** How far a machine is. */
export type Outcome =
  | { state: 'waiting' }
  | { state: 'running'; job: JobView }
  | { state: 'done'; job: JobView }
  | { state: 'refused' | 'failed'; reason: string };

export interface Board {
  set(uuid: string, outcome: Outcome): void;
  end(): void;
}

/** Shows the machines in this order. */
export function createBoard(
  terminal: Terminal,
  machines: readonly { uuid: string; name: string }[],
): Board {
  const style = styler(terminal.color);
  const lines = createLiveLines(terminal);
  const outcomes = new Map<string, Outcome>();
  const rates = new Map<string, RateMeter>();
  const rateOf = (uuid: string, read: number): number | undefined => {
    const rate = rates.get(uuid) ?? createRateMeter(systemClock);
    rates.set(uuid, rate);
    rate.add(read);
    return rate.perSecond();
  };
  const text = (uuid: string, outcome: Outcome): string => {
    switch (outcome.state) {
      case 'waiting':
        return style('dim', '· waiting');
      case 'running': {
        const { job } = outcome;
        const percent = job.progress.percent;
        const shown = bar(percent === undefined ? undefined : percent / 100, BAR_WIDTH);
        const rate = rateOf(uuid, job.progress.read_bytes);
        return `${style('cyan', shown)} ${progressText(job, rate)}`;
      }
      case 'done':
        return `${style('green', '✓')} ${doneText(outcome.job)}`;
      case 'refused':
        return `${style('yellow', '–')} refused: ${plain(outcome.reason)}`;
      case 'failed':
        return `${style('red', '✗')} ${plain(outcome.reason)}`;
    }
  };
  const line = ({ uuid, name }: { uuid: string; name: string }): string => {
    const outcome = outcomes.get(uuid) ?? { state: 'waiting' };
    const label = pad(truncate(machineLabel({ uuid, name }), NAME_WIDTH), NAME_WIDTH);
    return `  ${label}  ${text(uuid, outcome)}`;
  };
  return {
    set: (uuid, outcome) => {
      outcomes.set(uuid, outcome);
      if (terminal.errIsTty) return lines.draw(machines.map(line));
      if (outcome.state === 'waiting' || outcome.state === 'running') return;
      const machine = machines.find((one) => one.uuid === uuid);
      if (machine !== undefined) terminal.err(`${line(machine)}\n`);
    },
    end: () => lines.stop(),
  };
}

/** Its name, or what there is instead of one. */
export function machineLabel({ uuid, name }: { uuid: string; name: string }): string {
  return name === '' ? `(no name) ${uuid.slice(0, 8)}` : plain(name);
}

function doneText({ result }: JobView): string {
  if (result === undefined) return 'done';
  const disks = count(result.disks.length, 'disk');
  const virtual = result.disks.reduce((sum, disk) => sum + disk.virtual_size_bytes, 0);
  const size = formatBytes(result.archive.size_bytes);
  return `${size}  (${disks}, ${formatBytes(virtual)} virtual)  ${formatSeconds(result.duration_seconds)}`;
}
