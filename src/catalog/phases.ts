/**
 * When a job began each of its phases: kept with the job, so that people see where the time went.
 *
 * A phase is begun again by another attempt, and by whoever takes the job over; only what is recorded counts.
 */
import { z } from 'zod';

/** Some attempts of a job with all their phases; what is older says nothing any more. */
const MAX_PHASES = 60;

export const phaseTimeSchema = z.object({
  phase: z.string(),
  attempt: z.int().positive(),
  /** When it began; it lasted until the next one. */
  at: z.iso.datetime(),
});
export type PhaseTime = z.infer<typeof phaseTimeSchema>;

interface Phased {
  phase: string;
  attempt: number;
  status: string;
  phases?: PhaseTime[] | undefined;
}

/** The job with the phase it is in among those begun. */
export function withPhase<T extends Phased>(job: T, at: string): T {
  const { phase, attempt, status, phases = [] } = job;
  const last = phases.at(-1);
  if (status !== 'running' || (last?.phase === phase && last.attempt === attempt)) return job;
  return { ...job, phases: [...phases, { phase, attempt, at }].slice(-MAX_PHASES) };
}
