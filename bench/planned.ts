/**
 * What the planner would send of a machine's next backup: production's planner with production's limits over the blocks' real
 * sizes, without moving a byte.
 */
import { createPartPlan } from '../src/backup/plan.ts';
import { ARENA_UNIT_BYTES, arenaBytes } from '../src/commands/wire.ts';
import type { PlanLimits } from '../src/ports.ts';
import { planWindow } from '../src/s3/layout.ts';
import { quirksOf } from '../src/s3/quirks.ts';
import { END_BYTES } from '../src/xva/blocks-index.ts';
import { BLOCK_MEMBER_BYTES } from '../src/xva/types.ts';
import type { Machine } from './changes.ts';

export interface Planned {
  archiveBytes: number;
  /** Members of the changed blocks. */
  changedBytes: number;
  sentBytes: number;
  sends: number;
  copies: number;
}

/** The limits of one upload on its own; `memoryMib` as XVAULT_MEMORY_MIB. */
export function limitsFor(memoryMib: number): PlanLimits {
  const most = arenaBytes(memoryMib * 1024 ** 2);
  const totalBytes = Math.floor(most / ARENA_UNIT_BYTES) * ARENA_UNIT_BYTES;
  const budget = { totalBytes, unitBytes: ARENA_UNIT_BYTES, activeUploads: 1 };
  const quirks = quirksOf({ endpoint: 'http://127.0.0.1' });
  return planWindow(quirks, budget, undefined);
}

/** Plans one backup of a machine whose disks come in the order of their devices. */
export function planBackup(
  { disks }: Machine,
  {
    version,
    ovaMemberBytes,
    limits,
  }: { version: string; ovaMemberBytes: number; limits: PlanLimits },
): Planned {
  const plan = createPartPlan(limits);
  const planned: Planned = { archiveBytes: 0, changedBytes: 0, sentBytes: 0, sends: 0, copies: 0 };
  const push = (sizeBytes: number, sameOffset?: number) => {
    planned.archiveBytes += sizeBytes;
    count(planned, plan.push(sameOffset === undefined ? { sizeBytes } : { sizeBytes, sameOffset }));
  };
  push(ovaMemberBytes);
  for (const { changed } of disks) {
    for (const isChanged of changed[version] as Uint8Array) {
      if (isChanged) planned.changedBytes += BLOCK_MEMBER_BYTES;
      push(BLOCK_MEMBER_BYTES, isChanged ? undefined : planned.archiveBytes);
    }
  }
  push(END_BYTES);
  count(planned, plan.end());
  return planned;
}

/** All machines together. */
export function sumPlanned(all: readonly Planned[]): Planned {
  const sum = (field: keyof Planned) => all.reduce((total, planned) => total + planned[field], 0);
  return {
    archiveBytes: sum('archiveBytes'),
    changedBytes: sum('changedBytes'),
    sentBytes: sum('sentBytes'),
    sends: sum('sends'),
    copies: sum('copies'),
  };
}

function count(planned: Planned, steps: ReturnType<ReturnType<typeof createPartPlan>['push']>) {
  for (const step of steps) {
    if (step.kind === 'copy') planned.copies += 1;
    if (step.kind !== 'send') continue;
    planned.sends += 1;
    planned.sentBytes += step.sizeBytes;
  }
}
