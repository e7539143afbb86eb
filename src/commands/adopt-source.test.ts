import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import type { Settings } from '../config.ts';
import type { Log } from '../ports.ts';
import { NEVER } from '../signals.ts';
import { openSource } from './adopt-source.ts';

const folder = mkdtempSync(join(tmpdir(), 'xvault-adopt-'));
after(() => rmSync(folder, { recursive: true }));
// of a file neither is looked at
const deps = { settings: {} as Settings, log: {} as Log };
const options = { signal: NEVER };

test('a file is read as often as it is needed, and tells its age and size', async () => {
  const name = join(folder, 'web.xva');
  const bytes = Buffer.alloc(2_500_000, 'archive');
  writeFileSync(name, bytes);
  await using opened = await openSource(name, deps, options);
  const { source } = opened;
  assert.deepEqual([source.name, source.sizeBytes], [name, bytes.length]);
  assert.equal(source.modifiedMs, statSync(name).mtimeMs);
  for (let round = 0; round < 2; round += 1) {
    const pieces: Buffer[] = [];
    for await (const piece of source.read(options)) pieces.push(Buffer.from(piece));
    assert.ok(Buffer.concat(pieces).equals(bytes));
  }
  const stop = new AbortController();
  stop.abort(new Error('enough'));
  await assert.rejects(source.read({ signal: stop.signal }).next(), /enough/);
});

test('what is not there, or no file, is refused', async () => {
  await assert.rejects(openSource(join(folder, 'none.xva'), deps, options), { code: 'not_found' });
  await assert.rejects(openSource(folder, deps, options), { code: 'invalid_request' });
});
