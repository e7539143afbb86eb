/**
 * The test command: style and layout, types, then every test, then what needs a machine of its own.
 *
 *   npm test                 everything; half of the time is that of real S3 servers and killed processes
 *   npm test -- src/xva      only the tests whose path contains one of the words
 *   npm run test:long        the same with the long fuzz and soak runs (XVAULT_TEST_LONG=1)
 *
 * Fast checks come first. Real S3 servers are fetched and started by the tests that want them; where a machine cannot
 * have one, the test is skipped and the summary says why. Ends with exit code 1 if anything failed.
 */
import { type StdioOptions, spawn } from 'node:child_process';
import { globSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { run as runFiles } from 'node:test';
import { dot } from 'node:test/reporters';
import summary from './summary.ts';

interface Step {
  name: string;
  /** Answers with an exit code. */
  run: () => Promise<number>;
  /** Exit code that means "cannot be done on this machine". */
  skipCode?: number;
}

/** Many files wait half of their time (lifecycle seconds, leases, time-outs, servers): two a core keep it busy. */
const CONCURRENCY = 2 * availableParallelism();
const root = join(import.meta.dirname, '..');
/** Each file, and each program that one starts, is a process that loads much the same code: compiled only once. */
const COMPILE_CACHE = join(root, '.cache', 'compile');
const words = process.argv.slice(2).filter((word) => !word.startsWith('-'));
const long = process.argv.includes('--long');
/** A file that takes this long hangs; the long runs of fuzz, kills and soak are meant to. */
const TEST_TIMEOUT_MS = long ? 3_600_000 : 600_000;
/** Biome colours whatever it writes to, log files of a CI among it. */
const plain = process.stdout.isTTY ? [] : ['--colors=off'];
const bin = (name: string) => join(root, 'node_modules', '.bin', name);

/** Real S3 servers take longest; whatever is started last keeps one core idle at the end. */
const LONGEST_FIRST = [
  'test/servers/',
  'test/conformance/',
  'test/scenarios/',
  'test/e2e/',
  'test/crash/',
  'test/commands/',
  // what is left of test/ takes seconds a file, what lies beside the code parts of one
  'test/',
];
const rank = (file: string) => {
  const found = LONGEST_FIRST.findIndex((folder) => file.startsWith(folder));
  return found === -1 ? LONGEST_FIRST.length : found;
};
const files = globSync(['src/**/*.test.ts', 'test/**/*.test.ts', 'bench/**/*.test.ts'], {
  cwd: root,
})
  .filter((file) => words.length === 0 || words.some((word) => file.includes(word)))
  .sort()
  .sort((a, b) => rank(a) - rank(b));

const tests: Step = { name: 'tests', run: runTests };

const steps: Step[] =
  words.length > 0
    ? [tests]
    : [
        { name: 'lint', run: () => runCommand(bin('biome'), 'ci', ...plain, '.') },
        { name: 'types', run: () => runCommand(bin('tsc')) },
        tests,
        { name: 'image', run: () => runCommand('bash', 'test/image/check.sh'), skipCode: 77 },
      ];

const results: string[] = [];
let failed = false;
for (const step of steps) {
  const startedAt = performance.now();
  const code = await step.run();
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

function testEnv(): NodeJS.ProcessEnv {
  return {
    NODE_COMPILE_CACHE: COMPILE_CACHE,
    ...process.env,
    ...(long ? { XVAULT_TEST_LONG: '1' } : {}),
    NODE_NO_WARNINGS: '1',
  };
}

/** Each file in a process of its own. Through the API since the command line sorts its files by name. */
async function runTests(): Promise<number> {
  const stream = runFiles({
    cwd: root,
    files: files.map((file) => join(root, file)),
    concurrency: CONCURRENCY,
    timeout: TEST_TIMEOUT_MS,
    env: testEnv(),
    execArgv: ['--import', join(root, 'test', 'fewer-hooks.ts')],
  });
  let code = 0;
  stream.on('test:fail', () => {
    code = 1;
  });
  stream.compose(dot).pipe(process.stdout, { end: false });
  for await (const text of stream.compose(summary)) process.stdout.write(text);
  return code;
}

function runCommand(command: string, ...args: string[]): Promise<number> {
  return new Promise((resolve) => {
    const stdio: StdioOptions = ['ignore', 'inherit', 'inherit'];
    const child = spawn(command, args, { cwd: root, stdio, env: testEnv() });
    child.on('error', () => resolve(127));
    child.on('exit', (code) => resolve(code ?? 1));
  });
}
