/**
 * `pin.json`: why a copy of a backup lies under `pinned/`, out of the bucket's rotation.
 *
 * It is written before anything else of the copy and deleted after everything else, so whatever lies there without a
 * record is known to be the rest of a copy that was begun or is being removed, and whose it is. Kinds:
 *   pinned     somebody wished it (POST /v1/backups/{id}/pin); only who wished it removes it
 *   renewed    the last good backup of its machine, whose original the rules were about to delete (backup/guard.ts)
 *   released   somebody removed the copy of a last good backup: it is not renewed again. Nothing else lies there
 */
import { z } from 'zod';

export const PIN_FILE = 'pin.json';

export const pinSchema = z.object({
  version: z.literal(1),
  kind: z.enum(['pinned', 'renewed', 'released']),
  backup_id: z.uuid(),
  reason: z.string(),
  /** Of a wished one: when it ends by itself. */
  until: z.iso.datetime().optional(),
  /** Who wished it: the name of a token; the guard's own word for renewed ones. */
  by: z.string(),
  at: z.iso.datetime(),
});
export type Pin = z.infer<typeof pinSchema>;

/** What is asked for. */
export const pinWishSchema = z.strictObject({
  reason: z.string().trim().min(1).max(1000).default('no reason given'),
  until: z.iso.datetime().optional(),
});
export type PinWish = z.infer<typeof pinWishSchema>;
