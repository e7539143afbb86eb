import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { type TestContext, test } from 'node:test';
import { createTestTerminal } from '../../test/commands/terminal.ts';
import { startSimS3 } from '../../test/sim/s3/index.ts';
import type { RotationReport } from '../backup/rotation-service.ts';
import { ROTATION_EXAMPLE } from '../http/rotation-answers.ts';
import { runCli } from './cli.ts';

/** The command against a service that answers with this report. */
async function lifecycle(t: TestContext, report: RotationReport, ...args: string[]) {
  const asked: string[] = [];
  const server = createServer((request, response) => {
    let body = '';
    request.on('data', (chunk) => {
      body += chunk;
    });
    request.on('end', () => {
      asked.push(`${request.method} ${request.url} ${body}`.trim());
      const applied = body === '{"dry_run":false}';
      response.setHeader('content-type', 'application/json');
      response.end(JSON.stringify(request.method === 'GET' ? report : { ...report, applied }));
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.after(() => server.close());
  const before = process.env.XVAULT_URL;
  process.env.XVAULT_URL = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const terminal = createTestTerminal();
  const { signal } = new AbortController();
  const code = await runCli({ args: ['lifecycle', ...args], terminal, signal, version: '0' });
  if (before === undefined) delete process.env.XVAULT_URL;
  else process.env.XVAULT_URL = before;
  server.closeAllConnections();
  return { code, asked, ...terminal.text };
}

test('show tells what is missing, what others have, and how it is mended', async (t) => {
  const { code, out, err, asked } = await lifecycle(t, ROTATION_EXAMPLE, 'show');
  assert.deepEqual(asked, ['GET /v1/rotation']);
  assert.equal(code, 1, 'for monitors: the rules are not as they should be');
  assert.match(out, /^bucket vm-backups \(aws\): backups and state$/m);
  assert.match(out, /^ {2}\+ keys below backups\/daily\/ are deleted after 14 days$/m);
  assert.match(out, /^ {4}rule logs, left as it is: keys below logs\/ are deleted after 3 days$/m);
  assert.match(out, /^1 rule to be written: xvault lifecycle apply --yes$/m);
  assert.match(err, /^note: rules act some hours after midnight UTC$/m);
});

test('apply writes only when it is told yes', async (t) => {
  const shown = await lifecycle(t, ROTATION_EXAMPLE, 'apply');
  assert.deepEqual(shown.asked, ['POST /v1/rotation/apply {"dry_run":true}']);
  assert.deepEqual([shown.code, /say --yes/.test(shown.out)], [1, true]);
  const written = await lifecycle(t, ROTATION_EXAMPLE, 'apply', '--yes');
  assert.deepEqual(written.asked, ['POST /v1/rotation/apply {"dry_run":false}']);
  assert.deepEqual([written.code, /^1 rule written$/m.test(written.out)], [0, true]);
});

test('what refuses is told, and in order is in order', async (t) => {
  const [bucket] = ROTATION_EXAMPLE.buckets;
  assert.ok(bucket);
  const refused = { ...bucket, refusals: ['rule all deletes pinned backups'], warnings: ['look'] };
  const { err } = await lifecycle(t, { ...ROTATION_EXAMPLE, buckets: [refused] }, 'show');
  assert.match(err, /^warning: look\nerror: rule all deletes pinned backups$/m);
  const fine = { ...bucket, changes: [], in_order: true };
  const report = { ...ROTATION_EXAMPLE, in_order: true, buckets: [fine] };
  const { code, out } = await lifecycle(t, report, 'show');
  assert.deepEqual([code, /the rules are as they should be/.test(out)], [0, true]);
});

test('without a service the command does it itself, and needs no pool for it', async (t) => {
  await using sim = await startSimS3({ buckets: ['vm-backups'] });
  const env = {
    XVAULT_BUCKET: 'vm-backups',
    XVAULT_S3_ENDPOINT: sim.endpoint,
    AWS_REGION: sim.region,
    AWS_ACCESS_KEY_ID: sim.accessKeyId,
    AWS_SECRET_ACCESS_KEY: sim.secretAccessKey,
  };
  const before = { ...process.env };
  Object.assign(process.env, env);
  t.after(() => {
    for (const name of Object.keys(env)) delete process.env[name];
    Object.assign(process.env, before);
  });
  const { signal } = new AbortController();
  const run = async (...args: string[]) => {
    const terminal = createTestTerminal();
    const code = await runCli({ args: ['lifecycle', ...args], terminal, signal, version: '0' });
    return { code, ...terminal.text };
  };
  const written = await run('apply', '--yes');
  assert.deepEqual([written.code, written.err], [0, '']);
  assert.match(written.out, /^ {2}\+ keys below backups\/daily\/ are deleted after 14 days$/m);
  const shown = await run('show');
  assert.deepEqual([shown.code, shown.err], [0, '']);
  assert.match(shown.out, /the rules are as they should be/);
});
