/** The demo as a user starts it: what the README promises. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { test } from 'node:test';
import { promisify } from 'node:util';

const MAIN = join(import.meta.dirname, '../../src/main.ts');

test('demo --once backs up every machine, checks one archive and leaves nothing behind', async () => {
  const args = [MAIN, 'demo', '--once', '--json'];
  const options = { maxBuffer: 16 * 1024 * 1024 };
  const { stdout } = await promisify(execFile)(process.execPath, args, options);
  const report = JSON.parse(stdout) as {
    ok: boolean;
    machines: { vm: { name: string }; state: string; reason?: string }[];
    check: { ok: boolean; disks: { identical: boolean }[] };
    left_on_pool: string[];
  };
  assert.equal(report.ok, true, stdout);
  assert.deepEqual(report.left_on_pool, []);
  assert.equal(report.check.disks.length, 3);
  const refused = report.machines.filter(({ state }) => state !== 'done');
  assert.deepEqual(
    refused.map(({ vm, state }) => `${vm.name}: ${state}`),
    ['usb-store: refused'],
  );
  assert.match(refused[0]?.reason ?? '', /exclude_disks/);
});
