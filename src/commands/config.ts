/** `xvault config`: the settings in effect, where each comes from, and every mistake in them. */
import { exampleLine, inspectSettings } from '../config.ts';
import { SETTING_NAMES, settingMeta } from '../settings-table.ts';
import type { Command } from './command.ts';
import { formatTable, plain } from './format.ts';
import { styler } from './help.ts';

export const command: Command = {
  name: 'config',
  usage: 'config',
  summary: 'The settings in effect and where they come from; secrets are masked.',
  examples: ['xvault config', 'xvault config --json'],
  options: {},
  words: { min: 0, max: 0 },
  get notes() {
    const lines = SETTING_NAMES.map((name) => `  ${exampleLine(name)}`);
    return [
      'Settings are environment variables; a secret may be given as NAME_FILE instead.',
      'The AWS SDK reads AWS_REGION, AWS_ACCESS_KEY_ID and its other variables itself.',
      ...lines,
    ].join('\n');
  },
  async run({ terminal, json }) {
    // Missing is told too: what `serve` would say is what one wants to know here.
    const report = inspectSettings({ needs: ['pools', 'bucket', 'access'] });
    const valid = report.mistakes.length === 0;
    if (json) {
      const settings = report.sources.map(({ name, value, source }) => ({
        name,
        value: value ?? null,
        source,
      }));
      const { mistakes, warnings } = report;
      terminal.out(`${JSON.stringify({ valid, settings, mistakes, warnings }, null, 2)}\n`);
      return valid ? 0 : 2;
    }
    const style = styler(terminal.color);
    const rows = report.sources.map(({ name, value, source }) => [
      name,
      source === 'unset' ? '–' : plain(value ?? ''),
      settingMeta(name).secret && source === 'file' ? `${source} (${name}_FILE)` : source,
    ]);
    const columns = [{ title: 'SETTING' }, { title: 'VALUE' }, { title: 'SOURCE' }];
    terminal.out(`${formatTable(columns, rows).join('\n')}\n`);
    for (const warning of report.warnings) {
      terminal.err(`${style('yellow', 'warning:')} ${warning}\n`);
    }
    for (const { name, message, example } of report.mistakes) {
      terminal.err(`${style('red', 'mistake:')} ${name}: ${message}\n`);
      if (example !== undefined) terminal.err(`  e.g. ${example}\n`);
    }
    return valid ? 0 : 2;
  },
};
