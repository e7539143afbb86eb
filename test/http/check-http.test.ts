/**
 * The real check_http of the Monitoring Plugins against /v1/status: what Nagios and Icinga make of it, with the commands that
 * docs/monitoring.md shows. Skipped where it is not installed (Debian: monitoring-plugins-basic).
 */
import assert from 'node:assert/strict';
import { execFile, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import type http from 'node:http';
import type { AddressInfo } from 'node:net';
import { delimiter } from 'node:path';
import { type TestContext, test } from 'node:test';
import { serve } from '@hono/node-server';
import type { Verdict } from '../../src/backup/service.ts';
import { STATUS_EXAMPLE } from '../../src/http/examples.ts';
import { createHarness } from './harness.ts';

const env = { ...process.env, PATH: `${process.env.PATH}${delimiter}/usr/lib/nagios/plugins` };
const skip =
  spawnSync('check_http', ['--version'], { env }).error === undefined
    ? false
    : 'check_http is not installed (Debian: apt install monitoring-plugins-basic)';

/** The arguments of the example in the documentation. */
function documented(port: number, token: string): string[] {
  const page = readFileSync(new URL('../../docs/monitoring.md', import.meta.url), 'utf8');
  const [, command = ''] = /^check_http (.*?)(?: {2,}#.*)?$/m.exec(page) ?? [];
  const words = [...command.matchAll(/(['"])(.*?)\1|(\S+)/g)].map(
    ([, , quoted, bare]) => quoted ?? bare,
  );
  return words.map((word = '') =>
    word
      .replace('xvault.example.com', '127.0.0.1')
      .replace('8080', String(port))
      .replace('$TOKEN', token),
  );
}

async function startService(t: TestContext) {
  const harness = createHarness();
  const server = serve({ fetch: harness.app.fetch, port: 0, hostname: '127.0.0.1' }) as http.Server;
  await once(server, 'listening');
  t.after(() => server.close());
  const { port } = server.address() as AddressInfo;
  const say = (status: Verdict, name = 'web-1') => {
    const [vm] = STATUS_EXAMPLE.vms;
    assert.ok(vm);
    const one = { ...vm, status, reason: `it is ${status}`, vm: { ...vm.vm, name } };
    harness.service.status = async () => ({ ...STATUS_EXAMPLE, status, vms: [one] });
  };
  const check = (args: string[]) =>
    new Promise<{ code: number; text: string }>((resolve) => {
      execFile('check_http', args, { env, timeout: 20_000 }, (error, text) =>
        resolve({ code: Number(error?.code ?? 0), text }),
      );
    });
  return { port, say, check };
}

test('check_http tells ok, critical and a wrong token apart', { skip }, async (t) => {
  const { port, say, check } = await startService(t);
  const args = documented(port, 'all-token');
  assert.ok(args.length > 8, 'docs/monitoring.md shows the command');
  for (const [status, code] of [
    ['ok', 0],
    ['warning', 0], // it has no such answer to 200: xvault check has
    ['critical', 2],
  ] as const) {
    say(status, "a|name='1'\nOK - no line of its own");
    const answer = await check(args);
    assert.equal(answer.code, code, `${status}: ${answer.text}`);
  }
  const stranger = await check(documented(port, 'no-token-of-ours'));
  assert.ok(stranger.code > 0, stranger.text);
});

test('a service that does not answer is critical', { skip }, async () => {
  // port 9 of the loopback: nobody listens
  const answer = await new Promise<number>((resolve) => {
    execFile('check_http', documented(9, 'x'), { env, timeout: 20_000 }, (error) =>
      resolve(Number(error?.code ?? 0)),
    );
  });
  assert.equal(answer, 2);
});
