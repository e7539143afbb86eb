/**
 * Who was told of a job, and what became of it: the part of a job's record that is still written after its end.
 *
 * What is owed is written with the end itself, so that a process that dies before it told anybody leaves word; whoever
 * comes next tells it.
 */
import { z } from 'zod';

export const notificationSchema = z.object({
  event: z.string(),
  /** Its name in the settings. */
  target: z.string(),
  ok: z.boolean(),
  attempts: z.int().nonnegative(),
  /** Why the last attempt failed. */
  problem: z.string().optional(),
  /** Not told yet. */
  owed: z.literal(true).optional(),
});
export type Notification = z.infer<typeof notificationSchema>;
