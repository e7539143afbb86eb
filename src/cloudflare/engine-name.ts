/**
 * Which engine does what: the name of the Durable Object, and so of its container.
 *
 * One engine for each machine that is backed up by itself, so that a second request for it finds the first one's; one for
 * each backup that is read again; one for the runs of a pool, whose limits on running jobs then hold for all of them. What
 * else there is, few and short, goes to one more. The name is made of the request alone, so a repeat comes to the same
 * engine. Nothing depends on it: leases in the bucket decide who works on what, whatever the engine.
 */
import type { Wanted } from '../http/elsewhere.ts';

/** Of whatever has no place of its own: cancels, sweeps, rules, the list of a pool's machines. */
export const GENERAL_ENGINE = 'engine';

/** The name of the engine for a call of the service. */
export function engineName({ method, input }: Wanted): string {
  if (method === 'openArchive') return `backup:${String(input)}`;
  if (typeof input !== 'object' || input === null) return GENERAL_ENGINE;
  if (method === 'startBackup') {
    const { vm = '', request } = input as { vm?: string; request?: { pool?: string } };
    return `vm:${request?.pool ?? ''}/${vm.toLowerCase()}`;
  }
  if (method === 'startRun') {
    const { request } = input as { request?: { select?: { pool?: string } } };
    return `run:${request?.select?.pool ?? 'all'}`;
  }
  const { backupId } = input as { backupId?: string };
  return backupId === undefined ? GENERAL_ENGINE : `backup:${backupId}`;
}
