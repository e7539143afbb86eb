/** `xvault sweep`: finds what crashed runs left on pools and in the bucket, shows it, removes what is surely ours. */
import type { SweepFinding, SweepReport } from '../backup/service.ts';
import { openClient } from './client.ts';
import type { Command, Terminal } from './command.ts';
import { count, formatSeconds, formatTable, plain } from './format.ts';
import { styler } from './help.ts';

const COLUMNS = [
  { title: 'ACTION' },
  { title: 'KIND' },
  { title: 'WHERE' },
  { title: 'AGE' },
  { title: 'NAME' },
  { title: 'WHY' },
];
const WORDS = { removed: 'removed', would_remove: 'would remove', kept: 'kept' } as const;
const COLORS = { removed: 'green', would_remove: 'yellow', kept: 'dim' } as const;

export const command: Command = {
  name: 'sweep',
  usage: 'sweep',
  summary: 'Remove what crashed runs left: snapshots, tasks, unfinished uploads.',
  examples: ['xvault sweep --dry-run', 'xvault sweep', 'xvault sweep --json'],
  options: {
    'dry-run': { type: 'boolean', help: 'Only show what would be removed' },
  },
  words: { min: 0, max: 0 },
  notes: `Removes only what carries our name and belongs to a job of this bucket that has ended; what another product or
another installation made stays, and so does whatever a running job uses. A service does the same at its start and every
hour. A job whose process died is taken over: by the service at XVAULT_URL, or else by this command, which ends it as
failed and cleans up. Exit code: 1 when something could not be looked at or removed.`,
  async run({ options, json, terminal, signal }) {
    const dryRun = options['dry-run'] === true;
    // whatever is taken over here is ended and cleaned up at once: a sweep is no time to begin an export
    await using client = await openClient({ terminal, drainMs: 0 });
    const report = await client.sweep({ dryRun }, { signal });
    if (json) terminal.out(`${JSON.stringify(report)}\n`);
    else show(report, terminal);
    return report.errors.length > 0 ? 1 : 0;
  },
};

function show(report: SweepReport, terminal: Terminal): void {
  const style = styler(terminal.color);
  if (report.findings.length > 0) {
    const rows = report.findings.map((finding) => rowOf(finding, style));
    terminal.out(`${formatTable(COLUMNS, rows).join('\n')}\n\n`);
  }
  const { removed, would_remove: waiting, kept } = report.counts;
  const done = report.dry_run ? `${waiting} would be removed` : `${removed} removed`;
  const summary =
    report.findings.length === 0
      ? 'nothing of ours was left behind'
      : `${count(report.findings.length, 'finding')}: ${done}, ${kept} kept`;
  terminal.out(`${summary}\n`);
  for (const id of report.taken_over) terminal.out(`job ${id}: taken over\n`);
  for (const text of report.advice ?? []) terminal.out(`advice: ${plain(text)}\n`);
  for (const { where, detail } of report.errors) {
    terminal.err(`error: ${plain(where)}: ${plain(detail)}\n`);
  }
}

function rowOf(finding: SweepFinding, style: ReturnType<typeof styler>): string[] {
  const { action, kind, pool, age_seconds: age, name, reason } = finding;
  return [
    style(COLORS[action], WORDS[action]),
    kind.replace('_', ' '),
    pool === undefined ? 'bucket' : `pool ${pool}`,
    age === undefined ? '–' : formatSeconds(age),
    plain(name),
    plain(reason),
  ];
}
