/** What a job that adopts an archive made by hand remembers of it, and what the backup's record tells. */
import { z } from 'zod';

export const ARCHIVE_COMPRESSIONS = ['none', 'gzip', 'zstd'] as const;

/** Where a backup came from that no pool was asked for. */
export const adoptedSchema = z.object({
  /** As it was named: s3://bucket/key, or a file. */
  source: z.string(),
  size_bytes: z.int().nonnegative(),
  compression: z.enum(ARCHIVE_COMPRESSIONS),
  /** What is otherwise in the stored archive than in this one, in sentences. */
  changes: z.array(z.string()),
});
export type Adopted = z.infer<typeof adoptedSchema>;
