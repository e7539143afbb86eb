/**
 * Machines without a fresh backup, told once a day as long as that lasts: whoever runs no monitor hears of it, too.
 *
 * Where nothing keeps running nobody looks; a dead man's switch (docs/notifications.md, healthchecks) covers that.
 */
import { toBackupError } from '../errors.ts';
import type { Cancellable } from '../ports.ts';
import { formatTime } from '../time.ts';
import type { Engine } from './context.ts';
import { freshnessNotice, type StaleMachine } from './finding-notice.ts';
import { repeat } from './repeat.ts';
import type { Service } from './service.ts';

/** Ages are hours; a look reads what the status page reads. Not at once: a start may be that of a backup. */
const LOOK_EVERY_MS = 15 * 60_000;

export interface FreshnessWatch {
  /** Begins, in the background. */
  start(): void;
  stop(): void;
}

/** Looks at the status by the clock; does nothing where nobody wants to be told. */
export function createFreshnessWatch(
  engine: Pick<Engine, 'clock' | 'log' | 'notices'>,
  { status }: Pick<Service, 'status'>,
  { maxAgeSeconds }: { maxAgeSeconds?: number },
): FreshnessWatch {
  const { clock, log, notices } = engine;
  const stopped = new AbortController();
  const look = async (options: Cancellable): Promise<void> => {
    if (notices === undefined || maxAgeSeconds === undefined) return;
    const { vms } = await status({ maxAgeSeconds }, options);
    const stale = vms.filter((one) => one.status === 'critical');
    const news: StaleMachine[] = [];
    for (const machine of stale) {
      const { vm, last_backup_id: last = 'none' } = machine;
      const name = `freshness.critical ${vm.pool} ${vm.uuid} ${last}`;
      if (await notices.claim(name, options)) news.push(machine);
    }
    if (news.length > 0) notices.tell(freshnessNotice(news, formatTime(clock.now())));
  };
  const { signal } = stopped;
  const regularly = async (): Promise<void> => {
    await repeat(clock, LOOK_EVERY_MS, signal, () =>
      look({ signal }).catch((error) => {
        if (signal.aborted) return;
        // the next look finds the same
        log.warn('freshness not looked at', { error: toBackupError(error).message });
      }),
    );
  };
  return {
    start: () => {
      if (notices !== undefined && maxAgeSeconds !== undefined) void regularly();
    },
    stop: () => stopped.abort(),
  };
}
