/** The client of an engine in this process. */
import { userInfo } from 'node:os';
import type { Page, Service } from '../backup/service.ts';
import { pinWishSchema } from '../catalog/pin.ts';
import { backupRequestSchema, isEnded } from '../catalog/record.ts';
import { restoreRequestSchema } from '../catalog/restore.ts';
import { restoreTestWishSchema } from '../catalog/verified.ts';
import { BackupError } from '../errors.ts';
import { backupView, jobView } from '../http/views.ts';
import { createDirectArchives } from './archive-client.ts';
import type { ServiceClient } from './client.ts';
import { createDirectRuns } from './run-client.ts';
import { parseWishes } from './wishes.ts';

/** Wraps a service; `close` is called when the client is disposed. */
export function createDirectClient(
  service: Service,
  {
    instance,
    left,
    close,
  }: { instance: string; left?: () => Promise<void>; close: () => Promise<void> },
): ServiceClient {
  return {
    kind: 'direct',
    instance,
    ...(left === undefined ? {} : { left }),
    startBackup: async ({ vm, wishes }, options) => {
      const request = parseWishes(backupRequestSchema, wishes);
      const triggeredBy = `command line (${userName()})`;
      return jobView(await service.startBackup({ vm, request, triggeredBy }, options));
    },
    workOff: async (options) => (await service.workOff(options)).map(jobView),
    ...createDirectArchives(service),
    ...createDirectRuns(service, () => `command line (${userName()})`),
    startIndex: async ({ backupId }, options) => {
      const triggeredBy = `command line (${userName()})`;
      return jobView(await service.startIndex({ backupId, triggeredBy }, options));
    },
    startAdopt: async (input, options) => {
      const triggeredBy = `command line (${userName()})`;
      return jobView(await service.startAdopt({ ...input, triggeredBy }, options));
    },
    startRestoreTest: async ({ backupId, wish }, options) => {
      const triggeredBy = `command line (${userName()})`;
      const parsed = parseWishes(restoreTestWishSchema, wish);
      return jobView(
        await service.startRestoreTest({ backupId, wish: parsed, triggeredBy }, options),
      );
    },
    startVerify: async ({ backupId, percent }, options) => {
      const triggeredBy = `command line (${userName()})`;
      return jobView(
        await service.startVerify({ backupId, wish: { percent }, triggeredBy }, options),
      );
    },
    startRestore: async ({ backupId, wishes }, options) => {
      const request = parseWishes(restoreRequestSchema, wishes);
      const triggeredBy = `command line (${userName()})`;
      return jobView(await service.startRestore({ backupId, request, triggeredBy }, options));
    },
    watchJob: async function* (id, options) {
      for await (const job of service.watchJob(id, options)) {
        yield jobView(job);
        if (isEnded(job)) return;
      }
    },
    cancelJob: async (id, options) => {
      const job = await service.cancelJob(id, options);
      if (job === undefined) throw new BackupError('not_found', `find job, id=${id}`);
      return jobView(job);
    },
    listJobs: async (input, options) => {
      const { items, ...page } = await service.listJobs(input, options);
      return { jobs: items.map(jobView), ...restOf(page) };
    },
    listBackups: async (input, options) => {
      const { items, ...page } = await service.listBackups(input, options);
      return { backups: items.map(backupView), ...restOf(page) };
    },
    status: (input, options) => service.status(input, options),
    renewLastGood: (input, options) => service.renewLastGood(input, options),
    startPin: async ({ backupId, wish: given }, options) => {
      const wish = parseWishes(pinWishSchema, given);
      const triggeredBy = `command line (${userName()})`;
      return jobView(await service.startPin({ backupId, wish, triggeredBy }, options));
    },
    unpin: async ({ backupId }, options) => {
      const by = `command line (${userName()})`;
      const outcome = await service.unpin({ backupId, by }, options);
      if (outcome !== undefined) return { outcome };
      throw new BackupError('not_found', `find backup ${backupId}: there is none of that id`);
    },
    rotation: (options) => service.rotation(options),
    applyRotation: (input, options) => service.applyRotation(input, options),
    sweep: (input, options) => service.sweep(input, options),
    [Symbol.asyncDispose]: close,
  };
}

/** As the HTTP API says it. */
function restOf({ nextPageToken, unreadable }: Omit<Page<unknown>, 'items'>) {
  return { next_page_token: nextPageToken ?? '', ...(unreadable ? { unreadable } : {}) };
}

/** Users without a name exist: containers with a bare uid. */
function userName(): string {
  try {
    return userInfo().username;
  } catch {
    return 'unknown user';
  }
}
