/** What people mistype is told in a line before anything is measured. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { readOptions, UsageError } from './options.ts';

const KNOWN = ['one', 'scale'];
const folder = mkdtempSync(join(tmpdir(), 'xvault-bench-options-'));
after(() => rmSync(folder, { recursive: true }));

function file(content: string): string {
  const path = join(folder, 'mine.json');
  writeFileSync(path, content);
  return path;
}

test('without words every bench is run thrice, with the usual night', () => {
  assert.deepEqual(readOptions([], KNOWN), {
    quick: false,
    rounds: 3,
    names: KNOWN,
    writeDocs: false,
    scenario: {},
  });
});

test('only the figures that were given are not the usual ones, and words win over the file', () => {
  const words = ['--only', 'scale', '--vms', '7', '--scenario', file('{"vms": 5, "pools": 2}')];
  const { names, scenario } = readOptions(words, KNOWN);
  assert.deepEqual(names, ['scale']);
  assert.deepEqual(scenario, { vms: 7, pools: 2 });
});

const WRONG: [what: string, words: () => string[], said: RegExp][] = [
  ['an option there is not', () => ['--fast'], /--fast/],
  ['a bench there is not', () => ['--only', 'two'], /^--only two: there are one, scale$/],
  ['no rounds', () => ['--rounds', '0'], /^--rounds 0: a whole number from 1 is wanted$/],
  ['no machines', () => ['--vms', '0'], /^scenario: vms: /],
  ['pools that are no number', () => ['--pools', 'many'], /^scenario: pools: /],
  ['a scenario that is not there', () => ['--scenario', 'no/such.json'], /no\/such\.json: ENOENT/],
  ['a scenario that is no JSON', () => ['--scenario', file('{vms}')], /mine\.json: .*JSON/],
  ['a scenario that is no object', () => ['--scenario', file('[5]')], /a JSON object is wanted/],
  ['an unknown figure', () => ['--scenario', file('{"machines": 5}')], /^scenario: .*"machines"/],
  [
    'a figure of a wrong kind',
    () => ['--scenario', file('{"size_gib": {"median": "big"}}')],
    /^scenario: size_gib: median: /,
  ],
];

for (const [what, words, said] of WRONG) {
  test(`${what} is told in a line`, () => {
    assert.throws(
      () => readOptions(words(), KNOWN),
      (error: Error) => {
        assert.ok(error instanceof UsageError);
        assert.match(error.message, said);
        assert.doesNotMatch(error.message, /\n/);
        return true;
      },
    );
  });
}

test('the program says it without a stack trace and ends with 2', async () => {
  const { promise, resolve } = Promise.withResolvers<{ code: unknown; err: string }>();
  const args = [join(import.meta.dirname, 'run.ts'), '--only', 'scale', '--vms', '0'];
  execFile(process.execPath, args, (error, _, err) => resolve({ code: error?.code, err }));
  const { code, err } = await promise;
  assert.equal(code, 2);
  assert.match(err, /^bench: scenario: vms: .*\n$/);
});
