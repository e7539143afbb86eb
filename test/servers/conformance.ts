/**
 * Compares what a server answers with what is known of it.
 *
 * `answers/ceph.json` holds every answer of Ceph RGW 20, taken from the real one. The other files hold only the checks
 * in which a server differs from the one it is compared with, each with the reason. A difference that is not listed
 * fails, and so does one that is listed and no longer there. `UPDATE_ANSWERS=1` writes the files anew and keeps the
 * reasons (`npm run format` brings them into shape); a difference without a reason fails.
 */
import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import type { S3Server, Skipped } from './server.ts';
import { type Check, observe, type Run, startRun, type Trial } from './trial.ts';

const FOLDER = join(import.meta.dirname, 'answers');
const UPDATE = process.env.UPDATE_ANSWERS === '1';
const NO_REASON = 'TODO: reason';

type Answers = Record<string, string[]>;
type Differences = Record<string, { reason: string; answers: string[] }>;

/** What is expected of one server. */
export interface Expectation {
  /** The file of answers, or of differences from `base`. */
  file: string;
  base?: Expectation;
}

function load<T>(expectation: Expectation): T {
  try {
    return JSON.parse(readFileSync(join(FOLDER, expectation.file), 'utf8')) as T;
  } catch (error) {
    if (UPDATE && (error as NodeJS.ErrnoException).code === 'ENOENT') return {} as T;
    throw error;
  }
}

function expectedAnswers(expectation: Expectation): Answers {
  const { base } = expectation;
  if (!base) return load<Answers>(expectation);
  const differences = Object.entries(load<Differences>(expectation));
  const own = differences.map(([name, { answers }]) => [name, answers] as const);
  return { ...expectedAnswers(base), ...Object.fromEntries(own) };
}

function save(expectation: Expectation, observed: Answers): void {
  let content: Answers | Differences = observed;
  if (expectation.base) {
    const base = expectedAnswers(expectation.base);
    const before = load<Differences>(expectation);
    content = {};
    for (const [name, answers] of Object.entries(observed)) {
      if (isSame(base[name] ?? [], answers)) continue;
      const known = before[name] ?? { reason: NO_REASON, answers };
      content[name] = isSame(known.answers, answers) ? known : { ...known, answers };
    }
  }
  writeFileSync(join(FOLDER, expectation.file), `${JSON.stringify(content, null, 2)}\n`);
}

/**
 * Where an answer depends on the moment, the file says `label: one | other`; the one that came is as expected.
 */
function chooseAlternatives(expected: readonly string[], notes: readonly string[]): string[] {
  return expected.map((line, index) => {
    const note = notes[index];
    const at = line.indexOf(': ') + 2;
    const alternatives = line.slice(at).split(' | ');
    const fits = note?.startsWith(line.slice(0, at)) && alternatives.includes(note.slice(at));
    return fits ? (note as string) : line;
  });
}

function isSame(expected: readonly string[], notes: readonly string[]): boolean {
  return JSON.stringify(chooseAlternatives(expected, notes)) === JSON.stringify(notes);
}

/** Runs the checks as subtests against one server, or skips them all with its reason. */
export async function conform(
  t: TestContext,
  server: S3Server | Skipped,
  options: { checks: readonly Check[]; expectation: Expectation; afterDays: Trial['afterDays'] },
): Promise<void> {
  if ('skipped' in server) {
    t.skip(server.skipped);
    return;
  }
  const { checks, expectation, afterDays } = options;
  const run: Run = await startRun(server, afterDays);
  t.after(() => run.close());
  const expected = UPDATE ? {} : expectedAnswers(expectation);
  const observed: Answers = {};
  for (const check of checks) {
    await t.test(check.name, async () => {
      const notes = await observe(run, check);
      observed[check.name] = notes;
      if (!UPDATE) assert.deepEqual(notes, chooseAlternatives(expected[check.name] ?? [], notes));
    });
  }
  if (UPDATE) save(expectation, observed);
  if (expectation.base)
    await t.test('every difference has its reason', () => hasReasons(expectation));
}

function hasReasons(expectation: Expectation): void {
  const base = expectedAnswers(expectation.base as Expectation);
  for (const [name, { reason, answers }] of Object.entries(load<Differences>(expectation))) {
    assert.ok(reason.length > 0 && reason !== NO_REASON, `no reason for: ${name}`);
    assert.notDeepEqual(answers, base[name], `no difference any more: ${name}`);
  }
}
