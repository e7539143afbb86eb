/**
 * `xvault check`: the status for Nagios and Icinga.
 *
 * First line `STATUS - text | label=value;warn;crit;min`, one line a machine below, worst first; exit code 0 ok,
 * 1 warning, 2 critical, 3 unknown. A service or pool that does not answer is critical, wrong usage is unknown.
 */
import type { StatusReport } from '../backup/service.ts';
import { isBackupError, toBackupError } from '../errors.ts';
import { openClient } from './client.ts';
import { type Command, textOption } from './command.ts';
import { formatSeconds, plain } from './format.ts';
import { filterOption, POOL_OPTION } from './list-options.ts';
import { inRange, parseThreshold, type Threshold } from './threshold.ts';

const WARNING_SECONDS = 26 * 3600;
const CRITICAL_SECONDS = 50 * 3600;
/** The longest age the API takes, three years. */
const MAX_ASKED_SECONDS = 99_999_999;
const CODES = { OK: 0, WARNING: 1, CRITICAL: 2, UNKNOWN: 3 } as const;
type State = keyof typeof CODES;
/** What the status found beside the age is never less here: a rule that deletes the last good backup soon, say. */
const STATES = { ok: 'OK', warning: 'WARNING', critical: 'CRITICAL' } as const;

interface Line {
  state: State;
  text: string;
  label: string;
  uuid: string;
  ageSeconds: number | undefined;
  /** Its own where a tag of the machine says so. */
  limits?: Rules;
}

export const command: Command = {
  name: 'check',
  usage: 'check',
  summary: 'The status for Nagios and Icinga: one line, performance data, their four exit codes.',
  examples: [
    'xvault check',
    'xvault check --vm web-1 --warning 26h --critical 50h',
    'xvault check --critical @0:1h   (Nagios ranges work, too)',
  ],
  options: {
    pool: POOL_OPTION,
    vm: { type: 'string', value: '<machine>', help: 'Only this machine (name or uuid)' },
    warning: { type: 'string', short: 'w', value: '<range>', help: 'Age that warns (default 26h)' },
    critical: {
      type: 'string',
      short: 'c',
      value: '<range>',
      help: 'Age that alarms (default 50h)',
    },
  },
  notes:
    'Machines with a tag xvault:max_age=<time> are judged by it: older is critical, whatever the ranges say.',
  words: { min: 0, max: 0 },
  async run({ options, json, terminal, signal }) {
    try {
      const warning = parseThreshold(textOption(options, 'warning'), WARNING_SECONDS);
      const critical = parseThreshold(textOption(options, 'critical'), CRITICAL_SECONDS);
      await using client = await openClient({ terminal });
      const report = await client.status(
        { maxAgeSeconds: askedAge(critical), ...filterOption(options, 'pool') },
        { signal },
      );
      const lines = judge(report, { vm: textOption(options, 'vm'), warning, critical });
      const state = lines[0]?.state ?? 'OK';
      if (json)
        terminal.out(
          `${JSON.stringify({ state, code: CODES[state], lines: lines.map(lineJson) })}\n`,
        );
      else terminal.out(render(lines, { warning, critical }));
      return CODES[state];
    } catch (thrown) {
      const error = toBackupError(thrown);
      const local = isBackupError(error, 'invalid_request', 'configuration', 'internal');
      const state = local ? 'UNKNOWN' : 'CRITICAL';
      const text = `${clean(plain(error.message.replace(/\s+/g, ' ')))} (${error.code})`;
      const report = { state, code: CODES[state], lines: [{ state, text }] };
      terminal.out(json ? `${JSON.stringify(report)}\n` : `${state} - ${text}\n`);
      return CODES[state];
    }
  },
};

/** So that the status has no other word on ages than the range; where that has no upper end, none at all. */
function askedAge({ high, inside }: Threshold): number {
  return inside || high > MAX_ASKED_SECONDS ? MAX_ASKED_SECONDS : Math.max(1, Math.ceil(high));
}

/** In the names of the API. */
function lineJson({ ageSeconds, uuid, limits: _, ...line }: Line): Record<string, unknown> {
  return {
    ...line,
    ...(uuid === '' ? {} : { uuid }),
    ...(ageSeconds === undefined ? {} : { age_seconds: ageSeconds }),
  };
}

interface Rules {
  warning: Threshold;
  critical: Threshold;
}

