/**
 * What the command line of the benches asks for, checked before anything is measured: a wrong word or figure is told in a
 * line, not found after a quarter of an hour.
 */
import { readFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { type Scenario, scenarioSchema } from './scale-scenario.ts';

const ROUNDS = 3;

export interface BenchOptions {
  quick: boolean;
  rounds: number;
  /** Benches by name, in the order they are wanted; all unless some were named. */
  names: string[];
  /** A file for the result, beside bench/results/. */
  json?: string;
  writeDocs: boolean;
  /** Figures of the simulated night that are not to be the usual ones. */
  scenario: Partial<Scenario>;
}

/** A wrong command line. */
export class UsageError extends Error {}

/** Reads the command line; `known` are the benches there are. Errors: UsageError. */
export function readOptions(args: readonly string[], known: readonly string[]): BenchOptions {
  const { values } = parsed(args);
  const names = values.only ?? [...known];
  for (const name of names) {
    if (!known.includes(name))
      throw new UsageError(`--only ${name}: there are ${known.join(', ')}`);
  }
  const rounds = values.quick ? 1 : Number(values.rounds);
  if (!Number.isSafeInteger(rounds) || rounds < 1) {
    throw new UsageError(`--rounds ${values.rounds}: a whole number from 1 is wanted`);
  }
  return {
    quick: values.quick,
    rounds,
    names,
    ...(values.json === undefined ? {} : { json: values.json }),
    writeDocs: values['write-docs'],
    scenario: readScenario(values),
  };
}

function parsed(args: readonly string[]) {
  try {
    return parseArgs({
      args: [...args],
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
  } catch (error) {
    throw new UsageError((error as Error).message, { cause: error });
  }
}

interface ScenarioWords {
  vms?: string | undefined;
  pools?: string | undefined;
  scenario?: string | undefined;
}

function readScenario({ vms, pools, scenario: file }: ScenarioWords): Partial<Scenario> {
  const given = {
    ...(file === undefined ? {} : readObject(file)),
    ...(vms === undefined ? {} : { vms: Number(vms) }),
    ...(pools === undefined ? {} : { pools: Number(pools) }),
  };
  const { success, data, error } = scenarioSchema.safeParse(given);
  if (success) {
    // only what was given: the usual figures must not undo limits that a table raises
    return Object.fromEntries(Object.entries(data).filter(([name]) => name in given));
  }
  const issues = error.issues.map(({ path, message }) => [...path, message].join(': '));
  throw new UsageError(`scenario: ${issues.join('; ')}`);
}

function readObject(file: string): object {
  let found: unknown;
  try {
    found = JSON.parse(readFileSync(file, 'utf8'));
  } catch (error) {
    throw new UsageError(`--scenario ${file}: ${(error as Error).message}`, { cause: error });
  }
  if (typeof found === 'object' && found !== null && !Array.isArray(found)) return found;
  throw new UsageError(`--scenario ${file}: a JSON object is wanted, such as {"line_gbit_s": 2}`);
}
