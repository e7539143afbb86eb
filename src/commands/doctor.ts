/** `xvault doctor`: checks settings, memory, queue, pools and bucket, and says the mend of what it finds. */
import { availableParallelism, totalmem } from 'node:os';
import { systemClock, systemIds } from '../clock.ts';
import { inspectSettings, type Settings } from '../config.ts';
import { SILENT_LOG } from '../log.ts';
import type { Command, Terminal } from './command.ts';
import { checkBucket } from './doctor-bucket.ts';
import type { Finding, FindingState, Report } from './doctor-checks.ts';
import { checkPool } from './doctor-pool.ts';
import { checkProtection } from './doctor-protection.ts';
import { checkQueue } from './doctor-queue.ts';
import { count, formatBytes, plain } from './format.ts';
import { styler } from './help.ts';
import { ARENA_UNIT_BYTES, queueName, wireAdapters } from './wire.ts';

/** What the process needs besides the byte budget. */
const OVERHEAD_BYTES = 150 * 1_048_576;
/** One part being filled and one on its way. */
const UNITS_PER_JOB = 2;

const MARKS: Record<FindingState, { mark: string; style: 'green' | 'yellow' | 'red' | 'dim' }> = {
  ok: { mark: '✓', style: 'green' },
  warn: { mark: '!', style: 'yellow' },
  fail: { mark: '✗', style: 'red' },
  info: { mark: '·', style: 'dim' },
  unknown: { mark: '?', style: 'dim' },
};

export const command: Command = {
  name: 'doctor',
  usage: 'doctor',
  summary: 'Check settings, pools and bucket, and say the mend of what is wrong.',
  examples: ['xvault doctor', 'xvault doctor --json'],
  options: {},
  words: { min: 0, max: 0 },
  notes: `Writes and removes a few small objects under <prefix>probe/ and changes nothing on the pool.
Exit code: 0 nothing failed, 1 something did, 2 the settings are wrong.`,
  async run({ json, terminal, signal }) {
    const findings: Finding[] = [];
    const show = json ? () => {} : createPrinter(terminal);
    const about = (subject: string): Report => {
      return (finding) => {
        const whole = { about: subject, ...finding };
        findings.push(whole);
        show(whole);
      };
    };
    const config = inspectSettings({ needs: ['pools', 'bucket', 'access'] });
    reportSettings(config, about('settings'));
    if (config.settings !== undefined) await checkAll(config.settings, about, signal);
    const failed = findings.some(({ state }) => state === 'fail');
    const warned = findings.some(({ state }) => state === 'warn');
    if (json) {
      const status = failed ? 'fail' : warned ? 'warn' : 'ok';
      terminal.out(`${JSON.stringify({ status, checks: findings })}\n`);
    } else terminal.out(`\n${verdict(findings)}\n`);
    if (config.settings === undefined) return 2;
    return failed ? 1 : 0;
  },
};

/** The last line: what one has to look at again. */
function verdict(findings: readonly Finding[]): string {
  const number = (state: FindingState) => findings.filter((one) => one.state === state).length;
  const [failed, warned, unknown] = [number('fail'), number('warn'), number('unknown')];
  if (failed === 0 && warned === 0) return `Nothing wrong; ${unknown} not seen from here.`;
  return `${failed} failed, ${count(warned, 'warning')}, ${unknown} not seen from here.`;
}

function reportSettings(config: ReturnType<typeof inspectSettings>, report: Report): void {
  for (const { name, message, example } of config.mistakes) {
    report({
      check: name,
      state: 'fail',
      text: message,
      code: 'configuration',
      ...(example === undefined ? {} : { mend: `e.g. ${example}` }),
    });
  }
  for (const warning of config.warnings)
    report({ check: 'settings', state: 'warn', text: warning });
  if (config.mistakes.length === 0) {
    report({ check: 'settings', state: 'ok', text: 'complete; `xvault config` prints them' });
  }
}

async function checkAll(
  settings: Settings,
  about: (subject: string) => Report,
  signal: AbortSignal,
): Promise<void> {
  reportMemory(settings, about('memory'));
  const { queueUrl: url, bucket } = settings;
  if (url) await checkQueue({ url, name: queueName(bucket) }, about('shared queue'), { signal });
  await using adapters = wireAdapters(settings, { log: SILENT_LOG });
  for (const pool of adapters.pools) {
    await checkPool(pool, about(`pool ${pool.name}`), { signal });
  }
  const { name, prefix, stateBucket, encryption, locks = {} } = bucket;
  const { store, stateStore } = adapters;
  const buckets = [
    { name, store, archives: true, state: stateBucket === undefined },
    ...(stateBucket === undefined
      ? []
      : [{ name: stateBucket, store: stateStore, archives: false, state: true }]),
  ];
  for (const bucket of buckets) {
    const report = about(`bucket ${bucket.name}`);
    const deps = { report, clock: systemClock, ids: systemIds };
    await checkBucket({ ...bucket, prefix, rules: settings }, deps, { signal });
    if (!bucket.archives) continue;
    const protection = { ...bucket, prefix, encryption: encryption?.kind, locks };
    await checkProtection(protection, report, { signal });
  }
}

function reportMemory({ memoryBytes, concurrency }: Settings, report: Report): void {
  // A container's limit where there is one; 0 or a huge number where there is none.
  const constrained = process.constrainedMemory();
  const limit = constrained > 0 && constrained < totalmem() ? constrained : totalmem();
  const needed = memoryBytes + OVERHEAD_BYTES;
  const text = `${formatBytes(memoryBytes)} for bytes in flight, about ${formatBytes(needed)} in all, of ${formatBytes(limit)}; ${availableParallelism()} CPUs`;
  if (needed > limit) {
    const mend = 'Lower XVAULT_MEMORY_MIB or give the process more memory.';
    report({ check: 'memory', state: 'fail', text, mend });
    return;
  }
  const small = memoryBytes < concurrency * UNITS_PER_JOB * ARENA_UNIT_BYTES;
  report({
    check: 'memory',
    state: small ? 'warn' : 'ok',
    text,
    ...(small
      ? { mend: `${concurrency} jobs at once will wait for each other: raise XVAULT_MEMORY_MIB.` }
      : {}),
  });
}

function createPrinter(terminal: Terminal): (finding: Finding) => void {
  const style = styler(terminal.color);
  let shown = '';
  return ({ about, check, state, text, mend }) => {
    if (about !== shown) terminal.out(`${shown === '' ? '' : '\n'}${style('bold', about)}\n`);
    shown = about;
    const { mark, style: name } = MARKS[state];
    terminal.out(`  ${style(name, mark)} ${check}: ${plain(text)}\n`);
    if (mend !== undefined) terminal.out(`      → ${mend}\n`);
  };
}
