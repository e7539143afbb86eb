/** The client of an engine in this process. */
import { userInfo } from 'node:os';
import type { Page, Service } from '../backup/service.ts';
import { backupRequestSchema, isEnded } from '../catalog/record.ts';
import { BackupError } from '../errors.ts';
import { backupView, jobView } from '../http/views.ts';
import type { ServiceClient } from './client.ts';

/** Wraps a service; `close` is called when the client is disposed. */
export function createDirectClient(
  service: Service,
  { instance, close }: { instance: string; close: () => Promise<void> },
): ServiceClient {
  return {
    kind: 'direct',
    instance,
    startBackup: async ({ vm, wishes }, options) => {
      const parsed = backupRequestSchema.safeParse(wishes);
      if (!parsed.success) {
        const issues = parsed.error.issues.map(
          (issue) => `${issue.path.join('.')}: ${issue.message}`,
        );
        throw new BackupError('invalid_request', `read request: ${issues.join('; ')}`);
      }
      const triggeredBy = `command line (${userName()})`;
      return jobView(await service.startBackup({ vm, request: parsed.data, triggeredBy }, options));
    },
    startIndex: async ({ backupId }, options) => {
      const triggeredBy = `command line (${userName()})`;
      return jobView(await service.startIndex({ backupId, triggeredBy }, options));
    },
    startVerify: async ({ backupId, percent }, options) => {
      const triggeredBy = `command line (${userName()})`;
      return jobView(
        await service.startVerify({ backupId, wish: { percent }, triggeredBy }, options),
      );
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
