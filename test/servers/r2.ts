/**
 * Cloudflare's local R2 with its S3 endpoint: the rules of R2 (equal parts, what it refuses), run by wrangler.
 *
 * Wrangler is a dev dependency; the endpoint is experimental and slow, and stands in only for what R2 refuses.
 * Source: developers.cloudflare.com/r2/api/s3 and the simulator's own answers (wrangler 4.164).
 */
import { existsSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { createRunFolder, findPorts, runScript, sweep } from './daemon.ts';
import { isWanted, type S3Server, type Skipped } from './server.ts';

const SCRIPTS = join(import.meta.dirname, 'r2');
const WRANGLER = resolve(import.meta.dirname, '../../node_modules/wrangler/bin/wrangler.js');
const START_TIMEOUT_MS = 60_000;
const STOP_TIMEOUT_MS = 30_000;
const PORTS = 40;
/** As wrangler.toml names them. */
const BUCKETS = Array.from({ length: 10 }, (_, index) => `test-${index + 1}`);

/** Starts an instance of its own. */
export async function startR2(): Promise<S3Server | Skipped> {
  if (!isWanted('r2')) return { skipped: 'local R2 is not among XVAULT_TEST_SERVERS' };
  if (process.platform !== 'linux') return { skipped: 'local R2 is only set up for Linux' };
  if (!existsSync(WRANGLER)) return { skipped: 'wrangler is not installed' };
  await sweep('r2', join(SCRIPTS, 'stop.sh'));
  const folder = createRunFolder('r2');
  const port = await findPorts(PORTS);
  const stop = async () => {
    await runScript(join(SCRIPTS, 'stop.sh'), [folder], { timeoutMs: STOP_TIMEOUT_MS });
  };
  const env = { NODE: process.execPath, WRANGLER, OWNER_PID: String(process.pid) };
  const args = [folder, String(port), String(port + 1)];
  try {
    await runScript(join(SCRIPTS, 'start.sh'), args, { env, timeoutMs: START_TIMEOUT_MS });
  } catch (error) {
    await stop();
    return { skipped: `local R2 does not start: ${(error as Error).message}` };
  }
  const free = [...BUCKETS];
  return {
    name: 'r2',
    endpoint: `http://127.0.0.1:${port}/cdn-cgi/local/r2/s3`,
    accessKeyId: 'r2local',
    secretAccessKey: 'r2localsecret',
    region: 'auto',
    buckets: [...BUCKETS],
    createBucket: async () => {
      const name = free.shift();
      if (name === undefined) throw new Error('all buckets of wrangler.toml are handed out');
      return name;
    },
    stop,
  };
}
