/** `xvault status`: every machine, its newest good backup, its age. */
import { systemClock } from '../clock.ts';
import { readSettings } from '../config.ts';
import { statusTable, statusWarnings } from '../http/text-views.ts';
import { openClient } from './client.ts';
import type { Command } from './command.ts';
import { styler } from './help.ts';
import { filterOption, POOL_OPTION, readSeconds } from './list-options.ts';

const COLORS = { ok: 'green', warning: 'yellow', critical: 'red' } as const;

export const command: Command = {
  name: 'status',
  usage: 'status',
  summary:
    'Every machine, its newest good backup, its age. Exit code 1 when something is critical.',
  examples: ['xvault status', 'xvault status --max-age 8d --json'],
  options: {
    pool: POOL_OPTION,
    'max-age': { type: 'string', value: '<time>', help: 'Older is critical: 26h (default), 8d' },
  },
  words: { min: 0, max: 0 },
  async run({ options, json, terminal, signal }) {
    const { maxAgeSeconds } = readSettings().settings;
    await using client = await openClient({ terminal });
    const report = await client.status(
      {
        maxAgeSeconds: readSeconds(options, 'max-age') ?? maxAgeSeconds,
        ...filterOption(options, 'pool'),
      },
      { signal },
    );
    const code = report.status === 'critical' ? 1 : 0;
    if (json) {
      terminal.out(`${JSON.stringify(report)}\n`);
      return code;
    }
    const style = styler(terminal.color);
    const table = statusTable(report, systemClock.now(), (one) => style(COLORS[one], one));
    terminal.out(`${table.join('\n')}\n`);
    for (const line of statusWarnings(report)) terminal.err(`warning: ${line}\n`);
    return code;
  },
};
