/** Writes the tables of a run between the markers of docs/performance.md; the text around them is written by hand. */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Machine } from './machine.ts';
import { formatTable, type Section, targetTable } from './report.ts';

const FILE = join(import.meta.dirname, '../docs/performance.md');
const BEGIN = '<!-- bench: begin; written by `npm run bench -- --write-docs` -->';
const END = '<!-- bench: end -->';

/** Replaces what stands between the markers. */
export function writeDocs(result: { date: string; machine: Machine; sections: Section[] }): void {
  const text = readFileSync(FILE, 'utf8');
  const [before, after] = [text.indexOf(BEGIN), text.indexOf(END)];
  if (before < 0 || after < before) throw new Error(`no markers in ${FILE}`);
  const head = `${result.date}: ${result.machine.text}.`;
  const blocks = result.sections.flatMap(({ tables, notes }) => [
    ...tables.map(formatTable),
    ...notes,
  ]);
  const all = [head, ...blocks, formatTable(targetTable(result.sections))];
  const made = `${BEGIN}\n\n${all.join('\n\n')}\n\n`;
  writeFileSync(FILE, text.slice(0, before) + made + text.slice(after));
}
