import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { type TestContext, test } from 'node:test';
import { createTestTerminal } from '../../test/commands/terminal.ts';
import type { SweepReport } from '../backup/service.ts';
import { SWEEP_EXAMPLE } from '../http/examples.ts';
import { runCli } from './cli.ts';

/** The command against a service that answers with this report. */
async function sweep(t: TestContext, report: SweepReport, ...args: string[]) {
  const bodies: string[] = [];
  const server = createServer((request, response) => {
    request.on('data', (chunk) => bodies.push(String(chunk)));
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
  const code = await runCli({ args: ['sweep', ...args], terminal, signal, version: '0' });
  server.closeAllConnections();
  return { code, bodies, ...terminal.text };
}

test('what was removed and what was kept is shown with the reason', async (t) => {
  const { code, out, err, bodies } = await sweep(t, SWEEP_EXAMPLE);
  assert.equal(code, 0, err);
  assert.deepEqual(bodies, ['{"dry_run":false}']);
  assert.match(
    out,
    /^removed +snapshot +pool default +3h +xvault:\S+ +its job has ended: failed$/m,
  );
  assert.match(out, /^kept +snapshot .*another installation/m);
  assert.match(out, /^2 findings: 1 removed, 1 kept$/m);
});

test('a dry run asks for one and says what would go', async (t) => {
  const counts = { removed: 0, would_remove: 1, kept: 1 };
  const { out, bodies } = await sweep(t, { ...SWEEP_EXAMPLE, dry_run: true, counts }, '--dry-run');
  assert.deepEqual(bodies, ['{"dry_run":true}']);
  assert.match(out, /^2 findings: 1 would be removed, 1 kept$/m);
});

test('what could not be looked at makes the exit code 1', async (t) => {
  const errors = [{ where: 'pool default', code: 'pool_unavailable', detail: 'no answer' }];
  const { code, out, err } = await sweep(t, { ...SWEEP_EXAMPLE, findings: [], errors });
  assert.equal(code, 1);
  assert.match(out, /nothing of ours was left behind/);
  assert.match(err, /pool default: no answer/);
});

test('--json is the report as the API gives it', async (t) => {
  const { out } = await sweep(t, SWEEP_EXAMPLE, '--json');
  assert.deepEqual(JSON.parse(out), SWEEP_EXAMPLE);
});
