/**
 * What an upload leaves when it ends early, or after joining: removed in its own bounded time, also after a cancel.
 *
 * Failures here are logged and not thrown: the work they follow has its own outcome, and the sweep and the bucket's
 * rules for unfinished uploads and for staging come after us.
 */

import { untilAborted } from '../signals.ts';
import type { StoreContext } from './context.ts';
import type { Multipart } from './multipart.ts';
import type { Section } from './section.ts';
import { deleteObject } from './write.ts';

const CLEANUP_LIMIT_MS = 30_000;

/** Aborts an upload that was or is being created; in its own time, and never throws. */
export async function abandon(
  context: StoreContext,
  creating: Promise<Multipart>,
  key: string,
  creation: AbortController,
): Promise<void> {
  const signal = AbortSignal.timeout(CLEANUP_LIMIT_MS);
  const multipart = await untilAborted(creating, signal).catch((error: unknown) => {
    // Not created, or unknown to us: then the sweep finds it by its prefix.
    creation.abort(error);
    return undefined;
  });
  await multipart?.abort({ signal }).catch((error: unknown) => {
    // The sweep and the bucket's own rule for unfinished uploads come after us.
    context.log.warn('unfinished upload stays for the sweep', { key, error });
  });
}

/** Staging objects are copies or waste by now; one that stays is met by the rule on its prefix. */
export async function removeStaged(
  context: StoreContext,
  staged: readonly Section[],
): Promise<void> {
  const options = { signal: AbortSignal.timeout(CLEANUP_LIMIT_MS) };
  for (const { key, stored } of staged) {
    if (!stored) continue;
    await deleteObject(context, key, options).catch((error: unknown) => {
      context.log.warn('staging object stays for the bucket rule', { key, error });
    });
  }
}
