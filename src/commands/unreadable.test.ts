/** Lists that leave out a record nobody can read say so, whether the engine runs here or behind XVAULT_URL. */
import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { test } from 'node:test';
import { keys, options, setUp } from '../../test/backup/engine-world.ts';
import { createTestTerminal } from '../../test/commands/terminal.ts';
import { nextId, VM_UUID } from '../../test/records.ts';
import { runCli } from './cli.ts';
import { createDirectClient } from './direct-client.ts';

const NEWER = '{"version":99}';

test('the client of an engine in this process has them as the HTTP API does', async () => {
  const world = setUp({ catalogTtlMs: 0 });
  const [jobId, backupId] = [nextId(), nextId()];
  const parts = { retention: 'daily', pool: 'dc1', vmUuid: VM_UUID, backupId };
  await world.store.put(keys.job(jobId), NEWER, options);
  await world.store.put(keys.archive(parts, 'web'), 'x', options);
  await world.store.put(keys.record(parts), NEWER, options);
  const wiring = { instance: 'a', close: async () => undefined };
  await using client = createDirectClient(world.instance('a'), wiring);
  const [jobs, backups] = [
    await client.listJobs({ pageSize: 9 }, options),
    await client.listBackups({ pageSize: 9 }, options),
  ];
  assert.deepEqual([jobs.jobs, jobs.unreadable?.map(({ id }) => id)], [[], [jobId]]);
  assert.deepEqual([backups.backups, backups.unreadable?.map(({ id }) => id)], [[], [backupId]]);
});

test('list and jobs name them', async (t) => {
  const record = { kind: 'job', id: nextId(), key: 'xv/jobs/1.json', detail: 'it is damaged' };
  const page = { jobs: [], backups: [], next_page_token: '', unreadable: [record] };
  const server = createServer((_, response) => {
    response.setHeader('content-type', 'application/json');
    response.end(JSON.stringify(page));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.after(() => server.close());
  const before = process.env.XVAULT_URL;
  process.env.XVAULT_URL = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  t.after(() => {
    if (before === undefined) delete process.env.XVAULT_URL;
    else process.env.XVAULT_URL = before;
  });
  const { signal } = new AbortController();
  for (const command of ['list', 'jobs']) {
    const terminal = createTestTerminal();
    const code = await runCli({ args: [command], terminal, signal, version: '0' });
    assert.equal(code, 0);
    assert.match(terminal.text.err, /^warning: xv\/jobs\/1\.json: it is damaged$/m);
  }
  server.closeAllConnections();
});
