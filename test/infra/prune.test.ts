/**
 * What the image keeps of a built tree: a made-up program in a folder of its own, pruned, and then run by Node, which must not miss a
 * file; and the parts list beside it. The real tree is looked at, loaded and run by test/image/check.sh.
 */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, describe, test } from 'node:test';
import { keepInSbom, prune, refsOf, type Sbom } from '../../infra/prune-modules.ts';

const folder = mkdtempSync(join(tmpdir(), 'xvault-prune-'));
after(() => rmSync(folder, { recursive: true }));

/** Two forms of one package, a late import, a nested package, one that has side effects only, and much that nobody loads. */
const FILES: Record<string, string | object> = {
  'package.json': { name: 'program', version: '1.0.0', type: 'module' },
  'package-lock.json': {
    packages: { '': {}, 'node_modules/tool': { dev: true }, 'node_modules/nobody': {} },
  },
  'README.md': '# stays: it is not in a folder that is pruned',
  'dist/main.js':
    "import { a } from 'two-forms';\nimport './used.js';\nimport 'effect';\n" +
    "const { late } = await import('@scope/late');\nconsole.log(a, late, globalThis.effect);\n",
  'dist/main.js.map': '{}',
  'dist/used.js': 'export const used = 1;\n',
  'dist/unused.js': 'export const unused = 1;\n',
  'dist/unused.js.map': '{}',
  'node_modules/.package-lock.json': '{}',
  'node_modules/two-forms/package.json': {
    name: 'two-forms',
    version: '1.2.3',
    main: './cjs/index.js',
    module: './bundler/index.js',
    exports: {
      '.': {
        browser: './browser/index.js',
        module: './bundler/index.js',
        import: './esm/index.js',
        require: './cjs/index.js',
      },
    },
  },
  'node_modules/two-forms/LICENSE': 'MIT',
  'node_modules/two-forms/README.md': 'read me',
  'node_modules/two-forms/esm/package.json': { type: 'module' },
  'node_modules/two-forms/esm/index.js': "export { a } from './a.js';\n",
  'node_modules/two-forms/esm/a.js': "export const a = 'esm';\n",
  'node_modules/two-forms/esm/a.js.map': '{}',
  'node_modules/two-forms/esm/a.d.ts': 'export const a: string;',
  'node_modules/two-forms/cjs/index.js': "exports.a = 'cjs';\n",
  'node_modules/two-forms/bundler/index.js': "export const a = 'bundler';\n",
  'node_modules/two-forms/browser/index.js': "export const a = 'browser';\n",
  'node_modules/effect/package.json': { name: 'effect', version: '1.0.0', sideEffects: false },
  'node_modules/effect/index.js': "globalThis.effect = 'done';\n",
  'node_modules/@scope/late/package.json': { name: '@scope/late', version: '2.0.0' },
  'node_modules/@scope/late/index.js':
    "for (const name of ['msgpackr-extract', 'tool']) {\n" +
    "  try { name === 'tool' ? require('tool') : require('msgpackr-extract'); } catch {}\n}\n" +
    "exports.late = require('inner/data.json').late;\n",
  'node_modules/@scope/late/node_modules/inner/package.json': { name: 'inner', version: '3.0.0' },
  'node_modules/@scope/late/node_modules/inner/data.json': { late: 'late' },
  'node_modules/@scope/late/node_modules/inner/NOTICE.txt': 'of whom it is',
  'node_modules/msgpackr-extract/package.json': { name: 'msgpackr-extract', version: '3.0.0' },
  'node_modules/msgpackr-extract/index.js': "throw new Error('not for this machine');\n",
  'node_modules/tool/package.json': { name: 'tool', version: '1.0.0' },
  'node_modules/tool/index.js': 'exports.tool = 1;\n',
  'node_modules/nobody/package.json': { name: 'nobody', version: '1.0.0' },
  'node_modules/nobody/index.js': 'exports.nobody = 1;\n',
};

const run = () =>
  execFileSync(process.execPath, ['dist/main.js'], { cwd: folder, encoding: 'utf8' }).trim();

