/**
 * Does a machine that was restored and started work? Its guest tools must report; then, if the test names somebody, they are asked.
 *
 *   started ─► guest tools report ─► POST verdict ─► 2xx: good, 4xx with words: bad, 202: asked again
 *
 * Both share one time-out, from the start on. Only what is said of the machine counts: an answer that is about the call (who
 * calls, where to) and no answer at all fail the job and say nothing of the backup. Each question has an id of its own, which its
 * repeats share. Nothing is written down between questions: who takes the job over begins with a new machine and attempt.
 */
import type { Job } from '../catalog/record.ts';
import type { RestoreTestWish } from '../catalog/verified.ts';
import { BackupError } from '../errors.ts';
import type { Cancellable, GuestFacts, HookAnswer, Hooks, Pool, VmRef } from '../ports.ts';
import type { StepContext } from './context.ts';
import { backupIdOf } from './verify-archive.ts';

/** One question, over about 20 s. */
const ATTEMPTS = 4;
/** Between two questions, where the answer asks for no other time. */
const ASK_AGAIN_MS = 10_000;
const SHORTEST_WAIT_MS = 1_000;
const DEFAULT_SECONDS = 600;
/** These are about the call, not about the machine: signature, path, method, form. */
const ABOUT_THE_CALL = new Set([
  401, 403, 404, 405, 406, 407, 411, 413, 414, 415, 417, 421, 426, 431,
]);

/** Errors: `invalid_request` when the settings do not allow this URL, or nothing would be waited for. */
export async function checkVerdict(
  { verdict: url, guest }: RestoreTestWish,
  hooks: Hooks | undefined,
  options: Cancellable,
): Promise<void> {
  if (url === undefined) {
    if (guest !== false) return;
    const details = { field: 'guest' };
    const text = 'test restore without its guest: name a verdict, else nothing shows that it works';
    throw new BackupError('invalid_request', text, { details });
  }
  if (hooks === undefined) {
    const details = { field: 'verdict' };
    const text = 'allow verdict: XVAULT_HOOK_ALLOW is not set, so nobody is asked';
    throw new BackupError('invalid_request', text, { details });
  }
  await hooks.check({ field: 'verdict', url }, options);
}

interface Machine {
  pool: Pool;
  vm: VmRef;
}

/**
 * Waits until the machine has shown that it works; gives what is wrong with it otherwise.
 * Errors: `hook_failed` when nobody gave a verdict; the pool's.
 */
export async function seeWorking(
  job: Job,
  { pool, vm }: Machine,
  context: StepContext,
): Promise<string | undefined> {
  const { engine, signal } = context;
  const { clock, log } = engine;
  const wish = job.restore_test;
  const seconds = wish?.boot_timeout_seconds ?? DEFAULT_SECONDS;
  const endsAtMs = clock.elapsed() + seconds * 1000;
  const look = (timeoutMs: number) => pool.waitForGuest({ vm, timeoutMs }, { signal });
  let guest = await look(wish?.guest === false ? 0 : seconds * 1000);
  if (guest === undefined && wish?.guest !== false) {
    return `start restored machine: its guest tools did not report within ${seconds} seconds`;
  }
  const { toolsVersion: tools, osName: os } = guest ?? {};
  log.info('restored machine started', { job_id: job.id, tools, os });
  if (wish?.verdict === undefined) return undefined;
  for (let question = 1; ; question += 1) {
    const answer = await ask({ job, url: wish.verdict, question, guest }, context);
    if (answer.status !== 202) return judged(job, answer, context);
    const waitMs = Math.max(
      answer.retryAfterSeconds === undefined ? ASK_AGAIN_MS : answer.retryAfterSeconds * 1000,
      SHORTEST_WAIT_MS,
    );
    const leftMs = endsAtMs - clock.elapsed();
    if (leftMs <= 0) {
      const said = answer.text === '' ? '' : `, last "${answer.text}"`;
      return `judge restored machine: no verdict within ${seconds} seconds of its start${said}`;
    }
    // asked once more at the very end
    await clock.sleep(Math.min(waitMs, leftMs), { signal });
    guest = await look(0);
  }
}

/** What is wrong with the machine, by this answer. */
function judged(job: Job, { status, text }: HookAnswer, { engine }: StepContext) {
  if (status < 300) {
    engine.log.info('restored machine judged good', { job_id: job.id });
    return undefined;
  }
  if (text !== '' && !ABOUT_THE_CALL.has(status)) return `judge restored machine: "${text}"`;
  const said = text === '' ? ' without a text' : ` "${text}"`;
  throw new BackupError('hook_failed', `call verdict: answered ${status}${said}, no verdict`, {
    details: { hook: 'verdict', status },
  });
}

interface Question {
  job: Job;
  url: string;
  question: number;
  guest: GuestFacts | undefined;
}

async function ask(
  { job, url, question, guest }: Question,
  { engine, signal }: StepContext,
): Promise<HookAnswer> {
  const { hooks, meter } = engine;
  if (hooks === undefined) {
    throw new BackupError('hook_failed', 'call verdict: XVAULT_HOOK_ALLOW is not set here');
  }
  const { id, attempt, restored, vm } = job;
  const data = {
    phase: 'verdict',
    job_id: id,
    attempt,
    question,
    backup_id: backupIdOf(job),
    vm: { ...restored?.vm, pool: vm.pool },
    disks: restored?.disks ?? [],
    guest: guest === undefined ? null : shown(guest),
  };
  const outcome = (text: string) =>
    meter.count('hook_calls_total', 1, { hook: 'verdict', outcome: text });
  try {
    const answer = await hooks.ask(
      {
        name: 'verdict',
        url,
        id: `hook_${id}_${attempt}_verdict_${question}`,
        data,
        attempts: ATTEMPTS,
      },
      { signal },
    );
    outcome('ok');
    return answer;
  } catch (error) {
    outcome('failed');
    throw error;
  }
}

function shown({ toolsVersion, osName, addresses }: GuestFacts) {
  return { tools: toolsVersion, os: osName, addresses };
}
