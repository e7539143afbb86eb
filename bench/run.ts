/**
 * All measurements, one command: `npm run bench -- [--quick] [--only <name>] [--json <file>] [--write-docs]`; of the simulated
 * night also `[--vms <n>] [--pools <n>] [--scenario <file>]`.
 *
 * Prints tables with medians and ratios, then every figure the project set itself beside what was measured (a missed
 * one never fails the run), and keeps all of it in bench/results/. The machine is named by its processor, cores, memory,
 * Node and kernel. Tools that are missing are named, and their rows skipped.
 */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { measureCatalog } from './catalog.ts';
import { measureDelta } from './delta.ts';
import { writeDocs } from './docs.ts';
import { measureLargeMachine } from './large-machine.ts';
import { describeMachine, machineLabel } from './machine.ts';
import { measureManyStreams } from './many-streams.ts';
import { measureOneStream } from './one-stream.ts';
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
const ROUNDS = 3;
const MEMORY_FOLDER = '/dev/shm';

const { values } = parseArgs({
  options: {
    quick: { type: 'boolean', default: false },
    rounds: { type: 'string', default: String(ROUNDS) },
    only: { type: 'string', multiple: true },
    json: { type: 'string' },
    'write-docs': { type: 'boolean', default: false },
    vms: { type: 'string' },
    pools: { type: 'string' },
    scenario: { type: 'string' },
  },
});

function readScenario(): Record<string, unknown> {
  const { vms, pools, scenario: file } = values;
  const own = file === undefined ? {} : (JSON.parse(readFileSync(file, 'utf8')) as object);
  return {
    ...own,
    ...(vms === undefined ? {} : { vms: Number(vms) }),
    ...(pools === undefined ? {} : { pools: Number(pools) }),
  };
}

async function run(names: readonly string[]): Promise<Section[]> {
  const sections: Section[] = [];
  for (const name of names) {
    const bench = BENCHES[name];
    if (!bench) throw new Error(`no bench ${name}; there are: ${Object.keys(BENCHES).join(', ')}`);
    const folder = makeFolder();
    const log = (line: string) => process.stderr.write(`${name}: ${line}\n`);
    try {
      const { quick } = values;
      const rounds = quick ? 1 : Number(values.rounds);
      const section = await bench({ quick, rounds, folder, log, scenario: readScenario() });
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

const machine = describeMachine();
const date = new Date().toISOString().slice(0, 10);
console.log(`${date}, ${machine.text}${values.quick ? ', quick: the figures mean little' : ''}`);
const sections = await run(values.only ?? Object.keys(BENCHES));
const targets = sections.flatMap((section) => section.targets);
if (targets.length > 0) console.log(`\n${formatTable(targetTable(sections))}`);

const result = {
  date,
  quick: values.quick,
  machine,
  sections,
  targets: targets.map((target) => ({ ...target, met: isMet(target) })),
};
const folder = join(import.meta.dirname, 'results');
const isMeasured = sections.some(({ name }) => name !== SIMULATED);
const kept =
  values.quick || !isMeasured ? undefined : join(folder, `${date}-${machineLabel(machine)}.json`);
for (const file of [kept, values.json]) {
  if (file === undefined) continue;
  if (file === kept) mkdirSync(folder, { recursive: true });
  writeFileSync(file, `${JSON.stringify(result, null, 2)}\n`);
}
const isUsual = Object.keys(readScenario()).length === 0;
if (values['write-docs'] && !values.quick && isUsual) writeDocs(result, Object.keys(BENCHES));
