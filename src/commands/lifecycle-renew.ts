/** `xvault lifecycle renew`: keeps the last good backup of every machine before the bucket's rules delete it. */
import type { GuardEntry, GuardReport } from '../backup/guard-service.ts';
import { openClient } from './client.ts';
import type { Invocation, Terminal } from './command.ts';
import { count, formatBytes, formatTable, plain } from './format.ts';
import { styler } from './help.ts';

const COLUMNS = [
  { title: 'LAST GOOD' },
  { title: 'POOL' },
  { title: 'MACHINE' },
  { title: 'BACKUP' },
  { title: 'DELETED ON' },
  { title: 'DONE' },
];
const COLORS = {
  safe: 'green',
  renewed: 'green',
  pinned: 'green',
  due: 'yellow',
  released: 'dim',
  none: 'dim',
  failed: 'red',
} as const;

/** Looks at every machine and shows what was found and done. 1 when something failed or is still due. */
export async function renew({ options, json, terminal, signal }: Invocation): Promise<number> {
  await using client = await openClient({ terminal, drainMs: 0 });
  const report = await client.renewLastGood({ dryRun: options['dry-run'] === true }, { signal });
  if (json) terminal.out(`${JSON.stringify(report)}\n`);
  else show(report, terminal);
  const { failed, due } = report.counts;
  return failed > 0 || (due > 0 && !report.dry_run) ? 1 : 0;
}

function show(report: GuardReport, terminal: Terminal): void {
  const style = styler(terminal.color);
  if (report.vms.length > 0) {
    const rows = report.vms.map((entry) => [
      style(COLORS[entry.guard], entry.guard),
      plain(entry.vm.pool),
      plain(entry.vm.name ?? '') || entry.vm.uuid,
      plain(entry.backup_id ?? '–'),
      entry.expires_at?.slice(0, 10) ?? (entry.backup_id === undefined ? '–' : 'never'),
      doneText(entry, report.dry_run),
    ]);
    terminal.out(`${formatTable(COLUMNS, rows).join('\n')}\n\n`);
  }
  const { safe, renewed, pinned, due, failed } = report.counts;
  const days = Math.round(report.margin_seconds / 8640) / 10;
  terminal.out(
    `${count(report.vms.length, 'machine')}: ${safe} safe for ${days} days, ${renewed + pinned} kept by a copy, ` +
      `${due} about to be deleted, ${failed} failed\n`,
  );
  if (report.margin_seconds === 0) {
    terminal.err('warning: XVAULT_LAST_GOOD_DAYS is 0: nothing is kept from the rules\n');
  }
  if (report.rules_from === 'settings') {
    terminal.err(
      'warning: the rules of the bucket cannot be read: XVAULT_RETENTION_DAYS is taken for them\n',
    );
  }
  for (const { vm, error } of report.vms) {
    if (error)
      terminal.err(
        `error: ${plain(vm.pool)}/${plain(vm.name ?? '') || vm.uuid}: ${plain(error.detail)}\n`,
      );
  }
}

function doneText(entry: GuardEntry, dryRun: boolean): string {
  const released = entry.released ?? [];
  const done = [
    ...(entry.renewed_bytes === undefined ? [] : [`copied ${formatBytes(entry.renewed_bytes)}`]),
    ...(released.length === 0
      ? []
      : [`gave up ${count(released.length, 'older copy').replace(/ys$/, 'ies')}`]),
    ...(dryRun && entry.would_renew ? ['would copy it'] : []),
    ...(dryRun && entry.would_release ? ['would remove copies'] : []),
    ...(entry.busy ? ['busy: a job or another instance works on it'] : []),
  ];
  return done.join(', ') || '–';
}
