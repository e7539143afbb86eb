/**
 * wrangler.toml and the Worker as wrangler sees them, without an account, Docker or the Internet: every key is one it knows,
 * the bundle holds nothing that cannot run there, a deploy passes its dry run, and `wrangler dev` answers.
 */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { createHmac } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { test } from 'node:test';
import { Ajv, type AnySchema } from 'ajv';
import { createArena } from '../../src/arena.ts';
import { createKeys } from '../../src/catalog/keys.ts';
import { systemClock } from '../../src/clock.ts';
import { readFrontSettings } from '../../src/cloudflare/front-settings.ts';
import { ARENA_UNIT_BYTES } from '../../src/commands/wire.ts';
import { SILENT_LOG as log } from '../../src/log.ts';
import { createS3Store } from '../../src/s3/store.ts';
import { NEVER } from '../../src/signals.ts';
import { sampleBackup } from '../records.ts';
import { findPorts } from '../servers/daemon.ts';
import { bundle, externals, ROOT, readConfig } from './bundle.ts';

const WRANGLER = join(ROOT, 'node_modules/wrangler/bin/wrangler.js');
const SCHEMA = join(ROOT, 'node_modules/wrangler/config-schema.json');
/** Long before: it is ready in two seconds, on a busy machine in ten. */
const READY_LIMIT_MS = 45_000;
const TOKEN = 'a-token-of-the-tests';
const SECRET = 'a secret of sixteen characters';
const CREDENTIALS = { accessKeyId: 'local', secretAccessKey: 'local-secret' };

test('every key of wrangler.toml is one that wrangler knows', () => {
  // the schema names formats and keywords of editors
  const ajv = new Ajv({ strict: false, allErrors: true, validateFormats: false });
  const validate = ajv.compile(JSON.parse(readFileSync(SCHEMA, 'utf8')) as AnySchema);
  const config = readConfig();
  assert.ok(validate(config), JSON.stringify(validate.errors, null, 1));
  assert.ok(!validate({ ...config, bukkets: [] }));
  const [container] = config.containers as object[];
  assert.ok(!validate({ ...config, containers: [{ ...container, instances_max: 4 }] }));
});

test('the variables of wrangler.toml are settings, and its secrets are what is missing', () => {
  const { vars, secrets } = readConfig() as {
    vars: Record<string, string>;
    secrets: { required: string[] };
  };
  const given = Object.fromEntries(secrets.required.map((name) => [name, 'xxxxxxxxxxxxxxxx']));
  const bindings = { BUCKET: {}, ENGINE: {} };
  const whole = readFrontSettings({ ...vars, ...given, ...bindings });
  assert.deepEqual([whole.mistakes, whole.warnings], [[], []]);
  const named = (env: object) =>
    readFrontSettings({ ...env })
      .mistakes.map(({ name }) => name)
      .sort();
  assert.deepEqual(named({ ...vars, ...bindings }), secrets.required.toSorted());
  for (const { message, example } of readFrontSettings({ ...vars, ...bindings }).mistakes) {
    assert.doesNotMatch(`${message} ${example}`, /_FILE=|XVAULT_LISTEN/);
  }
  const wrong = {
    ...vars,
    ...given,
    XVAULT_CRON_RUN: '{"select":{}}',
    XVAULT_STATE_BUCKET: 'state',
    XVAULT_NOTIFY_FILE: '/etc/notify.json',
    XVAULT_SSE_C_KEY: Buffer.alloc(32, 7).toString('base64'),
  };
  assert.deepEqual(named(wrong), [
    'BUCKET',
    'ENGINE',
    'STATE_BUCKET',
    'XVAULT_CRON_RUN',
    'XVAULT_NOTIFY_FILE',
    'XVAULT_SSE_C_KEY',
  ]);
});

test('nothing in the bundle needs what Workers do not have', async () => {
  const made = await bundle({ entry: 'src/worker.ts' });
  const packages =
    /node_modules\/(undici|@hono\/node-server|bullmq|ioredis|nodemailer|@smithy\/node-http-handler)\//;
  assert.deepEqual(
    Object.keys(made.metafile.inputs).filter((file) => packages.test(file)),
    [],
  );
  const outside = externals(made);
  const forbidden = /^node:(tls|http|https|http2|child_process|worker_threads|cluster|dgram)$/;
  assert.deepEqual(
    [...outside.keys()].filter((name) => forbidden.test(name)),
    [],
  );
  // lists of addresses and no socket
  assert.deepEqual(outside.get('node:net'), ['src/outgoing.ts']);
});

test('a deploy passes its dry run', async () => {
  await inFolder(async (folder) => {
    const args = ['deploy', '--dry-run', '--containers-rollout=none', '--outdir', folder];
    const child = start(args, folder);
    const text = await outputOf(child);
    assert.equal(child.exitCode, 0, text);
    assert.match(text, /env\.ENGINE \(Engine\)/);
    assert.match(text, /--dry-run: exiting now/);
  });
});

test('wrangler dev answers from its bucket, checks what comes, and says that it has no engine', async () => {
  await inFolder(async (folder) => {
    const port = await findPorts(1);
    const endpoint = `http://127.0.0.1:${port}/cdn-cgi/local/r2/s3`;
    const config = join(folder, 'wrangler.json');
    writeFileSync(config, JSON.stringify(localConfig(endpoint)));
    const child = start(['dev', '--config', config, '--port', `${port}`, '--local'], folder);
    try {
      const url = await readyUrl(child);
      await smoke(url, endpoint);
    } finally {
      child.kill('SIGTERM');
      if (child.exitCode === null) await once(child, 'exit');
    }
  });
});

