import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { test } from 'node:test';
import { createTestTerminal } from '../../test/commands/terminal.ts';
import { restoreRequestSchema } from '../catalog/restore.ts';
import { RESTORE_JOB_EXAMPLE } from '../http/examples.ts';
import { runCli } from './cli.ts';
import { readWishes } from './restore.ts';

test('without options nothing is asked for but what the request leaves open', () => {
  assert.deepEqual(readWishes({}), {});
  restoreRequestSchema.parse(readWishes({}));
});

test('options become the request; names may hold commas, spaces and =', () => {
  const wishes = readWishes({
    pool: 'dr',
    sr: 'NFS store',
    name: 'web 2',
    uuid: 'keep',
    network: ['Pool-wide network, eth0=Lab', 'a=b=none', '*=VM network'],
    'disk-sr': ['1=Local storage'],
    disks: ['0,1'],
    start: true,
    via: 'stream',
    'dry-run': true,
  });
  assert.deepEqual(wishes, {
    pool: 'dr',
    sr: 'NFS store',
    name: 'web 2',
    mac: 'keep',
    uuid: 'keep',
    via: 'stream',
    disks: ['0', '1'],
    networks: { 'Pool-wide network, eth0': 'Lab', 'a=b': 'none', '*': 'VM network' },
    disk_srs: { '1': 'Local storage' },
    start: true,
    dry_run: true,
  });
  restoreRequestSchema.parse(wishes);
});

test('what cannot be meant is refused', () => {
  for (const options of [
    { mac: 'old' },
    { via: 'ftp' },
    { network: ['LAN'] },
    { network: ['=x'] },
  ]) {
    assert.throws(() => readWishes(options), { code: 'invalid_request' }, JSON.stringify(options));
  }
});

test('who asks a service what would be done gets the answer, no job to look up', async (t) => {
  const queued = { ...RESTORE_JOB_EXAMPLE, status: 'queued' };
  const server = createServer((request, response) => {
    response.setHeader('content-type', 'application/json');
    response.end(JSON.stringify(request.method === 'POST' ? queued : RESTORE_JOB_EXAMPLE));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const before = process.env.XVAULT_URL;
  process.env.XVAULT_URL = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  t.after(() => {
    if (before === undefined) delete process.env.XVAULT_URL;
    else process.env.XVAULT_URL = before;
    server.closeAllConnections();
    server.close();
  });
  const { signal } = new AbortController();
  const restore = async (...more: string[]) => {
    const terminal = createTestTerminal();
    const args = ['restore', queued.backup_id ?? '', ...more];
    const code = await runCli({ args, terminal, signal, version: '0' });
    assert.equal(code, 0, terminal.text.err);
    return terminal.text;
  };
  const asked = await restore('--dry-run');
  assert.equal(asked.out, '');
  assert.match(asked.err, /restored as/);
  assert.match((await restore('--dry-run', '--no-wait')).out, /queued, job/);
  assert.match((await restore()).out, /queued, job/);
});
