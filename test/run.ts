/**
 * The test command: style and layout, types, then every test, then what needs a machine of its own.
 *
 *   npm test                 everything, under five minutes
 *   npm test -- src/xva      only the tests whose path contains one of the words
 *   npm run test:long        the same with the long fuzz and soak runs (XVAULT_TEST_LONG=1)
 *
 * Fast checks come first. Real S3 servers are fetched and started by the tests that want them; where a machine cannot
 * have one, the test is skipped and the summary says why. Ends with exit code 1 if anything failed.
 */
import { spawn } from 'node:child_process';
import { globSync } from 'node:fs';
import { join } from 'node:path';

interface Step {
  name: string;
  command: string[];
  /** Exit code that means "cannot be done on this machine". */
  skipCode?: number;
}

/** A test that takes this long hangs. */
const TEST_TIMEOUT_MS = 240_000;
const root = join(import.meta.dirname, '..');
const words = process.argv.slice(2).filter((word) => !word.startsWith('-'));
const long = process.argv.includes('--long');
/** Biome colours whatever it writes to, log files of a CI among it. */
const plain = process.stdout.isTTY ? [] : ['--colors=off'];
const bin = (name: string) => join(root, 'node_modules', '.bin', name);

const files = globSync(['src/**/*.test.ts', 'test/**/*.test.ts', 'bench/**/*.test.ts'], {
  cwd: root,
})
  .filter((file) => words.length === 0 || words.some((word) => file.includes(word)))
  .sort();

const tests: Step = {
  name: 'tests',
  command: [
    process.execPath,
    '--test',
    '--test-concurrency=2',
    `--test-timeout=${TEST_TIMEOUT_MS}`,
    '--test-reporter=dot',
    '--test-reporter-destination=stdout',
    `--test-reporter=${new URL('./summary.ts', import.meta.url).href}`,
    '--test-reporter-destination=stdout',
    ...files,
  ],
};

const steps: Step[] =
  words.length > 0
    ? [tests]
    : [
        { name: 'lint', command: [bin('biome'), 'ci', ...plain, '.'] },
        { name: 'types', command: [bin('tsc')] },
        tests,
        { name: 'image', command: ['bash', 'test/image/check.sh'], skipCode: 77 },
      ];

const results: string[] = [];
let failed = false;
for (const step of steps) {
  const startedAt = performance.now();
  const code = await run(step.command);
  const seconds = ((performance.now() - startedAt) / 1000).toFixed(1);
  const skipped = step.skipCode !== undefined && code === step.skipCode;
  if (code !== 0 && !skipped) failed = true;
  results.push(
    `${step.name}: ${skipped ? 'skipped' : code === 0 ? 'passed' : `FAILED (${code})`} in ${seconds} s`,
  );
  if (failed) break;
}
console.log(`\n${results.join('\n')}`);
process.exitCode = failed ? 1 : 0;

function run([command = '', ...args]: string[]): Promise<number> {
  return new Promise((resolve) => {
    const env = {
      ...process.env,
      ...(long ? { XVAULT_TEST_LONG: '1' } : {}),
      NODE_NO_WARNINGS: '1',
    };
    const child = spawn(command, args, { cwd: root, stdio: ['ignore', 'inherit', 'inherit'], env });
    child.on('error', () => resolve(127));
    child.on('exit', (code) => resolve(code ?? 1));
  });
}
