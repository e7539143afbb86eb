/** The setting that names the file of notification targets; what is in the file: notify-targets.ts. */
import { z } from 'zod';
import type { SettingMeta } from './settings-table.ts';

/** As parts of the settings object. */
export const notifySettings = {
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
