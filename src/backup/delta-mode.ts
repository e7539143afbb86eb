/**
 * Full or delta? What was asked for, what the store can, and whether there is a backup to copy from.
 *
 * `auto` takes the cheapest way that can be proven. `delta` without anything to copy from is a full, too, for the first
 * backup of a machine must be possible to those who always ask the same; the result says so.
 */
import type { BackupRequest, Job } from '../catalog/record.ts';
import { BackupError } from '../errors.ts';
import type { StoreFacts } from '../ports.ts';
import type { DiskOrder } from '../xva/types.ts';
import { type Base, chooseBase } from './base.ts';
import type { StepContext } from './context.ts';

export interface Mode {
  mode: 'full' | 'delta';
  reason: string;
  base?: Base;
  /** Where parts can be copied, disks lie by device, so that this backup can be a base. */
  order: DiskOrder;
}

/** Refuses what this store cannot do at all. Errors: `invalid_request`. */
export function checkMode(
  { mode }: BackupRequest,
  { copyParts, provider }: Pick<StoreFacts, 'copyParts' | 'provider'>,
): void {
  if (mode === 'delta' && !copyParts) {
    throw new BackupError(
      'invalid_request',
      `choose mode: the store (${provider}) cannot copy parts of objects, which delta needs; use auto or full`,
      { details: { field: 'mode', provider } },
    );
  }
}

/** Decides for one try of a job. Errors: the store's, `invalid_request` as `checkMode`. */
export async function chooseMode(job: Job, context: StepContext): Promise<Mode> {
  const { engine, signal } = context;
  const facts = await engine.store.facts({ signal });
  checkMode(job.request, facts);
  const full = fullMode(facts);
  if (job.request.mode === 'full') return full('full was asked for');
  if (!facts.copyParts) return full('the store cannot copy parts of objects');
  const choice = await chooseBase(job, context);
  if (choice.base === undefined) return full(choice.reason);
  const { backup, reason } = choice.base;
  return {
    mode: 'delta',
    reason: `unchanged blocks are copied from the backup of ${backup.created_at}, ${reason}`,
    base: choice.base,
    order: 'device',
  };
}

/** A full on this store, for the given reason. */
export function fullMode({ copyParts }: Pick<StoreFacts, 'copyParts'>): (reason: string) => Mode {
  return (reason) => ({ mode: 'full', reason, order: copyParts ? 'device' : 'arrival' });
}
