/** What is installed with xvault is known: listed with a reason, of exact versions, without scripts, few. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { globSync, readFileSync } from 'node:fs';
import { builtinModules } from 'node:module';
import { test } from 'node:test';

const root = new URL('../../', import.meta.url);
const read = (path: string) => readFileSync(new URL(path, root), 'utf8');
const json = JSON.parse(read('package.json')) as Record<string, Record<string, string>>;
const lock = JSON.parse(read('package-lock.json')) as {
  packages: Record<string, Record<string, unknown>>;
};
const run = Object.keys(json.dependencies ?? {});
const development = Object.keys(json.devDependencies ?? {});

/** In all, with what they bring along; mostly the AWS SDK's own pieces. */
const MAX_INSTALLED = 90;

/** The names in the first column of a section's table. */
function listed(section: string): string[] {
  const text = read('docs/dependencies.md')
    .split(/^## /m)
    .find((part) => part.startsWith(section));
  const cells = (text ?? '').match(/^\| [^|]+\|/gm) ?? [];
  return cells.flatMap((cell) => [...cell.matchAll(/`([^`]+)`/g)].map(([, name]) => name ?? ''));
}

test('docs/dependencies.md says of every package why it is here, and of no other', () => {
  assert.deepEqual(listed('At run time').sort(), run.toSorted());
  const types = (name: string) => (name.startsWith('@types/') ? '@types/*' : name);
  assert.deepEqual(listed('For development').sort(), [...new Set(development.map(types))].sort());
});

test('versions are exact, and the lock file has a digest of every package', () => {
  for (const versions of [json.dependencies, json.devDependencies]) {
    for (const [name, version] of Object.entries(versions ?? {})) {
      assert.match(version, /^\d+\.\d+\.\d+(-[a-z0-9.]+)?$/, name);
    }
  }
  for (const [path, { integrity, optional }] of Object.entries(lock.packages)) {
    // those of other platforms are not installed here
    if (path !== '' && optional !== true) assert.match(String(integrity), /^sha512-/, path);
  }
});

test('what is installed to run is few and runs no script of its own when it is installed', () => {
  const installed = Object.entries(lock.packages).filter(
    ([path, { dev, devOptional, optional }]) => path !== '' && !dev && !devOptional && !optional,
  );
  assert.ok(installed.length <= MAX_INSTALLED, `${installed.length} packages`);
  assert.deepEqual(
    installed.filter(([, { hasInstallScript }]) => hasInstallScript === true).map(([path]) => path),
    [],
  );
});

/** No line of it is left when types are stripped; the Workers runtime brings the rest. */
const TYPES_ALONE = '@cloudflare/workers-types';

test('the product imports only what is installed to run, and all of that', () => {
  const used = new Set<string>();
  for (const file of globSync('src/**/*.ts', { cwd: root })) {
    if (file.endsWith('.test.ts')) continue;
    const imports = read(file).matchAll(
      /(?:^(?:import|export|\}) [^'\n]*from |^import |import\()'([@a-z][^'\n]*)'/gm,
    );
    for (const [, from = ''] of imports) {
      if (/^(node|cloudflare):/.test(from) || builtinModules.includes(from)) continue;
      if (from === TYPES_ALONE) continue;
      used.add(
        from
          .split('/')
          .slice(0, from.startsWith('@') ? 2 : 1)
          .join('/'),
      );
    }
  }
  assert.deepEqual([...used].sort(), run.toSorted());
});

interface Audit {
  message?: string;
  vulnerabilities?: Record<string, { severity: string }>;
}

/** The registry is asked; some mirrors do not answer that question. */
test('npm audit knows of no weakness, neither in what runs nor in what builds and tests it', async (t) => {
  const answer = await new Promise<string>((resolve) => {
    const limits = { cwd: root, timeout: 30_000, maxBuffer: 16 * 1_048_576 };
    // its exit code only says that there is something to tell
    execFile('npm', ['audit', '--json'], limits, (_error, stdout) => resolve(stdout));
  });
  const { vulnerabilities, message }: Audit = answer === '' ? {} : JSON.parse(answer);
  if (vulnerabilities === undefined)
    return t.skip(`npm audit: ${message?.split(' - ')[0] ?? 'no answer in time'}`);
  assert.deepEqual(vulnerabilities, {});
});