async function smoke(url: string, endpoint: string): Promise<void> {
  const bearer = { authorization: `Bearer ${TOKEN}` };
  assert.equal((await fetch(`${url}/livez`)).status, 200);
  assert.equal((await fetch(`${url}/v1/status`)).status, 401);
  await storeBackup(endpoint);
  const report = (await (await fetch(`${url}/v1/status`, { headers: bearer })).json()) as {
    machines_from: string;
    vms: { vm: { name: string } }[];
  };
  assert.equal(report.machines_from, 'bucket');
  assert.deepEqual(
    report.vms.map(({ vm }) => vm.name),
    ['web'],
  );
  const body = JSON.stringify({ zen: 'Design for failure.' });
  const deliver = async (secret: string) => {
    const hex = createHmac('sha256', secret).update(body).digest('hex');
    const headers = {
      'content-type': 'application/json',
      'x-github-event': 'ping',
      'x-github-delivery': '1',
      'x-hub-signature-256': `sha256=${hex}`,
    };
    return (await fetch(`${url}/hooks/github`, { method: 'POST', headers, body })).status;
  };
  assert.equal(await deliver('another secret of theirs'), 401);
  assert.equal(await deliver(SECRET), 200);
  const json = { ...bearer, 'content-type': 'application/json' };
  const post = { method: 'POST', headers: json, body: '{}' };
  const started = await fetch(`${url}/v1/vms/web/backups`, post);
  assert.equal(started.status, 503);
  assert.equal(((await started.json()) as { code: string }).code, 'engine_unavailable');
  const cron = await fetch(`${url}/cdn-cgi/local/scheduled?cron=0+1+*+*+*`);
  // it came as far as the engine, and what that said is not swallowed
  assert.notEqual(cron.status, 200);
}

/** wrangler.toml with what a machine without an account needs. */
function localConfig(endpoint: string): object {
  const {
    alias,
    containers,
    main,
    r2_buckets,
    secrets: _,
    ...config
  } = readConfig() as {
    alias: Record<string, string>;
    containers: object[];
    main: string;
    r2_buckets: object[];
    vars: Record<string, string>;
    secrets: object;
  };
  const here = (path: string) => join(ROOT, path);
  return {
    ...config,
    main: here(main),
    alias: Object.fromEntries(Object.entries(alias).map(([name, path]) => [name, here(path)])),
    containers: containers.map((one) => ({ ...one, image: here('Dockerfile') })),
    r2_buckets: r2_buckets.map((one) => ({
      ...one,
      local_dev: { experimental_s3_credentials: CREDENTIALS },
    })),
    vars: {
      ...config.vars,
      XVAULT_S3_ENDPOINT: endpoint,
      XVAULT_TOKEN: TOKEN,
      XVAULT_POOL_USERNAME: 'u',
      XVAULT_POOL_PASSWORD: 'p',
      XVAULT_HOOK_GITHUB_SECRET: SECRET,
      AWS_ACCESS_KEY_ID: CREDENTIALS.accessKeyId,
      AWS_SECRET_ACCESS_KEY: CREDENTIALS.secretAccessKey,
    },
  };
}

/** As an engine would: over S3. */
async function storeBackup(endpoint: string): Promise<void> {
  const arena = createArena({ totalBytes: 2 * ARENA_UNIT_BYTES, unitBytes: ARENA_UNIT_BYTES });
  const meter = { count: () => {}, observe: () => {} };
  const store = createS3Store(
    { endpoint, bucket: 'xvault', prefix: '', region: 'auto', credentials: CREDENTIALS },
    { clock: systemClock, log, arena, meter },
  );
  const backup = sampleBackup({ created_at: new Date().toISOString() });
  const { pool, uuid: vmUuid, name } = backup.vm;
  const keys = createKeys('');
  const parts = { retention: 'daily', pool, vmUuid, backupId: backup.id };
  await store.put(keys.archive(parts, name), 'x', { signal: NEVER });
  await store.put(keys.record(parts), JSON.stringify(backup), { signal: NEVER });
  store.close();
}

/** Offline as far as wrangler lets one say it; what it keeps goes into the folder. */
function start(args: string[], folder: string): ChildProcess {
  const env = {
    PATH: process.env.PATH,
    HOME: folder,
    XDG_CONFIG_HOME: folder,
    WRANGLER_SEND_METRICS: 'false',
    WRANGLER_LOG_PATH: join(folder, 'logs'),
    CI: '1',
  };
  const stdio = ['ignore', 'pipe', 'pipe'] as const;
  return spawn(process.execPath, [WRANGLER, ...args], { cwd: ROOT, env, stdio: [...stdio] });
}

async function outputOf(child: ChildProcess): Promise<string> {
  let text = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream?.on('data', (piece) => {
      text += String(piece);
    });
  }
  await once(child, 'close');
  return text;
}

async function readyUrl(child: ChildProcess): Promise<string> {
  const signal = AbortSignal.timeout(READY_LIMIT_MS);
  const { stdout } = child;
  assert.ok(stdout);
  const seen: string[] = [];
  child.stderr?.on('data', (piece) => seen.push(String(piece)));
  for await (const line of createInterface({ input: stdout, signal })) {
    seen.push(line);
    const url = /Ready on (http:\/\/\S+)/.exec(line)?.[1];
    if (url === undefined) continue;
    stdout.resume();
    return url.replace('localhost', '127.0.0.1');
  }
  throw new Error(`wrangler dev is not ready:\n${seen.join('\n')}`);
}

async function inFolder(work: (folder: string) => Promise<void>): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'xvault-wrangler-'));
  try {
    await work(folder);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
