/** The program itself as a child process, with no environment but what a test gives it. */
import { type ChildProcessByStdio, spawn } from 'node:child_process';
import type { Readable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import type { SimPool } from '../sim/pool.ts';
import type { SimS3 } from '../sim/s3/index.ts';
import { BUCKET } from './world.ts';

const MAIN = fileURLToPath(new URL('../../src/main.ts', import.meta.url));

export interface Program {
  child: ChildProcessByStdio<null, Readable, Readable>;
  output: { out: string; err: string };
  /** Resolves with the first line of stdout that has this text; rejects when the program ends without it. */
  saw(text: string): Promise<string>;
  /** Resolves with the exit code; null after a signal. */
  ended: Promise<number | null>;
}

/** Starts `xvault …args`. */
export function startProgram(args: readonly string[], env: Record<string, string>): Program {
  const child = spawn(process.execPath, [MAIN, ...args], {
    env: { PATH: process.env.PATH ?? '', ...compileCache(), ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const output = { out: '', err: '' };
  const ended = new Promise<number | null>((resolve) => child.once('close', resolve));
  child.stderr.on('data', (piece: Buffer) => {
    output.err += piece;
  });
  child.stdout.on('data', (piece: Buffer) => {
    output.out += piece;
  });
  const saw = (text: string) =>
    new Promise<string>((resolve, reject) => {
      const look = () => {
        const line = output.out.split('\n').find((one) => one.includes(text));
        if (line !== undefined) resolve(line);
      };
      child.stdout.on('data', look);
      look();
      void ended.then(() => reject(new Error(`no "${text}" in: ${output.out}${output.err}`)));
    });
  return { child, output, saw, ended };
}

/** Of Node, not of xvault: where the test command keeps compiled code, a start takes half the time. */
function compileCache(): Record<string, string> {
  const { NODE_COMPILE_CACHE: folder } = process.env;
  return folder === undefined ? {} : { NODE_COMPILE_CACHE: folder };
}

/** Settings that lead to this pool and this bucket, as the environment of a container has them. */
export function settingsFor(sim: SimPool, s3: SimS3): Record<string, string> {
  return {
    XVAULT_POOL_NAME: 'dc1',
    XVAULT_POOL_URL: sim.urls.join(','),
    XVAULT_POOL_USERNAME: sim.username,
    XVAULT_POOL_PASSWORD: sim.password,
    XVAULT_POOL_FINGERPRINT: sim.fingerprints.join(','),
    XVAULT_BUCKET: BUCKET,
    XVAULT_PREFIX: 'xv',
    XVAULT_S3_ENDPOINT: s3.endpoint,
    AWS_REGION: s3.region,
    AWS_ACCESS_KEY_ID: s3.accessKeyId,
    AWS_SECRET_ACCESS_KEY: s3.secretAccessKey,
    XVAULT_LISTEN: '127.0.0.1:0',
    XVAULT_LOG_LEVEL: 'debug',
  };
}
