/** `xvault list`: backups, newest first. */
import type { Backup } from '../catalog/record.ts';
import type { Verification } from '../catalog/verified.ts';
import { systemClock } from '../clock.ts';
import type { BackupView } from '../http/views.ts';
import { openClient } from './client.ts';
import type { Command } from './command.ts';
import { formatBytes, formatShare, formatTable, plain } from './format.ts';
import {
  filterOption,
  formatAgo,
  LIST_OPTIONS,
  readLimit,
  warnUnreadable,
} from './list-options.ts';

const COLUMNS = [
  { title: 'MACHINE' },
  { title: 'POOL' },
  { title: 'TAKEN' },
  { title: 'SIZE', right: true },
  { title: 'SENT', right: true },
  { title: 'DISKS', right: true },
  { title: 'CLASS' },
  { title: 'MODE' },
  { title: 'VERIFIED' },
  { title: 'BACKUP' },
];

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
    const now = systemClock.now();
    const rows = page.backups.map((backup) => [
      plain(backup.vm.name) || backup.vm.uuid,
      backup.vm.pool,
      formatAgo(backup.created_at, now),
      sizeText(backup.archive),
      formatBytes(backup.sent_bytes),
      String(backup.disks.length),
      classText(backup),
      backup.mode,
      verifiedText(backup.verified, now),
      backup.id,
    ]);
    terminal.out(`${formatTable(COLUMNS, rows).join('\n')}\n`);
    if (page.next_page_token) terminal.err('there are more: --limit shows them\n');
    return 0;
  },
};

/** With what keeps it whatever the rules of its class delete. */
function classText({ retention, pinned }: BackupView): string {
  return pinned === undefined ? retention : `${retention}, ${pinned.kind}`;
}

/** When it was looked at last; in capitals what nobody may overlook. */
function verifiedText(verified: Verification | undefined, nowMs: number): string {
  if (verified === undefined) return '–';
  if (verified.problem?.part === 'archive') return 'DAMAGED';
  if (!verified.ok) return verified.problem?.part === 'index' ? 'index lost' : 'FAILED';
  const share = verified.kind === 'sampled' ? `${verified.percent} % ` : '';
  return `${share}${formatAgo(verified.at, nowMs)}`;
}

/** Of a compressed archive also what share of its blocks that is. */
function sizeText({ size_bytes: size, uncompressed_bytes: whole }: Backup['archive']): string {
  return whole === undefined
    ? formatBytes(size)
    : `${formatBytes(size)} (${formatShare(size, whole)})`;
}