describe('the tree of the image', () => {
  for (const [path, content] of Object.entries(FILES)) {
    mkdirSync(join(folder, dirname(path)), { recursive: true });
    const text = typeof content === 'string' ? content : JSON.stringify(content);
    writeFileSync(join(folder, path), text);
  }

  test('holds what a start can load and its licences, and runs as before', async () => {
    assert.equal(run(), 'esm late done');
    const packages = await prune(folder, ['dist/main.js']);
    assert.equal(run(), 'esm late done');
    const left = readdirSync(folder, { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map((entry) => join(entry.parentPath, entry.name).slice(folder.length + 1));
    assert.deepEqual(left.sort(), [
      'README.md',
      'dist/main.js',
      'dist/main.js.map',
      'dist/used.js',
      'node_modules/@scope/late/index.js',
      'node_modules/@scope/late/node_modules/inner/NOTICE.txt',
      'node_modules/@scope/late/node_modules/inner/data.json',
      'node_modules/@scope/late/node_modules/inner/package.json',
      'node_modules/@scope/late/package.json',
      'node_modules/effect/index.js',
      'node_modules/effect/package.json',
      'node_modules/two-forms/LICENSE',
      'node_modules/two-forms/esm/a.js',
      'node_modules/two-forms/esm/index.js',
      'node_modules/two-forms/esm/package.json',
      'node_modules/two-forms/package.json',
      'package-lock.json',
      'package.json',
    ]);
    assert.deepEqual([...refsOf(folder, packages)].sort(), [
      '@scope/late@2.0.0',
      'effect@1.0.0',
      'inner@3.0.0',
      'two-forms@1.2.3',
    ]);
  });

  test('is not made where an import leads nowhere, or to what is for development', async () => {
    writeFileSync(join(folder, 'dist/broken.js'), "import 'gone';\n");
    await assert.rejects(prune(folder, ['dist/broken.js']), /gone/);
    writeFileSync(join(folder, 'dist/tooled.js'), "import 'tool';\n");
    await assert.rejects(prune(folder, ['dist/tooled.js']), /dist\/tooled.js .*development: tool/);
  });
});

describe('the parts list', () => {
  const part = (ref: string) => ({ 'bom-ref': ref });
  const sbom: Sbom = {
    serialNumber: 'urn:uuid:0',
    metadata: { timestamp: '', component: { 'bom-ref': '@x/vault@1.0.0', name: 'app' } },
    components: [part('a@1.0.0'), part('dev@1.0.0'), part('b@1.0.0'), part('a@1.0.0')],
    dependencies: [
      { ref: '@x/vault@1.0.0', dependsOn: ['a@1.0.0', 'dev@1.0.0'] },
      { ref: 'a@1.0.0', dependsOn: ['b@1.0.0'] },
      { ref: 'dev@1.0.0', dependsOn: [] },
      { ref: 'b@1.0.0', dependsOn: ['dev@1.0.0'] },
    ],
  };

  test('names the packages that stayed, each once, and the same ones the same way', () => {
    const kept = keepInSbom(sbom, new Set(['a@1.0.0', 'b@1.0.0']), 1_767_323_045_000);
    assert.deepEqual(kept.components, [part('a@1.0.0'), part('b@1.0.0')]);
    assert.deepEqual(kept.dependencies, [
      { ref: '@x/vault@1.0.0', dependsOn: ['a@1.0.0'] },
      { ref: 'a@1.0.0', dependsOn: ['b@1.0.0'] },
      { ref: 'b@1.0.0', dependsOn: [] },
    ]);
    assert.equal(kept.metadata.timestamp, '2026-01-02T03:04:05.000Z');
    assert.equal(kept.metadata.component.name, '@x/vault');
    assert.match(kept.serialNumber, /^urn:uuid:[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-8[0-9a-f]{3}-/);
    const again = keepInSbom(sbom, new Set(['b@1.0.0', 'a@1.0.0']), 1_767_323_045_000);
    assert.deepEqual(again, kept);
    assert.notEqual(keepInSbom(sbom, new Set(['a@1.0.0']), 0).serialNumber, kept.serialNumber);
  });

  test('is refused where it does not name a package that is there', () => {
    assert.throws(() => keepInSbom(sbom, new Set(['c@1.0.0']), 0), /missing=c@1\.0\.0/);
  });
});
