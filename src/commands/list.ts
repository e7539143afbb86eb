/** `xvault list`: backups, newest first. */
import { systemClock } from '../clock.ts';
import { backupTable } from '../http/text-views.ts';
import { openClient } from './client.ts';
import type { Command } from './command.ts';
import { plain } from './format.ts';
import { filterOption, LIST_OPTIONS, readLimit, warnUnreadable } from './list-options.ts';

export const command: Command = {
  name: 'list',
  usage: 'list [<machine>]',
  summary: 'Backups, newest first.',
  examples: ['xvault list', 'xvault list web-1 --retention weekly', 'xvault list --json | jq .'],
  options: {
    ...LIST_OPTIONS,
    retention: { type: 'string', value: '<class>', help: 'Only of this retention class' },
  },
  words: { min: 0, max: 1 },
  async run({ positionals, options, json, terminal, signal }) {
    const [vm] = positionals;
    await using client = await openClient({ terminal });
    const page = await client.listBackups(
      {
        pageSize: readLimit(options),
        ...(vm === undefined ? {} : { vm }),
        ...filterOption(options, 'pool'),
        ...filterOption(options, 'retention'),
      },
      { signal },
    );
    if (json) {
      terminal.out(`${JSON.stringify(page)}\n`);
      return 0;
    }
    warnUnreadable(terminal, page.unreadable);
    if (page.backups.length === 0) {
      terminal.err(vm === undefined ? 'no backups\n' : `no backups of ${plain(vm)}\n`);
      return 0;
    }
    terminal.out(`${backupTable(page.backups, systemClock.now()).join('\n')}\n`);
    if (page.next_page_token) terminal.err('there are more: --limit shows them\n');
    return 0;
  },
};
