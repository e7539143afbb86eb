/** `xvault status`: every machine, its newest good backup, its age. */
import type { StatusReport } from '../backup/service.ts';
import { systemClock } from '../clock.ts';
import { readSettings } from '../config.ts';
import { openClient } from './client.ts';
import type { Command } from './command.ts';
import { formatTable, plain } from './format.ts';
import { styler } from './help.ts';
import {
  filterOption,
  formatAgo,
  POOL_OPTION,
  readSeconds,
  warnUnreadable,
} from './list-options.ts';

const COLUMNS = [
  { title: 'STATUS' },
  { title: 'MACHINE' },
  { title: 'POOL' },
  { title: 'LAST GOOD' },
  { title: 'DELETED ON' },
  { title: 'WHY' },
];
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
    const now = systemClock.now();
    const rows = report.vms.map((line) => [
      style(COLORS[line.status], line.status),
      plain(line.vm.name) || line.vm.uuid,
      line.vm.pool,
      formatAgo(line.last_backup_at, now),
      endText(line),
      plain(line.reason),
    ]);
    terminal.out(`${formatTable(COLUMNS, rows).join('\n')}\n`);
    for (const pool of report.unreachable_pools) {
      terminal.err(
        `warning: pool ${pool} does not answer; its machines are known from the bucket\n`,
      );
    }
    for (const { vm, reason } of report.gone_at_risk ?? []) {
      const name = plain(vm.name) || vm.uuid;
      terminal.err(`warning: ${vm.pool}/${name} is on no pool any more: ${plain(reason)}\n`);
    }
    warnUnreadable(terminal, report.unreadable_records);
    return code;
  },
};

/** The day the bucket deletes it, or what keeps it. */
function endText({ expires_at: at, guard }: StatusReport['vms'][number]): string {
  if (at !== undefined) return at.slice(0, 10);
  return guard === undefined ? '–' : guard === 'safe' ? 'never' : guard;
}
