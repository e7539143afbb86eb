/**
 * Writes the tables of a run between the markers of docs/performance.md, those of the simulated night of docs/scaling.md; the
 * text around them is written by hand.
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
const OWN_PLACES: Record<string, string> = {
  delta: 'bench delta',
  restore: 'bench restore',
  scale: 'bench scale',
};
/** What is simulated says nothing of the machine it was calculated on. */
const SCALE_FILE = join(import.meta.dirname, '../docs/scaling.md');
const SCALE = 'bench scale';
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
  for (const [place, wanted] of Object.entries(Object.groupBy(names, placeOf))) {
    if (!wanted?.every((name) => ran.has(name))) continue;
    const sections = result.sections.filter(({ name }) => placeOf(name) === place);
    const file = place === SCALE ? SCALE_FILE : FILE;
    const blocks = [...(place === SCALE ? [] : [head]), ...blocksOf(sections)];
    writeFileSync(file, replace(readFileSync(file, 'utf8'), place, blocks));
  }
}

function blocksOf(sections: readonly Section[]): string[] {
  const blocks = sections.flatMap(({ tables, notes }) => [...tables.map(formatTable), ...notes]);
  const hasTargets = sections.some(({ targets }) => targets.length > 0);
  return [...blocks, ...(hasTargets ? [formatTable(targetTable(sections))] : [])];
}

function replace(text: string, place: string, blocks: readonly string[]): string {
  const [before, after] = [text.indexOf(beginOf(place)), text.indexOf(endOf(place))];
  if (before < 0 || after < before) throw new Error(`no markers of ${place} in docs/`);
  return `${text.slice(0, before)}${beginOf(place)}\n\n${blocks.join('\n\n')}\n\n${text.slice(after)}`;
}
