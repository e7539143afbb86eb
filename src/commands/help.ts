/** Help pages and text styles, shared by all commands. */
import { styleText } from 'node:util';
import type { Command, OptionHelp } from './command.ts';

/** What every command takes. */
export const COMMON_OPTIONS: Record<string, OptionHelp> = {
  json: { type: 'boolean', help: 'Answer in JSON, in the shape of the HTTP API' },
  help: { type: 'boolean', short: 'h', help: 'This page' },
};

/** Text styles where the terminal shows them. */
export function styler(color: boolean) {
  return (format: Parameters<typeof styleText>[0], text: string) =>
    color ? styleText(format, text, { validateStream: false }) : text;
}

/** The help page of one command, examples first. */
export function commandHelp(command: Command, color: boolean): string {
  const style = styler(color);
  const options = Object.entries({ ...command.options, ...COMMON_OPTIONS }).map(
    ([name, option]) => {
      const short = option.short === undefined ? '    ' : `-${option.short}, `;
      const value = option.type === 'string' ? ` ${option.value ?? '<text>'}` : '';
      return [`  ${short}--${name}${value}`, option.help] as const;
    },
  );
  const width = Math.max(...options.map(([left]) => left.length));
  const lines = [
    `xvault ${command.usage}`,
    command.summary,
    '',
    style('bold', 'Examples'),
    ...command.examples.map((example) => `  ${example}`),
    '',
    style('bold', 'Options'),
    ...options.map(([left, text]) => `${left.padEnd(width)}  ${text}`),
  ];
  if (command.notes !== undefined) lines.push('', command.notes);
  return `${lines.join('\n')}\n`;
}
