/**
 * A pool that behaves as a real one, for tests and `xvault demo`: XenAPI over HTTPS, machines with real file systems.
 *
 * Every host listens on a loopback address of its own (127.0.0.11, .12, …) with one common port, so that a bare
 * `host.address` together with the port of the URL is that host. Where such addresses cannot be bound (macOS) there is
 * one host on 127.0.0.1. What is not simulated: migration, NBD and CBT.
 *
 * Two pools in one test need different seeds: refs and uuids follow from it.
 */
import { createHash } from 'node:crypto';
import { systemClock } from '../../src/clock.ts';
import type { Clock } from '../../src/ports.ts';
import { DEFAULT_MACHINES, type MachineSpec } from './machines.ts';
import { type Audit, type AuditOptions, createAudit, type QuietOptions } from './xapi/audit.ts';
import { buildMachine, type SimMachine } from './xapi/build-machine.ts';
import { buildWorld, type GroundSpec } from './xapi/build-world.ts';
import { createCertificate } from './xapi/certificate.ts';
import { createFaults, type Faults } from './xapi/faults.ts';
import { createListener, type HostListener } from './xapi/listener.ts';
import { closeServer, createOutage, listen, type Outage } from './xapi/outage.ts';
import { PERSONAS, type PersonaName } from './xapi/persona.ts';
import { createPoolView, type PoolView } from './xapi/pool-view.ts';
import type { Sim, SimHost, SimSettings } from './xapi/sim.ts';
import type { TrackedDisk } from './xapi/tracked-disk.ts';
import { createWorld, type World } from './xapi/world.ts';

export type { DiskSpec, MachineSpec } from './machines.ts';
export type { AuditOptions, QuietOptions } from './xapi/audit.ts';
export type { SimMachine, SimMachineDisk } from './xapi/build-machine.ts';
export type { GroundSpec, NetworkSpec, StorageSpec } from './xapi/build-world.ts';
export type { FaultName, FaultParams, Faults } from './xapi/faults.ts';
export type { PersonaName } from './xapi/persona.ts';
export type { SimNetwork, SimStorage } from './xapi/pool-view.ts';

export interface SimPoolOptions extends Partial<SimSettings>, GroundSpec {
  /** Refs, uuids and external ids follow from it; a fixed one unless given. */
  seed?: number;
  /** '8.3' unless given. */
  persona?: PersonaName;
  /** 2 unless given. */
  hosts?: number;
  machines?: readonly MachineSpec[];
  name?: string;
  clock?: Clock;
  /** Plain HTTP instead of HTTPS, as port 80 of older hosts: for measuring without TLS. */
  plain?: boolean;
}

export interface SimPool extends Outage, PoolView {
  /** The master's URL. */
  url: string;
  /** One per host, the master's first. */
  urls: string[];
  username: string;
  password: string;
  /** All hosts' certificates, PEM. */
  caPem: string;
  /** SHA-256 of each host's certificate, lower-case hex, in the order of `urls`. */
  fingerprints: string[];
  machines: SimMachine[];
  /** The machine called `name`; throws when there is none or more than one. */
  machine(name: string): SimMachine;
  world: World;
  /** Contents by VDI ref, snapshots' too. */
  disks: Map<string, TrackedDisk>;
  faults: Faults;
  /** Everything a job may have left behind; empty when the pool is as it was at the start. */
  audit(options?: AuditOptions): string[];
  /** As `audit`, but waits for what goes away by itself (attached disks, closing connections), 5 s at most. */
  auditWhenQuiet(options?: QuietOptions): Promise<string[]>;
  close(): Promise<void>;
}

const DEFAULTS: SimSettings = {
  username: 'root',
  password: 'simulated-password',
  badLoginDelayMs: 50,
  taskDelayMs: 0,
  progressIntervalMs: 200,
  keepAliveBlockMs: 5000,
  zeroBlockMs: 1,
  dom0DetachMs: 20,
  coalesceMs: 50,
  operationWaitMs: 7_200_000,
  sessionIdleMs: 86_400_000,
  guestBootMs: 50,
  realPrograms: false,
};

/** Ports to try until one is free on every host's address. */
const PORT_ATTEMPTS = 10;

function createUuids(seed: number): () => string {
  let count = 0;
  return () => {
    count += 1;
    const hex = createHash('sha256').update(`${seed}/${count}`).digest('hex');
    return [
      hex.slice(0, 8),
      hex.slice(8, 12),
      `4${hex.slice(13, 16)}`,
      `a${hex.slice(17, 20)}`,
      hex.slice(20, 32),
    ].join('-');
  };
}

