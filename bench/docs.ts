/**
 * Writes the tables of a run between the markers of docs/performance.md; the text around them is written by hand.
 *
 * Some benches have a place of their own there, so that they can be measured again alone. A place is written only if all of
 * its benches ran.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Machine } from './machine.ts';
import { formatTable, type Section, targetTable } from './report.ts';

const FILE = join(import.meta.dirname, '../docs/performance.md');
/** Benches by the word in their markers; all others share `bench`. */
const OWN_PLACES: Record<string, string> = { delta: 'bench delta', restore: 'bench restore' };
const SHARED = 'bench';

const placeOf = (name: string) => OWN_PLACES[name] ?? SHARED;
const beginOf = (place: string) =>
  `<!-- ${place}: begin; written by \`npm run bench -- --write-docs\` -->`;
const endOf = (place: string) => `<!-- ${place}: end -->`;

/** Replaces what stands between the markers of places whose benches all ran; `names`: all there are. */
export function writeDocs(
  result: { date: string; machine: Machine; sections: Section[] },
  names: readonly string[],
): void {
  const ran = new Set(result.sections.map(({ name }) => name));
  const head = `${result.date}: ${result.machine.text}.`;
  let text = readFileSync(FILE, 'utf8');
  for (const [place, wanted] of Object.entries(Object.groupBy(names, placeOf))) {
    if (!wanted?.every((name) => ran.has(name))) continue;
    const sections = result.sections.filter(({ name }) => placeOf(name) === place);
    text = replace(text, place, [head, ...blocksOf(sections)]);
  }
  writeFileSync(FILE, text);
}

function blocksOf(sections: readonly Section[]): string[] {
  const blocks = sections.flatMap(({ tables, notes }) => [...tables.map(formatTable), ...notes]);
  return [...blocks, formatTable(targetTable(sections))];
}

function replace(text: string, place: string, blocks: readonly string[]): string {
  const [before, after] = [text.indexOf(beginOf(place)), text.indexOf(endOf(place))];
  if (before < 0 || after < before) throw new Error(`no markers of ${place} in ${FILE}`);
  return `${text.slice(0, before)}${beginOf(place)}\n\n${blocks.join('\n\n')}\n\n${text.slice(after)}`;
}
