/** What the ready-made files are held to, whatever runs them: settings there are, commands there are, room enough. */
import assert from 'node:assert/strict';
import { parseArgs } from 'node:util';
import { COMMANDS } from '../../src/commands/index.ts';
import { inspectSettings } from '../../src/config.ts';
import { SETTING_NAMES, settingMeta } from '../../src/settings-table.ts';
import { createCertificate } from '../sim/xapi/certificate.ts';

/** What a process needs besides XVAULT_MEMORY_MIB (docs/deploy.md). */
export const OVERHEAD_MIB = 150;

const { certPem } = createCertificate({ address: '127.0.0.1', serial: 1, nowMs: Date.now() });

/** Complains of every setting there is not; secrets may be given as NAME_FILE. */
export function assertSettings(names: Iterable<string>, where: string): void {
  const known = new Set<string>(SETTING_NAMES);
  for (const name of names) {
    if (!name.startsWith('XVAULT_')) continue;
    const plain = name.replace(/_FILE$/, '');
    const isSecretFile = known.has(plain) && settingMeta(plain as 'XVAULT_TOKEN').secret === true;
    assert.ok(known.has(name) || isSecretFile, `${where}: ${name} is no setting`);
  }
}

/** The service would start with these. */
export function assertStarts(env: Record<string, string>, where: string): void {
  assertSettings(Object.keys(env), where);
  const needs = ['pools', 'bucket'] as const;
  const readFile = (path: string) => {
    if (path.endsWith('.pem')) return certPem;
    return path.endsWith('queue-url') ? 'redis://:secret@queue:6379' : 'a-long-enough-secret';
  };
  const { mistakes, warnings } = inspectSettings({ env, needs, readFile });
  assert.deepEqual({ mistakes, warnings }, { mistakes: [], warnings: [] }, where);
}

/** The command takes these words. */
export async function assertCommand(words: readonly string[], where: string): Promise<void> {
  const [name = '', ...args] = words;
  const entry = COMMANDS[name];
  assert.ok(entry, `${where}: no command ${name}`);
  const { command } = await entry.load();
  const options = { ...command.options, json: { type: 'boolean' } } as const;
  const { positionals } = parseArgs({ args, options, allowPositionals: true });
  const { min, max } = command.words;
  assert.ok(positionals.length >= min && positionals.length <= max, `${where}: ${words.join(' ')}`);
}

/** Between the word to stop and the kill there is more time than the command takes: a service drains, a run leaves its job. */
export function assertGrace(
  words: readonly string[],
  env: Record<string, string>,
  seconds: number,
  where: string,
): void {
  const asked = words.includes('--grace') ? words[words.indexOf('--grace') + 1] : undefined;
  const own =
    words[0] === 'run' ? (asked ?? env.XVAULT_RUN_GRACE_SECONDS ?? '5') : env.XVAULT_DRAIN_SECONDS;
  assert.match(own ?? '', /^\d+s?$/, where);
  assert.ok(seconds > Number.parseInt(own ?? '', 10), `${where}: killed after ${seconds} s`);
}
