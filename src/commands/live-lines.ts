/**
 * A few lines at the end of the terminal that are drawn again and again.
 *
 * Only for terminals: the caller prints plain lines otherwise. Each line is cut to the width, since a wrapped one
 * would make the cursor go up too few rows.
 */
import type { Terminal } from './command.ts';
import { truncate } from './format.ts';

const CLEAR_BELOW = '\u001b[J';
const CLEAR_LINE = '\u001b[K';

export interface LiveLines {
  /** Draws these lines in place of the last ones. */
  draw(lines: readonly string[]): void;
  /** Prints a line above them that stays. */
  print(line: string): void;
  /** Leaves them as they are; the next text comes below. */
  stop(): void;
  /** Takes them away. */
  clear(): void;
}

/** Lives at the end of stderr. */
export function createLiveLines(terminal: Terminal): LiveLines {
  let shown: readonly string[] = [];
  const up = () => (shown.length === 0 ? '' : `\u001b[${shown.length}A\r`);
  const text = (lines: readonly string[]) =>
    lines.map((line) => `${truncate(line, terminal.columns() - 1)}${CLEAR_LINE}\n`).join('');
  return {
    draw: (lines) => {
      terminal.err(`${up()}${text(lines)}${lines.length < shown.length ? CLEAR_BELOW : ''}`);
      shown = [...lines];
    },
    print: (line) => {
      terminal.err(`${up()}${CLEAR_BELOW}${line}\n${text(shown)}`);
    },
    stop: () => {
      shown = [];
    },
    clear: () => {
      terminal.err(`${up()}${CLEAR_BELOW}`);
      shown = [];
    },
  };
}
