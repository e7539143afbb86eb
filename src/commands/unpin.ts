/** `xvault unpin`: puts a backup back into rotation. */
import type { UnpinOutcome } from '../backup/pin-service.ts';
import { openClient } from './client.ts';
import type { Command } from './command.ts';

const WORDS: Record<UnpinOutcome, string> = {
  in_rotation: 'back in rotation: the rules of the bucket delete it when it is due',
  removed: 'removed: only the copy was left of it, and it was not the last good backup',
  kept: 'kept: it is the last good backup of its machine; to give that up, say so once more',
  released: 'released: nothing keeps it any more',
};

export const command: Command = {
  name: 'unpin',
  usage: 'unpin <backup>',
  summary: 'Put a pinned backup back into rotation.',
  examples: ['xvault unpin 01988a52-9b1e-7c44-8d20-6f1e2d3c4b5a'],
  options: {},
  words: { min: 1, max: 1 },
  notes: `Removes the copy below pinned/; what lies in rotation is never deleted here. The last good backup of a machine, whose
original is gone or about to go, stays until it is unpinned once more.`,
  async run({ positionals, json, terminal, signal }) {
    const backupId = (positionals[0] ?? '').toLowerCase();
    await using client = await openClient({ terminal });
    const { outcome } = await client.unpin({ backupId }, { signal });
    if (json) terminal.out(`${JSON.stringify({ backup_id: backupId, outcome })}\n`);
    else terminal.out(`${WORDS[outcome]}\n`);
    return 0;
  },
};
