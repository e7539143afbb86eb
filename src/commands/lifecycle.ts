/** `xvault lifecycle`: the bucket's rules as they are and as they should be, written so, and last good backups kept. */
import type {
  AppliedRotation,
  BucketRotation,
  RotationReport,
} from '../backup/rotation-service.ts';
import type { RuleAction } from '../catalog/rotation.ts';
import { BackupError } from '../errors.ts';
import { openClient } from './client.ts';
import type { Command, Terminal } from './command.ts';
import { count, plain } from './format.ts';
import { styler } from './help.ts';
import { renew } from './lifecycle-renew.ts';

const SIGNS: Record<RuleAction, string> = { keep: ' ', add: '+', replace: '~', remove: '-' };
const COLORS = { keep: 'dim', add: 'green', replace: 'yellow', remove: 'red' } as const;
const WORDS = ['show', 'apply', 'renew'] as const;

export const command: Command = {
  name: 'lifecycle',
  usage: 'lifecycle show|apply|renew',
  summary: 'The rules of the bucket: as they are, as they should be; and the last good backups.',
  examples: [
    'xvault lifecycle show',
    'xvault lifecycle apply',
    'xvault lifecycle apply --yes',
    'xvault lifecycle renew --dry-run',
  ],
  options: {
    yes: {
      type: 'boolean',
      short: 'y',
      help: 'apply: write the rules; without it they are only shown',
    },
    'dry-run': { type: 'boolean', help: 'apply, renew: only show what would be done' },
  },
  words: { min: 1, max: 1 },
  notes: `show compares the rules of the bucket with those the settings mean: + is missing, ~ differs, - is needed no more.
apply --yes writes them and leaves rules of others as they are; it needs the right s3:PutLifecycleConfiguration. It writes
nothing when pinned backups would be deleted, or the newest backup of a machine within XVAULT_LAST_GOOD_DAYS. renew copies
last good backups out of rotation that the rules are about to delete, as a service does by itself. Exit code: 1 when the rules
are not as they should be, or something could not be done (docs/rotation.md).`,
  async run(invocation) {
    const { positionals, options, json, terminal, signal } = invocation;
    const word = WORDS.find((one) => one === positionals[0]);
    if (word === undefined) {
      throw new BackupError('invalid_request', 'say what to do: lifecycle show, apply or renew');
    }
    if (word === 'renew') return await renew(invocation);
    const dryRun = options['dry-run'] === true;
    await using client = await openClient({ terminal, needs: ['bucket'], until: signal });
    const isShow = word === 'show';
    const writes = !isShow && !dryRun && options.yes === true;
    const report = isShow
      ? await client.rotation({ signal })
      : await client.applyRotation({ dryRun: !writes }, { signal });
    if (json) terminal.out(`${JSON.stringify(report)}\n`);
    else showRules(report, { writes, isShow }, terminal);
    return report.in_order || ('applied' in report && report.applied) ? 0 : 1;
  },
};

function showRules(
  report: RotationReport | AppliedRotation,
  { writes, isShow }: { writes: boolean; isShow: boolean },
  terminal: Terminal,
): void {
  for (const bucket of report.buckets) showBucket(bucket, terminal);
  const due = report.buckets.flatMap(({ changes }) =>
    changes.filter((one) => one.action !== 'keep'),
  );
  if (due.length === 0) terminal.out('the rules are as they should be\n');
  else if (writes) terminal.out(`${count(due.length, 'rule')} written\n`);
  else {
    const how = isShow ? 'xvault lifecycle apply --yes' : 'say --yes';
    terminal.out(`${count(due.length, 'rule')} to be written: ${how}\n`);
  }
}

function showBucket(rotation: BucketRotation, terminal: Terminal): void {
  const { bucket, provider, holds, versioned, changes, warnings, refusals = [], note } = rotation;
  const style = styler(terminal.color);
  const kept = versioned ? ', keeps old versions' : '';
  terminal.out(`bucket ${plain(bucket)} (${provider}${kept}): ${holds.join(' and ')}\n`);
  for (const { action, text, found, by } of changes) {
    const now = found === undefined ? '' : `; now ${found}`;
    const whose = by === undefined ? '' : `; rule ${by} does it`;
    terminal.out(`  ${style(COLORS[action], SIGNS[action])} ${plain(`${text}${now}${whose}`)}\n`);
  }
  for (const other of othersOf(rotation)) terminal.out(`    ${plain(other)}\n`);
  for (const text of warnings) terminal.err(`warning: ${plain(text)}\n`);
  for (const text of refusals) terminal.err(`error: ${plain(text)}\n`);
  if (note !== undefined) terminal.err(`note: ${plain(note)}\n`);
}

/** Rules that are neither ours nor stand for one of ours. */
function othersOf({ found = [], changes }: BucketRotation): string[] {
  const told = new Set(changes.flatMap(({ id, by }) => [id, ...(by === undefined ? [] : [by])]));
  return found
    .filter(({ id }) => !told.has(id))
    .map(({ id, text }) => `rule ${id === '' ? 'without a name' : id}, left as it is: ${text}`);
}
