/** The real program, `xvault serve`, as a child: how long it takes to answer, and where. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { NODE_FLAGS } from './measure.ts';

export const MAIN = join(import.meta.dirname, '../src/main.ts');

export interface Serving extends AsyncDisposable {
  url: string;
  pid: number;
  /** From the start of the process to the first 200 of /livez. */
  firstAnswerMs: number;
}

/** Starts `serve`; ready when /livez answers. */
export async function startServe(env: NodeJS.ProcessEnv): Promise<Serving> {
  const startedAt = performance.now();
  const child = spawn(process.execPath, [...NODE_FLAGS, MAIN, 'serve'], {
    env: { ...env, XVAULT_LOG_LEVEL: 'info', XVAULT_DRAIN_SECONDS: '0' },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const url = await new Promise<string>((resolve, reject) => {
    let said = '';
    child.once('exit', () => reject(new Error(`serve ended: ${said}`)));
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      said = (said + text).slice(-10_000);
      const found = /http:\/\/127\.0\.0\.1:\d+/.exec(said);
      if (found) resolve(found[0]);
    });
  });
  const { status } = await fetch(`${url}/livez`);
  if (status !== 200) throw new Error(`/livez answers ${status}`);
  return {
    url,
    pid: child.pid as number,
    firstAnswerMs: performance.now() - startedAt,
    [Symbol.asyncDispose]: async () => {
      const ended = once(child, 'exit');
      child.kill('SIGTERM');
      await ended;
    },
  };
}
