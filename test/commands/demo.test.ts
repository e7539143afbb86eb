/** The demo as a user starts it: what the README promises. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { test } from 'node:test';
import { promisify } from 'node:util';

interface Travelled {
  mode: string;
  archive: { size_bytes: number };
  sent_bytes: number;
  copied_bytes: number;
}

const MAIN = join(import.meta.dirname, '../../src/main.ts');

test('demo --once backs up every machine twice, checks two archives and leaves nothing behind', async () => {
  const args = [MAIN, 'demo', '--once', '--json'];
  const options = { maxBuffer: 16 * 1024 * 1024 };
  const { stdout } = await promisify(execFile)(process.execPath, args, options);
  const report = JSON.parse(stdout) as {
    ok: boolean;
    machines: { vm: { name: string }; state: string; reason?: string }[];
    again: { vm: { name: string }; state: string; job: { result: Travelled } }[];
    checks: { ok: boolean; vm_name: string; disks: { identical: boolean }[] }[];
    left_on_pool: string[];
  };
  assert.equal(report.ok, true, stdout);
  assert.deepEqual(report.left_on_pool, []);
  assert.deepEqual(
    report.checks.map(({ vm_name, disks }) => `${vm_name}: ${disks.length}`),
    ['db-01: 3', 'web-01: 1'],
  );
  const refused = report.machines.filter(({ state }) => state !== 'done');
  assert.deepEqual(
    refused.map(({ vm, state }) => `${vm.name}: ${state}`),
    ['usb-store: refused'],
  );
  const changed = report.again.find(({ vm }) => vm.name === 'web-01')?.job.result;
  assert.ok(changed !== undefined && changed.mode === 'delta' && changed.copied_bytes > 0);
  assert.equal(changed.sent_bytes + changed.copied_bytes, changed.archive.size_bytes);
  const same = report.again.find(({ vm }) => vm.name === 'win-01')?.job.result;
  assert.ok(same !== undefined && same.sent_bytes < same.archive.size_bytes / 10);
  assert.match(refused[0]?.reason ?? '', /exclude_disks/);
});