function createHosts(input: {
  count: number;
  address?: string;
  seed: number;
  nowMs: number;
  newUuid(): string;
}) {
  return Array.from({ length: input.count }, (_, index): SimHost => {
    const address = input.address ?? `127.0.0.${11 + index}`;
    const serial = (input.seed * 31 + index) % 0x7fff_ffff;
    return {
      index,
      ref: `OpaqueRef:${input.newUuid()}`,
      address,
      port: 0,
      nextExternalId: 7 + ((input.seed + index * 13) % 90),
      lives: 1,
      ...createCertificate({ address, serial, nowMs: input.nowMs }),
    };
  });
}

function hasCode(error: unknown, code: string): boolean {
  return error instanceof Error && 'code' in error && error.code === code;
}

/** Binds every host to the same port; throws EADDRNOTAVAIL where the addresses do not exist. */
async function listenAll(hosts: SimHost[], make: (host: SimHost) => HostListener) {
  for (let attempt = 1; ; attempt += 1) {
    const listeners = hosts.map(make);
    try {
      let port = 0;
      for (const [index, { server }] of listeners.entries()) {
        port = await listen(server, hosts[index]?.address ?? '127.0.0.1', port);
      }
      for (const host of hosts) host.port = port;
      return listeners;
    } catch (error) {
      await Promise.all(listeners.map(({ server }) => closeServer(server)));
      if (attempt === PORT_ATTEMPTS || !hasCode(error, 'EADDRINUSE')) throw error;
    }
  }
}

async function openHosts(sim: Sim, options: SimPoolOptions): Promise<HostListener[]> {
  const seed = options.seed ?? 1;
  const common = { seed, nowMs: Date.now(), newUuid: sim.newUuid };
  const make = (host: SimHost) => createListener(sim, host, { plain: options.plain ?? false });
  try {
    sim.hosts = createHosts({ ...common, count: options.hosts ?? 2 });
    return await listenAll(sim.hosts, make);
  } catch (error) {
    if (!hasCode(error, 'EADDRNOTAVAIL')) throw error;
    // macOS has only 127.0.0.1 unless told otherwise: one host then.
    sim.hosts = createHosts({ ...common, count: 1, address: '127.0.0.1' });
    return await listenAll(sim.hosts, make);
  }
}

function createSim(
  options: SimPoolOptions,
  closing: AbortSignal,
  running: Set<Promise<unknown>>,
): Sim {
  const newUuid = createUuids(options.seed ?? 1);
  const given = Object.entries(options).filter(([key]) => key in DEFAULTS);
  return {
    persona: PERSONAS[options.persona ?? '8.3'],
    settings: { ...DEFAULTS, ...Object.fromEntries(given) },
    world: createWorld(newUuid),
    faults: createFaults(),
    clock: options.clock ?? systemClock,
    newUuid,
    hosts: [],
    masterIndex: 0,
    poolRef: '',
    disks: new Map(),
    coalesceAt: new Map(),
    closing,
    track(work) {
      running.add(work);
      work.finally(() => running.delete(work));
    },
  };
}

function findMachine(machines: SimMachine[], name: string): SimMachine {
  const [found, ...others] = machines.filter((machine) => machine.name === name);
  if (found === undefined || others.length > 0) throw new Error(`no single machine named ${name}`);
  return found;
}

/** Starts a simulated pool on ephemeral ports; close it when done. */
export async function startSimPool(options: SimPoolOptions = {}): Promise<SimPool> {
  const closing = new AbortController();
  const running = new Set<Promise<unknown>>();
  const sim = createSim(options, closing.signal, running);
  const listeners = await openHosts(sim, options);
  const ground = buildWorld(sim, options.name ?? 'simulated pool', options);
  const machines = (options.machines ?? DEFAULT_MACHINES).map((spec) =>
    buildMachine(sim, ground, spec),
  );
  const audit: Audit = createAudit(sim, listeners);
  const scheme = options.plain === true ? 'http' : 'https';
  const urls = sim.hosts.map(({ address, port }) => `${scheme}://${address}:${port}`);
  return {
    url: urls[0] ?? '',
    urls,
    username: sim.settings.username,
    password: sim.settings.password,
    caPem: sim.hosts.map(({ certPem }) => certPem).join(''),
    fingerprints: sim.hosts.map(({ fingerprint }) => fingerprint),
    machines,
    machine: (name) => findMachine(machines, name),
    world: sim.world,
    disks: sim.disks,
    faults: sim.faults,
    audit: audit.look,
    auditWhenQuiet: audit.whenQuiet,
    ...createPoolView(sim, ground),
    ...createOutage(sim, listeners),
    async close() {
      closing.abort(new Error('the simulated pool closes'));
      const closed = listeners.map(({ server }) => closeServer(server));
      for (const { sockets } of listeners) for (const socket of sockets) socket.destroy();
      await Promise.all([...closed, ...running].map((work) => work.catch(() => undefined)));
    },
  };
}
