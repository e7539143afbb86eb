/** What a bench hands over: tables and targets, and how they are printed. */
import type { Scenario } from './scale-scenario.ts';

export interface Table {
  title: string;
  columns: readonly string[];
  rows: readonly (readonly (string | number)[])[];
}

/** A figure beside what the project wants to reach. */
export interface Target {
  name: string;
  value: number;
  limit: number;
  /** `most`: the value must not be above the limit. */
  kind: 'most' | 'least';
}

export interface Section {
  name: string;
  tables: Table[];
  targets: Target[];
  notes: string[];
}

/** What a bench is told. */
export interface BenchInput {
  /** Small sizes, for trying it out: the figures mean little. */
  quick: boolean;
  rounds: number;
  /** An empty folder of this bench, in memory if the machine has such. */
  folder: string;
  log(line: string): void;
  /** Figures of the simulated night that are not to be the usual ones. */
  scenario: Partial<Scenario>;
}

export type Bench = (input: BenchInput) => Promise<Section>;

/** True when the figure is as good as wanted. */
export function isMet({ value, limit, kind }: Target): boolean {
  return kind === 'most' ? value <= limit : value >= limit;
}

/** Three digits that matter: 0.123, 12.3, 1234. */
export function figure(value: number): string {
  if (!Number.isFinite(value)) return '–';
  const digits = Math.max(0, 2 - Math.floor(Math.log10(Math.abs(value) || 1)));
  return value.toFixed(Math.min(digits, 2));
}

/** Markdown that is also readable on a terminal: columns padded. */
export function formatTable({ title, columns, rows }: Table): string {
  const cells = [columns, ...rows].map((row) =>
    row.map((cell) => (typeof cell === 'number' ? figure(cell) : cell.replaceAll('|', '\\|'))),
  );
  const widths = columns.map((_, at) => Math.max(...cells.map((row) => row[at]?.length ?? 0)));
  const isNumber = (at: number) => rows.some((row) => typeof row[at] === 'number');
  const line = (row: readonly string[]) => {
    const padded = row.map((cell, at) =>
      isNumber(at) ? cell.padStart(widths[at] ?? 0) : cell.padEnd(widths[at] ?? 0),
    );
    return `| ${padded.join(' | ')} |`;
  };
  const rule = columns.map((_, at) => {
    const dashes = '-'.repeat(Math.max(2, (widths[at] ?? 2) - 1));
    return isNumber(at) ? `${dashes}:` : `${dashes}-`;
  });
  const [head = [], ...body] = cells;
  return [`**${title}**`, '', line(head), `| ${rule.join(' | ')} |`, ...body.map(line)].join('\n');
}

/** All targets of all sections as one table. */
export function targetTable(sections: readonly Section[]): Table {
  const targets = sections.flatMap((section) => section.targets);
  const rows = targets.map((target) => {
    const sign = target.kind === 'most' ? '≤' : '≥';
    const limit = `${sign} ${figure(target.limit)}`;
    return [target.name, target.value, limit, isMet(target) ? 'yes' : 'no'];
  });
  return { title: 'What was to be reached', columns: ['figure', 'is', 'wanted', 'met'], rows };
}
