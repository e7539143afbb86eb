/**
 * What the real servers have in common: free ports, scripts that start and stop, nothing left behind.
 *
 * Each run has a folder of its own under the temporary directory with the pid of its owner in it. A server ends by
 * `stop`, or when its owner's process does (the start scripts watch for that); what a killed machine or watcher left
 * is swept at the next start.
 */
import { execFile } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';

const execute = promisify(execFile);

/** Below the range Linux gives to outgoing connections, so that nobody takes a port meanwhile. */
const FIRST_PORT = 20_000;
const LAST_PORT = 32_000;
const PORT_TRIES = 50;

/** Runs a script and returns its output; a failure's message is the end of what it wrote. */
export async function runScript(
  script: string,
  args: readonly string[],
  options: { env?: Record<string, string>; timeoutMs: number },
): Promise<string> {
  const { timeoutMs: timeout, env = {} } = options;
  try {
    const { stdout } = await execute(script, args, { timeout, env: { ...process.env, ...env } });
    return stdout;
  } catch (error) {
    const { stderr = '', killed } = error as { stderr?: string; killed?: boolean };
    const reason = killed ? `no end after ${timeout / 1000} s` : stderr.trim().slice(-300);
    throw new Error(reason || String(error), { cause: error });
  }
}

/** A new folder for one run, with its owner in it. */
export function createRunFolder(kind: string): string {
  const folder = mkdtempSync(join(tmpdir(), `xvault-${kind}-`));
  writeFileSync(join(folder, 'owner'), String(process.pid));
  return folder;
}

/** Stops what earlier runs left: folders whose owner is no longer there. */
export async function sweep(kind: string, stopScript: string): Promise<void> {
  for (const name of readdirSync(tmpdir())) {
    if (!name.startsWith(`xvault-${kind}-`)) continue;
    const folder = join(tmpdir(), name);
    if (!isAbandoned(folder)) continue;
    await runScript(stopScript, [folder], { timeoutMs: 30_000 });
  }
}

function isAbandoned(folder: string): boolean {
  let owner: number;
  try {
    owner = Number(readFileSync(join(folder, 'owner'), 'utf8'));
  } catch {
    // Swept by somebody else just now.
    return false;
  }
  try {
    process.kill(owner, 0);
    return false;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'ESRCH';
  }
}

/** Finds `count` free ports in a row, among which the first ones were really bound. */
export async function findPorts(count: number): Promise<number> {
  for (let tries = 0; tries < PORT_TRIES; tries++) {
    const blocks = Math.floor((LAST_PORT - FIRST_PORT) / count);
    const first = FIRST_PORT + Math.floor(Math.random() * blocks) * count;
    const free = await Promise.all([0, 1, 20, 21, 30].map((offset) => isFree(first + offset)));
    if (free.every(Boolean)) return first;
  }
  throw new Error('no free ports on the loopback interface');
}

function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once('error', () => resolve(false));
    server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)));
  });
}
