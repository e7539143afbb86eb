/** Settings of notifications: the file of targets (what is in it: notify-targets.ts), and where their links lead. */
import { z } from 'zod';
import { isLoopback } from './loopback.ts';
import type { SettingMeta } from './settings-table.ts';

/** What `value` lacks to be an address people can follow. */
function publicProblem(value: string): string | undefined {
  const url = URL.parse(value);
  if (url === null || !/^https?:$/.test(url.protocol)) return 'expected https://host[:port]';
  const { pathname, search, hash, username, password, hostname } = url;
  if (`${search}${hash}${username}${password}` !== '' || pathname !== '/') {
    return 'expected https://host[:port], without anything behind or before it';
  }
  if (url.protocol === 'https:' || isLoopback(hostname)) return undefined;
  return 'expected https, for tokens are typed there';
}

/** As parts of the settings object. */
export const notifySettings = {
  XVAULT_PUBLIC_URL: z
    .string()
    .trim()
    .check((context) => {
      const message = publicProblem(context.value);
      if (message !== undefined)
        context.issues.push({ code: 'custom', message, input: context.value });
    })
    .transform((value) => new URL(value).origin)
    .optional()
    .meta({
      group: 'Notifications',
      description:
        'Where people reach the pages of this service: messages to chats, mail and webhooks link to the job, run or machine they are about, and commands to copy on the pages call it (unless set, the address the browser used, which behind a proxy that ends TLS says http). Whoever follows a link signs in as ever.',
      example: 'https://xvault.example.com',
    } satisfies SettingMeta),
  XVAULT_NOTIFY_FILE: z
    .string()
    .trim()
    .min(1)
    .optional()
    .meta({
      group: 'Notifications',
      description:
        'JSON file: whom to tell of failed backups and what else there is to tell: webhooks, chats, e-mail, healthchecks. See docs/notifications.md.',
      example: '/etc/xvault/notify.json',
      file: true,
    } satisfies SettingMeta),
};
