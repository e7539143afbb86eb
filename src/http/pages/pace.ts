/** How fast a running job is and when it will be done, from its record alone: any instance says the same. */
import type { Job } from '../../catalog/record.ts';

/** The phases whose bytes are counted. */
const MOVING = ['exporting', 'importing', 'verifying'];
/** Earlier figures are chance. */
const MIN_SECONDS = 2;

export interface Pace {
  bytesPerSecond: number;
  /** Until all could be read; the zeros that are not exported make it an upper bound. */
  secondsLeft?: number;
}

/** Undefined until something moves. */
export function paceOf(job: Job): Pace | undefined {
  if (job.status !== 'running' || !MOVING.includes(job.phase)) return undefined;
  const began = (job.phases ?? []).findLast(({ phase }) => phase === job.phase);
  const beganMs = Date.parse(began?.at ?? job.started_at ?? job.created_at);
  const seconds = (Date.parse(job.updated_at) - beganMs) / 1000;
  const { read_bytes, copied_bytes, total_bytes } = job.progress;
  const moved = Math.max(read_bytes, copied_bytes);
  if (!(seconds >= MIN_SECONDS) || moved === 0) return undefined;
  const bytesPerSecond = moved / seconds;
  if (total_bytes === undefined || total_bytes <= moved) return { bytesPerSecond };
  return { bytesPerSecond, secondsLeft: (total_bytes - moved) / bytesPerSecond };
}
