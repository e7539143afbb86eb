/** Every route there is, in the order of the description. What is not here is not announced anywhere. */
import type { AnyRoute } from '../route.ts';
import { BACKUP_ROUTES } from './backups.ts';
import { CHAT_ROUTES } from './chat.ts';
import { DISK_ROUTES } from './disks.ts';
import { GUARD_ROUTES } from './guard.ts';
import { HOOK_ROUTES } from './hooks.ts';
import { JOB_ROUTES } from './jobs.ts';
import { PAGE_ROUTES } from './pages.ts';
import { PIN_ROUTES } from './pins.ts';
import { RESTORE_ROUTES } from './restore.ts';
import { ROTATION_ROUTES } from './rotation.ts';
import { RUN_ROUTES } from './runs.ts';
import { SESSION_ROUTES } from './session.ts';
import { SWEEP_ROUTES } from './sweep.ts';
import { VERIFY_ROUTES } from './verify.ts';
import { WATCH_ROUTES } from './watch.ts';

export const ROUTES: readonly AnyRoute[] = [
  ...JOB_ROUTES,
  ...RUN_ROUTES,
  ...BACKUP_ROUTES,
  ...DISK_ROUTES,
  ...VERIFY_ROUTES,
  ...RESTORE_ROUTES,
  ...PIN_ROUTES,
  ...WATCH_ROUTES,
  ...GUARD_ROUTES,
  ...SWEEP_ROUTES,
  ...ROTATION_ROUTES,
  ...HOOK_ROUTES,
  ...CHAT_ROUTES,
  ...PAGE_ROUTES,
  ...SESSION_ROUTES,
];
