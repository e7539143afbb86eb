/** A real Redis or Valkey of this machine, on a free port of loopback, that keeps nothing. */
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Redis } from 'ioredis';
import { findPorts } from './daemon.ts';

export interface RedisServer extends AsyncDisposable {
  readonly url: string;
  /** SIGKILL: what it had is gone. */
  stop(): Promise<void>;
  /** On the same port, empty. */
  start(): Promise<void>;
  /** What FLUSHALL does. */
  wipe(): Promise<void>;
  /** A client, closed with the server. */
  readonly client: Redis;
}

/** It ends when its stdin does: with the test's process, too, however that ends. And when the server does by itself. */
const WATCHED = [
  'exec 3<&0',
  '"$@" & server=$!',
  '{ read -r _ <&3; kill -9 $server; } 2>/dev/null & watch=$!',
  'wait $server 2>/dev/null',
  'kill $watch 2>/dev/null',
].join('\n');
const PROGRAMS = ['redis-server', 'valkey-server'];

/** Why there is none here; undefined when there is one. */
export function redisMissing(): string | undefined {
  return program() === undefined ? 'redis-server and valkey-server are not installed' : undefined;
}

/** What it is started with beside the usual. */
export interface RedisWish {
  /** Of redis.conf. */
  settings?: Record<string, string>;
  password?: string;
  /** TLS only, with this certificate and key. */
  tls?: { certPem: string; keyPem: string };
}

/** Starts one. */
export async function startRedis(wish: RedisWish = {}): Promise<RedisServer> {
  const path = program();
  if (path === undefined) throw new Error(redisMissing());
  const port = await findPorts(1);
  const folder = mkdtempSync(join(tmpdir(), 'xvault-redis-'));
  const login = wish.password === undefined ? '' : `:${wish.password}@`;
  const url = `${wish.tls ? 'rediss' : 'redis'}://${login}127.0.0.1:${port}`;
  const settings = settingsOf(wish, { port, folder });
  let server = await launch(path, settings);
  const client = new Redis(url, {
    ...(wish.tls ? { tls: { ca: wish.tls.certPem } } : {}),
    maxRetriesPerRequest: 20,
    retryStrategy: () => 50,
  });
  client.on('error', () => undefined); // stopped by a test
  const stop = async () => {
    if (server.exitCode !== null || server.signalCode !== null) return;
    const ended = once(server, 'exit');
    server.stdin.end();
    await ended;
  };
  return {
    url,
    client,
    stop,
    start: async () => {
      server = await launch(path, settings);
    },
    wipe: async () => {
      await client.flushall();
    },
    [Symbol.asyncDispose]: async () => {
      client.disconnect();
      await stop();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

function program(): string | undefined {
  return PROGRAMS.find((name) => {
    try {
      execFileSync(name, ['--version'], { stdio: 'ignore' });
      return true;
    } catch {
      return false;
    }
  });
}

function settingsOf(
  { settings = {}, password, tls }: RedisWish,
  { port, folder }: { port: number; folder: string },
): Record<string, string> {
  const usual = { bind: '127.0.0.1', dir: folder, save: '', appendonly: 'no', ...settings };
  const login = password === undefined ? {} : { requirepass: password };
  if (tls === undefined) return { port: String(port), ...usual, ...login };
  const [cert, key] = [join(folder, 'cert.pem'), join(folder, 'key.pem')];
  writeFileSync(cert, tls.certPem);
  writeFileSync(key, tls.keyPem);
  const files = { 'tls-cert-file': cert, 'tls-key-file': key, 'tls-auth-clients': 'no' };
  return { port: '0', 'tls-port': String(port), ...files, ...usual, ...login };
}

async function launch(path: string, settings: Record<string, string>) {
  const args = Object.entries(settings).flatMap(([name, value]) => [`--${name}`, value]);
  const child = spawn('sh', ['-c', WATCHED, 'sh', path, ...args], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  await new Promise<void>((resolve, reject) => {
    let output = '';
    child.stdout.on('data', (piece: Buffer) => {
      output += piece;
      if (/ready to accept connections/i.test(output)) resolve();
    });
    child.once('exit', () => reject(new Error(`redis did not start: ${output}`)));
  });
  return child;
}
