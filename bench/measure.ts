/**
 * What a command costs: wall time, CPU seconds of all its processes, peak memory.
 *
 * The command runs under bash, whose `times` says what all ended children used (user and system); memory is each
 * process's own high-water mark (VmHWM), looked at while it runs and added up over the pipe. Linux only: it reads /proc.
 */
import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { cpus } from 'node:os';

export interface Cost {
  wallSeconds: number;
  cpuSeconds: number;
  /** What all processors did meanwhile, whoever for: source and sink are in it, and whatever else runs. */
  machineSeconds: number;
  peakBytes: number;
  stdout: string;
}

/** What npm, the image and systemd start Node with: test/infra compares; docs/performance.md says why. */
export const NODE_FLAGS = ['--max-semi-space-size=8', '--max-old-space-size=2000'];

/** A look takes a millisecond: rare enough not to be measured itself. */
const LOOK_MS = 50;

/** The command that runs a program of ours as it is run in earnest. */
export function nodeCommand(path: string): string {
  return `'${process.execPath}' ${NODE_FLAGS.join(' ')} '${path}'`;
}

/** Runs `command` and waits for its end; throws when any process of the pipe fails. */
export async function measureCommand(command: string, env: NodeJS.ProcessEnv): Promise<Cost> {
  const startedAt = performance.now();
  const idleBefore = idleSeconds();
  // Braces, not parentheses: a subshell would keep the times of its children to itself.
  const script = `set -o pipefail; { ${command}; }; status=$?; times >&2; exit $status`;
  const child = spawn('bash', ['-c', script], { env, stdio: ['ignore', 'pipe', 'pipe'] });
  const peaks = new Map<number, number>();
  const looking = setInterval(() => look(child.pid as number, peaks), LOOK_MS);
  let stdout = '';
  let stderr = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    stdout += text;
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr += text;
  });
  try {
    const code = await new Promise<number | null>((resolve, reject) => {
      child.once('error', reject).once('close', resolve);
    });
    const wallSeconds = (performance.now() - startedAt) / 1000;
    if (code !== 0) throw new Error(`command ended with ${code}: ${stderr.slice(-2000)}`);
    const machineSeconds = wallSeconds * cpus().length - (idleSeconds() - idleBefore);
    const peakBytes = [...peaks.values()].reduce((sum, bytes) => sum + bytes, 0);
    return { wallSeconds, cpuSeconds: readTimes(stderr), machineSeconds, peakBytes, stdout };
  } finally {
    clearInterval(looking);
  }
}

function idleSeconds(): number {
  return cpus().reduce((sum, { times }) => sum + times.idle / 1000, 0);
}

/** The last line of `times`: user and system seconds of all children, `0m1.234s 0m0.567s`. */
function readTimes(stderr: string): number {
  const found = [...stderr.matchAll(/^(\d+)m([\d.]+)s (\d+)m([\d.]+)s$/gm)].at(-1);
  if (!found) throw new Error('the shell gave no times');
  const [, userMinutes, user, systemMinutes, system] = found.map(Number) as number[];
  const minutes = (userMinutes ?? 0) + (systemMinutes ?? 0);
  return minutes * 60 + (user ?? 0) + (system ?? 0);
}

function look(pid: number, peaks: Map<number, number>): void {
  for (const child of childrenOf(pid)) {
    const peak = peakBytesOf(child);
    if (peak !== undefined) peaks.set(child, peak);
    look(child, peaks);
  }
}

function childrenOf(pid: number): number[] {
  const text = readOrEmpty(`/proc/${pid}/task/${pid}/children`);
  return text.split(' ').filter(Boolean).map(Number);
}

/** The most memory a process ever had; undefined when it is gone. */
export function peakBytesOf(pid: number): number | undefined {
  const found = /^VmHWM:\s+(\d+) kB$/m.exec(readOrEmpty(`/proc/${pid}/status`));
  return found ? Number(found[1]) * 1024 : undefined;
}

/** Processes come and go while one looks. */
function readOrEmpty(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}

/** The middle one; of an even number the upper. */
export function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[values.length >> 1] ?? Number.NaN;
}
