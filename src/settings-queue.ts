/**
 * The settings of the queue that instances share.
 *
 * The address holds the password, so all of it is a secret: it may come from a file, and is never shown.
 */
import { z } from 'zod';
import { createSecret } from './secret.ts';
import type { SettingMeta } from './settings-table.ts';

const queueUrl = z
  .string()
  .trim()
  .refine(isRedisUrl, 'expected redis://[user:password@]host[:port][/db], or rediss:// for TLS')
  .transform(createSecret);

/** As parts of the settings object. */
export const queueSettings = {
  XVAULT_QUEUE_URL: queueUrl.optional().meta({
    group: 'Service',
    description:
      'Redis or Valkey, with which any number of instances of `xvault serve` share the work (see docs/queue.md): `redis://[user:password@]host[:port][/db]`, `rediss://` for TLS. All of them need the same. The bucket stays the truth: it may be emptied at any time.',
    example: 'rediss://xvault:secret@redis.example.com:6379',
    defaultText: 'a queue in each process',
    secret: true,
  } satisfies SettingMeta),
};

function isRedisUrl(text: string): boolean {
  if (!URL.canParse(text)) return false;
  const { protocol, hostname, pathname } = new URL(text);
  const isDatabase = /^\/?\d{0,4}$/.test(pathname);
  return (protocol === 'redis:' || protocol === 'rediss:') && hostname !== '' && isDatabase;
}
