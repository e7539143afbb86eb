/**
 * What all parts of the simulated pool share: the database, the disks' contents, the hosts, clock, faults, settings.
 *
 * One process plays all hosts; `master` is the one that answers RPC. Nothing here outlives `closing`: every wait of
 * the simulator takes that signal.
 */
import type { Clock } from '../../../src/ports.ts';
import type { Faults } from './faults.ts';
import type { Persona } from './persona.ts';
import type { TrackedDisk } from './tracked-disk.ts';
import type { Rec, Value } from './values.ts';
import type { World } from './world.ts';

export interface SimHost {
  index: number;
  ref: string;
  address: string;
  port: number;
  certPem: string;
  keyPem: string;
  fingerprint: string;
  /** xapi's process-wide counter behind `Ref:n` in archives: differs on every export, never starts at 0. */
  nextExternalId: number;
  /** How often its xapi was started: work of an earlier life is dead and cleans nothing up. */
  lives: number;
}

export interface SimSettings {
  username: string;
  password: string;
  badLoginDelayMs: number;
  /** An Async call's task ends this much later than its work; a synchronous call is not delayed. */
  taskDelayMs: number;
  /** How often an export writes its task's progress (real hosts: 10 s). */
  progressIntervalMs: number;
  /** An empty block is written when nothing was sent for so long (real hosts: 5 s). */
  keepAliveBlockMs: number;
  /** How long reading one MiB of zeros is taken to last for `keepAliveBlockMs`; nobody really waits. */
  zeroBlockMs: number;
  /** How long a disk stays attached to dom0 after an export: VDI.destroy says VDI_IN_USE meanwhile. */
  dom0DetachMs: number;
  /** How long after VDI.destroy the storage has coalesced the chain. */
  coalesceMs: number;
  /** How long a call waits for another operation on the machine to end (real hosts: 2 h, /export 2 min). */
  operationWaitMs: number;
  sessionIdleMs: number;
  /** How long after a start the guest's tools report. */
  guestBootMs: number;
  /** Whether an import is decompressed by the programs a host runs, which must be there then. */
  realPrograms: boolean;
}

export interface Sim {
  persona: Persona;
  settings: SimSettings;
  world: World;
  faults: Faults;
  clock: Clock;
  newUuid: () => string;
  hosts: SimHost[];
  /** Index of the master in `hosts`. */
  masterIndex: number;
  poolRef: string;
  /** Content of every VDI that has some, by ref. */
  disks: Map<string, TrackedDisk>;
  /** Disks to coalesce: VDI ref of the hidden base → when. */
  coalesceAt: Map<string, number>;
  closing: AbortSignal;
  /** Keeps background work (async calls, exports) in sight so that close can wait for it. */
  track(work: Promise<unknown>): void;
}

export interface CallContext {
  sim: Sim;
  host: SimHost;
  /** Ref of the caller's session; '' for calls without one. */
  session: string;
  /** The task of an Async call; undefined for a synchronous one. */
  task?: string;
  /** Aborted when the task is cancelled, the client hung up, or the pool closes. */
  signal: AbortSignal;
}

/** One RPC of the pool: how many parameters it takes (without the session) and what it does. */
export interface CallSpec {
  params: readonly [min: number, max: number];
  /** Takes no session. */
  open?: true;
  /** Exists as Async. too. */
  asyncable?: true;
  run(context: CallContext, params: Value[]): Value | Promise<Value>;
}

export type CallTable = Record<string, CallSpec>;

/** What the handlers' answers say in their header Server. */
export function serverName(sim: Sim): string {
  const { major, minor } = sim.persona.xapi;
  return `xapi/${major}.${minor}`;
}

/** Whether `host`, live by its metrics, has the storages plugged. */
export function seesStorage(sim: Sim, hostRef: string, storages: readonly string[]): boolean {
  const record = sim.world.get('host', hostRef);
  const metrics = sim.world.find('host_metrics', String(record.metrics));
  if (metrics?.live !== true) return false;
  return storages.every((sr) =>
    sim.world
      .all('PBD')
      .some(([, pbd]) => pbd.SR === sr && pbd.host === hostRef && pbd.currently_attached === true),
  );
}

/** The current time as XenAPI dates have it: whole seconds. */
export function nowDate(sim: Sim): Date {
  return new Date(Math.floor(sim.clock.now() / 1000) * 1000);
}

/** The master's ref. */
export function masterRef(sim: Sim): string {
  return hostAt(sim, sim.masterIndex).ref;
}

/** The host at `index`. */
export function hostAt(sim: Sim, index: number): SimHost {
  const host = sim.hosts[index];
  if (host === undefined) throw new Error(`simulator bug: no host ${index}`);
  return host;
}

/** Changes one field of a set of texts or a map by a function. */
export function update(sim: Sim, cls: string, ref: string, change: (record: Rec) => Rec): void {
  sim.world.set(cls, ref, change(sim.world.get(cls, ref)));
}

/** Waits until `ready` gives something, looking again after every change of the world. */
export function waitFor<T>(
  sim: Sim,
  ready: () => T | undefined,
  options: { signal: AbortSignal; timeoutMs: number },
): Promise<T | undefined> {
  const now = ready();
  if (now !== undefined) return Promise.resolve(now);
  const { signal, timeoutMs } = options;
  return new Promise((resolve, reject) => {
    const stop = new AbortController();
    const finish = (act: () => void) => {
      unwatch();
      signal.removeEventListener('abort', onAbort);
      stop.abort();
      act();
    };
    const onAbort = () => finish(() => reject(signal.reason));
    const unwatch = sim.world.onChange(() => {
      const value = ready();
      if (value !== undefined) finish(() => resolve(value));
    });
    signal.addEventListener('abort', onAbort);
    if (signal.aborted) onAbort();
    sim.clock.sleep(timeoutMs, { signal: stop.signal }).then(
      () => finish(() => resolve(undefined)),
      () => {
        // Stopped because the wait ended otherwise.
      },
    );
  });
}

/** The pool's clock, as host.get_servertime gives it. */
export function formatServertime(sim: Sim): Date {
  return nowDate(sim);
}
