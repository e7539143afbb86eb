/** The page on reliability names every fault there is, and no test that is not there. */
import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { FAULTS } from './play.ts';

const root = join(import.meta.dirname, '..', '..');
const page = readFileSync(join(root, 'docs', 'reliability.md'), 'utf8');

test('every fault by name is on the page', () => {
  const missing = Object.keys(FAULTS).filter((name) => !page.includes(`\`${name}\``));
  assert.deepEqual(missing, []);
});

test('every test the page names is there', () => {
  const named = page.matchAll(/`((?:test|src)\/[\w/.-]+\.ts)`/g);
  const files = [...new Set([...named].map(([, file]) => file ?? ''))];
  assert.ok(files.length > 10);
  assert.deepEqual(
    files.filter((file) => !existsSync(join(root, file))),
    [],
  );
});
