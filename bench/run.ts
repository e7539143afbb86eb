/**
 * All measurements, one command: `npm run bench -- [--quick] [--only <name>] [--json <file>] [--write-docs]`; of the simulated
 * night also `[--vms <n>] [--pools <n>] [--scenario <file>]`. A wrong command line ends with exit code 2 before anything runs.
 *
 * Prints tables with medians and ratios, then every figure the project set itself beside what was measured (a missed
 * one never fails the run), and keeps all of it in bench/results/. The machine is named by its processor, cores, memory,
 * Node and kernel. Tools that are missing are named, and their rows skipped.
 */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { measureCatalog } from './catalog.ts';
import { measureDelta } from './delta.ts';
import { writeDocs } from './docs.ts';
import { measureLargeMachine } from './large-machine.ts';
import { describeMachine, machineLabel } from './machine.ts';
import { measureManyStreams } from './many-streams.ts';
import { measureOneStream } from './one-stream.ts';
import { type BenchOptions, readOptions, UsageError } from './options.ts';
import { type Bench, formatTable, isMet, type Section, targetTable } from './report.ts';
import { measureRestore } from './restore.ts';
import { simulateScale } from './scale.ts';
import { measureService } from './service.ts';

const BENCHES: Record<string, Bench> = {
  'one-stream': measureOneStream,
  'many-streams': measureManyStreams,
  delta: measureDelta,
  restore: measureRestore,
  'large-machine': measureLargeMachine,
  catalog: measureCatalog,
  service: measureService,
  scale: simulateScale,
};
/** Nothing is measured there: its figures say nothing of this machine. */
const SIMULATED = 'scale';
const MEMORY_FOLDER = '/dev/shm';

/** What is asked for; a wrong command line ends the program here, in a line. */
function readCommandLine(): BenchOptions {
  try {
    return readOptions(process.argv.slice(2), Object.keys(BENCHES));
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    console.error(`bench: ${error.message}`);
    process.exit(2);
  }
}

async function run({ names, quick, rounds, scenario }: BenchOptions): Promise<Section[]> {
  const sections: Section[] = [];
  for (const name of names) {
    const folder = makeFolder();
    const log = (line: string) => process.stderr.write(`${name}: ${line}\n`);
    try {
      const bench = BENCHES[name] as Bench;
      const section = await bench({ quick, rounds, folder, log, scenario });
      for (const table of section.tables) console.log(`\n${formatTable(table)}`);
      for (const note of section.notes) console.log(`\n${note}`);
      sections.push(section);
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  }
  return sections;
}

/** In memory where the system has such a place: no disk is to be measured. */
function makeFolder(): string {
  try {
    return mkdtempSync(join(MEMORY_FOLDER, 'xvault-bench-'));
  } catch {
    return mkdtempSync(join(tmpdir(), 'xvault-bench-'));
  }
}

const options = readCommandLine();
const machine = describeMachine();
const date = new Date().toISOString().slice(0, 10);
console.log(`${date}, ${machine.text}${options.quick ? ', quick: the figures mean little' : ''}`);
const sections = await run(options);
const targets = sections.flatMap((section) => section.targets);
if (targets.length > 0) console.log(`\n${formatTable(targetTable(sections))}`);

const result = {
  date,
  quick: options.quick,
  machine,
  sections,
  targets: targets.map((target) => ({ ...target, met: isMet(target) })),
};
const folder = join(import.meta.dirname, 'results');
const isMeasured = sections.some(({ name }) => name !== SIMULATED);
const kept =
  options.quick || !isMeasured ? undefined : join(folder, `${date}-${machineLabel(machine)}.json`);
for (const file of [kept, options.json]) {
  if (file === undefined) continue;
  if (file === kept) mkdirSync(folder, { recursive: true });
  writeFileSync(file, `${JSON.stringify(result, null, 2)}\n`);
}
const isUsual = Object.keys(options.scenario).length === 0;
if (options.writeDocs && !options.quick && isUsual) writeDocs(result, Object.keys(BENCHES));