/** One line per machine, worst first. */
export function judge(report: StatusReport, rules: Rules & { vm: string | undefined }): Line[] {
  const wanted = report.vms.filter(
    ({ vm }) => rules.vm === undefined || vm.name === rules.vm || vm.uuid === rules.vm,
  );
  const nowMs = Date.parse(report.checked_at);
  const lines = wanted.map((entry) => judgeOne(entry, { ...rules, nowMs }));
  if (rules.vm !== undefined && lines.length === 0) {
    const text = `${plain(rules.vm)}: no such machine`;
    lines.push({ state: 'CRITICAL', text, label: rules.vm, uuid: '', ageSeconds: undefined });
  }
  for (const pool of report.unreachable_pools) {
    const text = `pool ${pool} does not answer`;
    lines.push({ state: 'CRITICAL', text, label: pool, uuid: '', ageSeconds: undefined });
  }
  for (const { vm, status, reason } of report.gone_at_risk ?? []) {
    const label = plain(vm.name) || vm.uuid;
    const text = `${label}, on no pool any more: ${plain(reason)}`;
    lines.push({ state: STATES[status], text, label, uuid: vm.uuid, ageSeconds: undefined });
  }
  for (const { key } of report.unreadable_records ?? []) {
    const text = `record ${plain(key)} cannot be read`;
    lines.push({ state: 'WARNING', text, label: key, uuid: '', ageSeconds: undefined });
  }
  return lines.sort((a, b) => CODES[b.state] - CODES[a.state]);
}

function judgeOne(
  entry: StatusReport['vms'][number],
  { warning, critical, nowMs }: Rules & { nowMs: number },
): Line {
  const name = plain(entry.vm.name) || entry.vm.uuid;
  const { uuid } = entry.vm;
  const { age_seconds: age, last_job: job, damaged_backup_id: damagedId } = entry;
  const damaged = damagedId === undefined ? '' : `, backup ${damagedId} is damaged`;
  if (age === undefined) {
    const text = `${name}: no ${damaged === '' ? '' : 'good '}backup${damaged}`;
    return { state: 'CRITICAL', text, label: name, uuid, ageSeconds: undefined };
  }
  const failed = job?.status === 'failed' ? `, the last try failed (${job.error_code})` : '';
  const last = `last ${damaged === '' ? '' : 'good '}backup ${formatSeconds(age)} ago`;
  const text = `${name}: ${last}${verifiedText(entry.verified, nowMs)}${damaged}${failed}`;
  const own = entry.max_age_seconds;
  const limits = own === undefined ? { warning, critical } : ownLimits(own);
  const line = { text, label: name, uuid, ageSeconds: age, limits };
  if (!inRange(age, limits.critical)) return { state: 'CRITICAL', ...line };
  const doubt = failed !== '' || damaged !== '' || entry.verified?.ok === false;
  const state = doubt || !inRange(age, limits.warning) ? 'WARNING' : 'OK';
  const floor = STATES[entry.status];
  if (CODES[floor] <= CODES[state]) return { state, ...line };
  return { ...line, state: floor, text: `${text}, ${plain(entry.reason)}` };
}

/** The machine's own age is critical, as in /v1/status; nothing warns before. */
function ownLimits(seconds: number): Rules {
  const critical = parseThreshold(undefined, seconds);
  return { warning: critical, critical };
}

/** When it was last looked at, and what of; or what is wrong with it. */
function verifiedText(verified: StatusReport['vms'][number]['verified'], nowMs: number): string {
  if (verified === undefined) return '';
  if (!verified.ok) return `, ${plain(verified.problem?.detail ?? 'its verification failed')}`;
  const ago = formatSeconds((nowMs - Date.parse(verified.at)) / 1000);
  if (verified.kind === 'restored') return `, restored as a test ${ago} ago`;
  const share = verified.kind === 'sampled' ? `${verified.percent} % ` : '';
  return `, ${share}verified ${ago} ago`;
}

/** The text Nagios reads. */
export function render(lines: readonly Line[], rules: Rules): string {
  const first = lines[0];
  if (first === undefined) return 'OK - no machine to back up\n';
  const good = lines.filter(({ state }) => state === 'OK').length;
  const labels = lines.map(({ label }) => label);
  const head =
    lines.length === 1 ? first.text : `${good} of ${lines.length} machines ok; ${first.text}`;
  const twice = new Set(labels.filter((label, at) => labels.indexOf(label) !== at));
  const data = lines
    .filter(({ ageSeconds }) => ageSeconds !== undefined)
    .map(({ label, uuid, ageSeconds, limits }) => {
      const { warning, critical } = limits ?? rules;
      // A label must be there once: machines of one name are told apart by uuid.
      const unique = twice.has(label) ? `${label} ${uuid}` : label;
      const quoted = lines.length === 1 ? 'age' : `'${unique.replace(/['=|]/g, '_')}'`;
      return `${quoted}=${ageSeconds}s;${warning.text};${critical.text};0`;
    });
  const performance = data.length === 0 ? '' : ` | ${data.join(' ')}`;
  const rest = lines.length === 1 ? [] : lines.map(({ state, text }) => `${state}: ${clean(text)}`);
  return `${[`${first.state} - ${clean(head)}${performance}`, ...rest].join('\n')}\n`;
}

/** A bar would begin the performance data. */
function clean(text: string): string {
  return text.replaceAll('|', '/');
}
