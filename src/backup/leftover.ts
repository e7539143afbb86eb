/** What a sweep finds, and when it may go: one judgement for the pool and for the bucket. */
import type { Cancellable } from '../ports.ts';
import type { Owner } from './owner.ts';
import type { SweepFinding } from './service.ts';

/**
 * What nobody can be asked about stays so long: an export that would take more than 24 h is refused before it begins,
 * so nothing of a job that lives is twice as old.
 */
export const UNKNOWN_AGE_MS = 48 * 3600_000;

export interface Leftover extends Pick<SweepFinding, 'kind' | 'id' | 'name' | 'pool'> {
  owner: Owner;
  createdAt?: number | undefined;
  verdict: Verdict;
  /** Removes it. Gone already is success. */
  remove(options: Cancellable): Promise<void>;
}

export interface Verdict {
  remove: boolean;
  reason: string;
}

/**
 * May it go? What an ended job left may; what a job that has not ended uses may not; what has no job may only where
 * `unknown` says from which age on.
 */
export function judge(
  owner: Owner,
  { ageMs, unknownAgeMs }: { ageMs?: number | undefined; unknownAgeMs?: number },
): Verdict {
  switch (owner.state) {
    case 'ended':
      return { remove: true, reason: `its job has ended: ${owner.job.status}` };
    case 'living':
      return { remove: false, reason: 'its job is running' };
    case 'left':
      return {
        remove: false,
        reason:
          'its job was left unfinished: whoever takes it over goes on with this, or removes it',
      };
    case 'unreadable':
      return { remove: false, reason: 'the record of its job cannot be read' };
    case 'unknown':
      return judgeUnknown(ageMs, unknownAgeMs);
  }
}

function judgeUnknown(ageMs: number | undefined, unknownAgeMs: number | undefined): Verdict {
  if (unknownAgeMs === undefined) {
    return {
      remove: false,
      reason:
        'not ours as far as this bucket knows: no record of its job; another installation made it, or the record expired',
    };
  }
  const hours = Math.round(unknownAgeMs / 3600_000);
  if (ageMs === undefined || ageMs < unknownAgeMs) {
    return { remove: false, reason: `no record of its job, and not older than ${hours} h` };
  }
  return { remove: true, reason: `no record of its job, and older than ${hours} h` };
}
