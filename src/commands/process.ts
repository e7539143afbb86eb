/** The process as the command line sees it: its two outputs and its signals. */
import { readTerminalWishes } from '../config.ts';
import { BackupError } from '../errors.ts';
import type { Terminal } from './command.ts';

const INTERRUPTED = 130;
const DEFAULT_COLUMNS = 80;

/** Writes to the process's own outputs; colours only where stderr and stdout show them. */
export function createTerminal(): Terminal {
  const { noColor } = readTerminalWishes();
  for (const stream of [process.stdout, process.stderr]) {
    stream.on('error', (error: NodeJS.ErrnoException) => {
      // The reader left (`xvault list | head`): what he wanted he has.
      if (error.code === 'EPIPE') process.exit(0);
      throw error;
    });
  }
  return {
    out: (text) => void process.stdout.write(text),
    err: (text) => void process.stderr.write(text),
    outIsTty: process.stdout.isTTY === true,
    errIsTty: process.stderr.isTTY === true,
    color: !noColor && process.stderr.isTTY === true && process.stdout.isTTY === true,
    // 0 is what a terminal says that was never told its size (`script`, some containers).
    columns: () => process.stderr.columns || DEFAULT_COLUMNS,
  };
}

/** A signal aborted by the first SIGINT or SIGTERM; the second ends the process at once. */
export function onInterrupt(): AbortSignal {
  const controller = new AbortController();
  const stop = (name: NodeJS.Signals) => {
    if (controller.signal.aborted) process.exit(INTERRUPTED);
    controller.abort(
      new BackupError('cancelled', `stop on request, signal=${name}`, {
        details: { signal: name },
      }),
    );
  };
  process.on('SIGINT', stop);
  process.on('SIGTERM', stop);
  return controller.signal;
}
