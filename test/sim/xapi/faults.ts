/**
 * Named faults of the simulated pool: what goes wrong, how often, and for which machine.
 *
 * A fault fires `count` times (once unless told otherwise) and is then gone; `vm` (a uuid of the live machine)
 * limits it to that machine and its snapshots. Everything here was seen on real hosts or follows from xapi's
 * source; the switch only decides when.
 */

import type { Value } from './values.ts';

export interface FaultParams {
  /** The export's socket is closed without end blocks after so many bytes of body. */
  'export-ends-early': { afterBytes: number };
  /** The export's socket is reset (RST). */
  'export-reset': { afterBytes: number };
  /** xapi fails in the middle: a whole HTTP 500 answer is appended to the body, the task fails. */
  'export-error': { afterBytes: number; code?: string; params?: string[] };
  /** The host writes nothing for so long, or until the task is cancelled or `until` says so, then goes on. */
  'export-silent': { afterBytes: number; silentMs: number; until?: AbortSignal };
  /** The socket just closes, without any answer, as when no host can see the storage. */
  'export-no-response': { code?: string; params?: string[] };
  /** The answer is 500 before the headers, and the task fails with the same error. */
  'export-refused': { code: string; params?: string[] };
  /** The checksum member of this block says something else. */
  'block-checksum': { block: number; disk?: number };
  'block-duplicate': { block: number; disk?: number };
  'block-missing': { block: number; disk?: number };
  /** Everything is sent, then the task ends as failure. */
  'task-failure': { code?: string; params?: string[] };
  /** Everything is sent, and the task is gone, as after a restart of xapi. */
  'task-vanishes': object;
  /** Everything is sent, and the task stays pending for ever. */
  'task-pending': object;
  /** Before the next call of this method (any, when not given) all sessions are lost. */
  'session-lost': { method?: string };
  /** Before the next call another host becomes master: sessions and tasks are lost. */
  'master-moves': { method?: string; toHost?: number };
  /** /export answers with a redirect to an address where nobody listens; of a member of the pool, if told so. */
  'redirect-unreachable': { member?: boolean };
  /** /export answers with a redirect to itself, for ever. */
  'redirect-loop': object;
  /** An import answers 500, or 403 (no role), before its headers, and the task fails with the same error. */
  'import-refused': { code: string; params?: string[]; forbidden?: boolean };
  /** The import's connection just closes, without any answer; the task stays pending. */
  'import-no-response': object;
  /** The host swallows the import's whole body and never answers. */
  'import-hangs': object;
  /** The import fails in the middle: cleaned up, the task fails, a whole HTTP 500 is appended. */
  'import-error': { afterBytes: number; code?: string; params?: string[] };
  /** The host resets the connection in the middle; it cleans up, and the task fails. */
  'import-reset': { afterBytes: number };
  /** The host's xapi is killed in the middle: nothing is cleaned up, the task stays pending for ever. */
  'import-killed': { afterBytes: number };
  /** The host reads nothing for so long, or until the task is cancelled, then goes on. */
  'import-silent': { afterBytes: number; silentMs: number };
  /** Everything was read, then the import fails and is cleaned up. */
  'import-task-failure': { code?: string; params?: string[] };
  /** Everything was read and is there, and the task is gone, as after a restart of xapi. */
  'import-task-vanishes': object;
  /** Everything was read and is there, and the task stays pending for ever. */
  'import-task-pending': object;
  'snapshot-refused': { code: string; params?: string[] };
  /** The machine starts, but its guest never says a word. */
  'guest-silent': object;
  /** VM.snapshot_with_quiesce fails, perhaps after it made a snapshot. */
  'quiesce-fails': { code: string; params?: string[]; leavesSnapshot?: boolean };
  /** VDI.destroy says VDI_IN_USE. */
  'vdi-in-use': object;
  /** The named call fails with this error. */
  'call-fails': { method: string; code: string; params?: string[] };
  /** The named call is done, but the connection is cut before its answer. */
  'answer-lost': { method: string };
  /** The named call is never answered. */
  'call-hangs': { method: string };
  /** Nothing is done for so long, then the connection is cut: what a client with a time-out meets, by the pool's clock. */
  'call-silent': { method?: string; silentMs: number };
}

export type FaultName = keyof FaultParams;

/**
 * Sees every call twice: before anything is done (`done` false), and after it was carried out. The call waits for it,
 * and the answer `cut` ends its connection there. An export is the method `/export` with the live machine's uuid as parameter,
 * the end of its connection `/export closed`; an import is `/import` with the uuid of its storage.
 */
export type WatchCall = (call: {
  method: string;
  params: readonly Value[];
  done: boolean;
}) => unknown;

export interface Faults {
  watch?: WatchCall | undefined;
  /** Arms a fault; `count` is how often it fires (1), `vm` the uuid of the only machine it concerns. */
  set<Name extends FaultName>(
    name: Name,
    params: FaultParams[Name] & { count?: number; vm?: string },
  ): void;
  /** Disarms one fault or all. */
  clear(name?: FaultName): void;
  /** How often a fault has fired. */
  fired(name: FaultName): number;
  /** How often any has. */
  readonly struck: number;
  /** Fires the fault if it is armed, concerns `vm` and `accepts` its parameters. */
  take<Name extends FaultName>(
    name: Name,
    input?: { vm?: string | undefined; accepts?: (params: FaultParams[Name]) => boolean },
  ): FaultParams[Name] | undefined;
}

interface Armed {
  params: FaultParams[FaultName];
  left: number;
  vm: string | undefined;
}

/** Makes the switchboard; several faults of one name may be armed, the first that fits fires. */
export function createFaults(): Faults {
  const armed = new Map<FaultName, Armed[]>();
  const counts = new Map<FaultName, number>();
  return {
    set(name, { count = 1, vm, ...params }) {
      const entry = { params: params as unknown as FaultParams[FaultName], left: count, vm };
      armed.set(name, [...(armed.get(name) ?? []), entry]);
    },
    clear(name) {
      if (name === undefined) armed.clear();
      else armed.delete(name);
    },
    fired: (name) => counts.get(name) ?? 0,
    get struck() {
      return [...counts.values()].reduce((sum, count) => sum + count, 0);
    },
    take<Name extends FaultName>(
      name: Name,
      input: { vm?: string | undefined; accepts?: (params: FaultParams[Name]) => boolean } = {},
    ) {
      const { vm, accepts = () => true } = input;
      const entries = armed.get(name) ?? [];
      const hit = entries.find(
        (entry) =>
          (entry.vm === undefined || entry.vm === vm) && accepts(entry.params as FaultParams[Name]),
      );
      if (hit === undefined) return undefined;
      hit.left -= 1;
      armed.set(
        name,
        entries.filter((entry) => entry.left > 0),
      );
      counts.set(name, (counts.get(name) ?? 0) + 1);
      return hit.params as FaultParams[Name];
    },
  };
}
