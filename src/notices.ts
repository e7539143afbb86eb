/**
 * The port to people and programs that want to hear of it: a job began or ended, a machine has no fresh backup.
 *
 * A notice is the same for every target: one sentence what, one what to do, facts for people, data for programs.
 * Implemented by notify/notifier.ts, which gives it each target's own shape; when and what is told: backup/notices.ts and
 * docs/notifications.md.
 */
import type { Cancellable } from './ports.ts';

/** Every event there is. */
export const EVENTS = [
  'backup.started',
  'backup.succeeded',
  'backup.failed',
  'backup.cancelled',
  'restore.started',
  'restore.succeeded',
  'restore.failed',
  'restore.cancelled',
  'verify.started',
  'verify.succeeded',
  'verify.failed',
  'verify.cancelled',
  'run.finished',
  'guard.renewed',
  'sweep.leftover_found',
  'freshness.critical',
] as const;
export type NoticeEvent = (typeof EVENTS)[number];

export type Severity = 'info' | 'success' | 'warning' | 'error';

export interface Notice {
  /** The same for every target and every try: receivers tell a repeat by it. Printable ASCII, at most 200 characters. */
  id: string;
  event: NoticeEvent;
  /** RFC 3339, UTC: when it happened. */
  at: string;
  severity: Severity;
  /** One sentence. */
  what: string;
  /** One sentence, also where there is nothing to do. */
  todo: string;
  /** For people, in this order. */
  facts: readonly { name: string; value: string }[];
  /** For people: of a run, a line a machine. */
  table?: { columns: readonly string[]; rows: readonly (readonly string[])[] };
  /** The uuid of the job or run this is about. */
  about?: string;
  vm?: { uuid: string; name: string; pool: string };
  /** For programs: snake_case, less than 20 kB, no secrets. */
  data: Readonly<Record<string, unknown>>;
  /** Address of the page that shows it, where the settings know one. */
  link?: string;
}

/** What became of one notice at one target. */
export interface Delivery {
  target: string;
  ok: boolean;
  /** 0: none was made, the line before it was too long or the process was told to stop. */
  attempts: number;
  problem?: string;
  /** The signal ended it: it may be sent again by whoever comes next. */
  stopped?: boolean;
}

export interface Notifier {
  /** Names of the targets that want to hear of this; with `chat` those that lead there, too, whatever events they want. */
  targets(about: Pick<Notice, 'event' | 'vm'> & { chat?: string | undefined }): string[];
  /**
   * Tells the named targets, each with bounded tries. Never rejects.
   * Cancel: what is not delivered yet counts as stopped.
   */
  send(
    notice: Notice,
    input: { targets: readonly string[]; attempts?: number },
    options: Cancellable,
  ): Promise<Delivery[]>;
}
