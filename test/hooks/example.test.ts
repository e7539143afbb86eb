/** The receiver of docs/guest-hooks.md as a guest runs it, with databases and fsfreeze by stub. */
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
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

const SCRIPT = fileURLToPath(new URL('../../docs/examples/guest-hook.py', import.meta.url));
const PYTHON = spawnSync('python3', ['--version']).status === 0;
const VM = { uuid: '6a3c2d6e-8a61-4a0e-9d4f-3f8f4f6f0a11', name: 'db-1', pool: 'default' };
const STUBS = {
  psql: 'echo "psql $*" >> "$STUB_LOG"',
  fsfreeze: 'echo "fsfreeze $*" >> "$STUB_LOG"; case "$*" in *broken*) exit 1;; esac',
  mysql: `while read -r line; do echo "mysql $line" >> "$STUB_LOG"
case "$line" in FLUSH*) echo locked;; esac; done`,
};

let folder: string;
let caPem: string;

interface Guest extends AsyncDisposable {
  freeze(round: number, over?: { id?: string; secret?: string; uuid?: string }): Promise<void>;
  thaw(round: number, taken?: boolean): Promise<void>;
  /** Commands that ran, in order. */
  ran(): string[];
  /** Resolves when the receiver has logged this. */
  logged(text: string): Promise<void>;
}

before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'xvault-example-'));
  const cert = createCertificate({ address: '127.0.0.1', serial: 5, nowMs: Date.now() });
  caPem = cert.certPem;
  const files = { 'cert.pem': cert.certPem, 'key.pem': cert.keyPem, secret: `${HOOK_SECRET}\n` };
  for (const [name, text] of Object.entries(files)) await writeFile(join(folder, name), text);
  for (const [name, text] of Object.entries(STUBS)) {
    await writeFile(join(folder, name), `#!/bin/sh\n${text}\n`);
    await chmod(join(folder, name), 0o755);
  }
});
after(() => rm(folder, { recursive: true }));

async function startGuest(over: Record<string, string> = {}): Promise<Guest> {
  const logFile = join(folder, `${crypto.randomUUID()}.log`);
  await writeFile(logFile, '');
  const child = spawn('python3', [SCRIPT], {
    stdio: ['ignore', 'ignore', 'pipe'],
    env: {
      PATH: `${folder}:${process.env.PATH}`,
      STUB_LOG: logFile,
      HOOK_SECRET_FILE: join(folder, 'secret'),
      HOOK_CERT_FILE: join(folder, 'cert.pem'),
      HOOK_KEY_FILE: join(folder, 'key.pem'),
      HOOK_VM_UUID: VM.uuid,
      HOOK_DATABASE: 'postgresql',
      HOOK_MOUNTS: '/srv/data /srv/wal',
      HOOK_LISTEN: '127.0.0.1:0',
      ...over,
    },
  });
  const logged = follow(child);
  const port = /:(\d+)$/m.exec(await logged('listening on'))?.[1];
  const origin = `https://127.0.0.1:${port}`;
  const call = async (name: 'before_snapshot' | 'after_snapshot', input: CallInput) => {
    const { list } = parseAllowList('XVAULT_HOOK_ALLOW', origin);
    const secrets = [createSecret(input.secret ?? HOOK_SECRET)];
    const hooks = createGuestHooks(
      { allow: list, secrets, timeoutMs: 30_000, caPem },
      { clock: systemClock, log: SILENT_LOG },
    );
    const { round, id = `hook_j_${round}_${name}`, uuid = VM.uuid, ...data } = input;
    const path = name === 'before_snapshot' ? 'freeze' : 'thaw';
    const vm = { ...VM, uuid };
    const said = { phase: name, job_id: 'j', round, vm, ...data };
    const url = `${origin}/${path}`;
    await hooks.call({ name, url, id, attempts: 1, data: said }, { signal: NEVER });
  };
  return {
    freeze: (round, how = {}) => call('before_snapshot', { round, ...how }),
    thaw: (round, taken = true) => call('after_snapshot', { round, snapshot_taken: taken }),
    ran: () => readFileSync(logFile, 'utf8').trim().split('\n'),
    logged: async (text) => void (await logged(text)),
    [Symbol.asyncDispose]: async () => {
      const ended = new Promise((resolve) => child.once('close', resolve));
      child.kill('SIGKILL');
      await ended;
    },
  };
}

interface CallInput {
  round: number;
  id?: string;
  secret?: string;
  uuid?: string;
  snapshot_taken?: boolean;
}

describe('the example receiver', { skip: !PYTHON && 'needs python3', concurrency: 2 }, () => {
  test('postgresql: checkpoint, freeze; thaw in the other order', async () => {
    await using guest = await startGuest();
    await guest.freeze(1);
    assert.deepEqual(guest.ran(), [
      'psql --quiet --command CHECKPOINT',
      'fsfreeze --freeze /srv/data',
      'fsfreeze --freeze /srv/wal',
    ]);
    await guest.thaw(1);
    await guest.thaw(1, false); // a repeat of it does no harm
    assert.deepEqual(guest.ran().slice(3), [
      'fsfreeze --unfreeze /srv/wal',
      'fsfreeze --unfreeze /srv/data',
    ]);
    await guest.freeze(2);
    await guest.thaw(2);
    assert.equal(guest.ran().length, 10);
  });

  test('mysql: the read lock is held until the thaw', async () => {
    await using guest = await startGuest({ HOOK_DATABASE: 'mysql', HOOK_MOUNTS: '/srv/data' });
    await guest.freeze(1);
    assert.equal(
      guest.ran().some((line) => line.includes('UNLOCK')),
      false,
    );
    await guest.thaw(1);
    assert.deepEqual(guest.ran(), [
      "mysql FLUSH TABLES WITH READ LOCK; SELECT 'locked';",
      'fsfreeze --freeze /srv/data',
      'fsfreeze --unfreeze /srv/data',
      'mysql UNLOCK TABLES;',
    ]);
  });

  test('a stranger, another machine, a repeat and a second backup are refused', async () => {
    await using guest = await startGuest();
    const refused = (status: number) => ({ code: 'hook_failed', message: new RegExp(`${status}`) });
    const secret = `whsec_${Buffer.alloc(32, 1).toString('base64')}`;
    await assert.rejects(guest.freeze(1, { secret }), refused(401));
    await assert.rejects(guest.freeze(1, { uuid: crypto.randomUUID() }), refused(403));
    assert.deepEqual(guest.ran(), ['']);
    await guest.freeze(1);
    await assert.rejects(guest.freeze(1), /came before/);
    await assert.rejects(guest.freeze(2), /frozen for another backup/);
  });

  test('what cannot be frozen is thawed again, and says so', async () => {
    await using guest = await startGuest({ HOOK_MOUNTS: '/srv/data /srv/broken' });
    await assert.rejects(guest.freeze(1), /answered 500 "could not freeze/);
    assert.deepEqual(guest.ran().slice(-2), [
      'fsfreeze --unfreeze /srv/broken',
      'fsfreeze --unfreeze /srv/data',
    ]);
    await guest.thaw(1, false);
  });

  test('after the limit the machine thaws by itself, and the snapshot is told to be none of a machine at rest', async () => {
    await using guest = await startGuest({ HOOK_LIMIT_SECONDS: '0.05' });
    await guest.freeze(1);
    await guest.logged('still frozen');
    await assert.rejects(guest.thaw(1), /answered 409 "thawed already/);
    assert.ok(guest.ran().includes('fsfreeze --unfreeze /srv/data'));
  });
});
