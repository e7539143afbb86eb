/** The judge of docs/verify.md as it is, with a script of its own. */
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { systemClock } from '../../src/clock.ts';
import { SILENT_LOG } from '../../src/log.ts';
import { createGuestHooks } from '../../src/notify/guest-hooks.ts';
import { parseAllowList } from '../../src/outgoing.ts';
import { createSecret } from '../../src/secret.ts';
import { NEVER } from '../../src/signals.ts';
import { createCertificate } from '../sim/xapi/certificate.ts';
import { follow } from './follow.ts';
import { HOOK_SECRET } from './receiver.ts';

const PROGRAM = fileURLToPath(new URL('../../docs/examples/verdict-hook.py', import.meta.url));
const PYTHON = spawnSync('python3', ['--version']).status === 0;
/** What the machine is called decides what the script thinks of it. */
const SCRIPT = `#!/bin/sh
echo looking
case "$XVAULT_VM_NAME" in
  good) grep -q '"os": "Debian 13"' && test "$XVAULT_GUEST_OS" = "Debian 13";;
  bad) echo "no table orders in $XVAULT_POOL"; exit 3;;
  mute) exec >/dev/null; exit 1;;
  later) if mkdir "$MARK" 2>/dev/null; then echo "still booting"; exit 75; fi;;
  slow) read -r _ < "$GATE"; exit 0;;
  killed) kill -9 $$;;
esac
`;

let folder: string;
let caPem: string;
before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'xvault-judge-'));
  const cert = createCertificate({ address: '127.0.0.1', serial: 6, nowMs: Date.now() });
  caPem = cert.certPem;
  const files = { 'cert.pem': cert.certPem, 'key.pem': cert.keyPem, secret: `${HOOK_SECRET}\n` };
  const all = { ...files, 'judge.sh': SCRIPT };
  for (const [name, text] of Object.entries(all)) await writeFile(join(folder, name), text);
  await chmod(join(folder, 'judge.sh'), 0o755);
  spawnSync('mkfifo', [join(folder, 'gate')]);
});
after(() => rm(folder, { recursive: true }));

interface Judge extends AsyncDisposable {
  ask(name: string, over?: { question?: number; secret?: string }): Promise<[number, string]>;
}

async function startJudge(env: Record<string, string> = {}): Promise<Judge> {
  const child = spawn('python3', [PROGRAM], {
    stdio: ['ignore', 'ignore', 'pipe'],
    env: {
      PATH: String(process.env.PATH),
      VERDICT_SECRET_FILE: join(folder, 'secret'),
      VERDICT_CERT_FILE: join(folder, 'cert.pem'),
      VERDICT_KEY_FILE: join(folder, 'key.pem'),
      VERDICT_SCRIPT: join(folder, 'judge.sh'),
      VERDICT_LISTEN: '127.0.0.1:0',
      MARK: join(folder, crypto.randomUUID()),
      GATE: join(folder, 'gate'),
      ...env,
    },
  });
  const port = /:(\d+)$/m.exec(await follow(child)('listening on'))?.[1];
  const origin = `https://127.0.0.1:${port}`;
  return {
    ask: async (name, { question = 1, secret = HOOK_SECRET } = {}) => {
      const { list: allow } = parseAllowList('XVAULT_HOOK_ALLOW', origin);
      const secrets = [createSecret(secret)];
      const hooks = createGuestHooks(
        { allow, secrets, timeoutMs: 30_000, caPem },
        { clock: systemClock, log: SILENT_LOG },
      );
      const data = {
        phase: 'verdict',
        job_id: name,
        attempt: 1,
        question,
        backup_id: 'b',
        vm: { uuid: 'u', name, pool: 'dr' },
        guest: { tools: '7.20', os: 'Debian 13', addresses: [] },
      };
      const call = { name: 'verdict', url: `${origin}/verdict`, id: `hook_${question}` } as const;
      const answer = await hooks.ask({ ...call, data, attempts: 1 }, { signal: NEVER });
      return [answer.status, answer.text];
    },
    [Symbol.asyncDispose]: async () => {
      const ended = new Promise((resolve) => child.once('close', resolve));
      child.kill('SIGKILL');
      await ended;
    },
  };
}

describe('the example judge', { skip: !PYTHON && 'needs python3' }, () => {
  test('the exit code of the script is the verdict, its last line the reason', async () => {
    await using judge = await startJudge();
    assert.deepEqual(await judge.ask('good'), [200, '']);
    assert.deepEqual(await judge.ask('bad'), [422, 'no table orders in dr']);
    assert.deepEqual(await judge.ask('mute'), [422, 'looking']);
    await assert.rejects(judge.ask('killed'), { code: 'hook_failed', message: /signal 9/ });
    const secret = `whsec_${Buffer.alloc(32, 1).toString('base64')}`;
    assert.deepEqual(await judge.ask('good', { secret }), [401, 'no valid signature']);
  });

  test('exit code 75 asks to be asked again, and a repeat of a question starts nothing', async () => {
    await using judge = await startJudge();
    assert.deepEqual(await judge.ask('later'), [202, 'still booting']);
    assert.deepEqual(await judge.ask('later'), [202, 'still booting']);
    assert.deepEqual(await judge.ask('later', { question: 2 }), [200, '']);
  });

  test('a script that still runs is asked for later; one that runs too long has said nothing', async () => {
    await using judge = await startJudge({ VERDICT_WAIT_SECONDS: '0.01' });
    assert.deepEqual(await judge.ask('slow'), [202, 'the script still runs']);
    await writeFile(join(folder, 'gate'), 'go\n');
    await using impatient = await startJudge({ VERDICT_LIMIT_SECONDS: '0.05' });
    await assert.rejects(impatient.ask('slow'), { code: 'hook_failed', message: /timed out/ });
  });
});
