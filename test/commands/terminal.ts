/** A terminal for tests: what is written is kept. */
import type { Terminal } from '../../src/commands/command.ts';

export interface TestTerminal extends Terminal {
  text: { out: string; err: string };
}

/** Not a TTY unless told so. */
export function createTestTerminal(over: Partial<Terminal> = {}): TestTerminal {
  const text = { out: '', err: '' };
  return {
    text,
    out: (more) => {
      text.out += more;
    },
    err: (more) => {
      text.err += more;
    },
    outIsTty: false,
    errIsTty: false,
    color: false,
    columns: () => 80,
    ...over,
  };
}
