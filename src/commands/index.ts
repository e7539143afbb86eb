/** The list of commands: enough for the help page; their modules are imported when they are called. */
import type { Command } from './command.ts';

interface Entry {
  summary: string;
  load: () => Promise<{ command: Command }>;
}

/** All commands in the order of the help page. */
export const COMMANDS: Readonly<Record<string, Entry>> = {
  config: {
    summary: 'The settings in effect and where they come from',
    load: () => import('./config.ts'),
  },
};
