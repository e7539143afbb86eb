import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { type TestContext, test } from 'node:test';
import { createTestTerminal } from '../../test/commands/terminal.ts';
import type { GuardReport } from '../backup/guard-service.ts';
import { GUARD_EXAMPLE } from '../http/guard-answers.ts';
import { runCli } from './cli.ts';

/** The command against a service that answers with this report. */
async function renew(t: TestContext, report: GuardReport, ...args: string[]) {
  const bodies: string[] = [];
  const server = createServer((request, response) => {
    request.on('data', (chunk) => bodies.push(`${request.url} ${chunk}`));
    request.on('end', () => {
      response.setHeader('content-type', 'application/json');
      response.end(JSON.stringify(report));
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.after(() => server.close());
  const before = process.env.XVAULT_URL;
  process.env.XVAULT_URL = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  t.after(() => {
    if (before === undefined) delete process.env.XVAULT_URL;
    else process.env.XVAULT_URL = before;
  });
  const terminal = createTestTerminal();
  const { signal } = new AbortController();
  const words = ['lifecycle', 'renew', ...args];
  const code = await runCli({ args: words, terminal, signal, version: '0' });
  server.closeAllConnections();
  return { code, bodies, ...terminal.text };
}

const [entry] = GUARD_EXAMPLE.vms;
assert.ok(entry);

test('what was copied and what lasts is shown, machine by machine', async (t) => {
  const { code, out, err, bodies } = await renew(t, GUARD_EXAMPLE);
  assert.equal(code, 0, err);
  assert.deepEqual(bodies, ['/v1/rotation/renew {"dry_run":false}']);
  assert.match(out, /^renewed +default +web-1 +019aaf4a-\S+ +never +copied 4\.5 GiB$/m);
  assert.match(out, /^1 machine: 0 safe for 3 days, 1 kept by a copy, 0 about to be deleted/m);
});

test('a dry run changes nothing and says what would be copied', async (t) => {
  const { renewed_bytes: _, ...vm } = entry;
  const due = { ...vm, guard: 'due' as const, expires_at: '2026-11-25T00:00:00.000Z' };
  const report: GuardReport = {
    ...GUARD_EXAMPLE,
    dry_run: true,
    counts: { ...GUARD_EXAMPLE.counts, renewed: 0, due: 1 },
    vms: [{ ...due, would_renew: true }],
  };
  const { code, out, bodies } = await renew(t, report, '--dry-run');
  assert.deepEqual(bodies, ['/v1/rotation/renew {"dry_run":true}']);
  assert.match(out, /^due .* 2026-11-25 +would copy it$/m);
  assert.equal(code, 0);
});

test('what failed, and what nobody can tell, is said; the exit code tells a failure', async (t) => {
  const error = { code: 'store_credentials', detail: 'copy: s3:PutObject is not allowed' };
  const report: GuardReport = {
    ...GUARD_EXAMPLE,
    rules_from: 'settings',
    counts: { ...GUARD_EXAMPLE.counts, renewed: 0, failed: 1 },
    vms: [{ vm: entry.vm, guard: 'failed', error }],
  };
  const { code, err } = await renew(t, report);
  assert.equal(code, 1);
  assert.match(err, /error: default\/web-1: copy: s3:PutObject is not allowed/);
  assert.match(err, /rules of the bucket cannot be read/);
});
