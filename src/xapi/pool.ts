/**
 * One XenServer or XCP-ng pool as the engine needs it: the port `Pool` over XenAPI.
 *
 * Everything is put together here; what the pool refuses leaves as a BackupError that says what was tried. See docs/xenapi.md.
 */
import { BackupError } from '../errors.ts';
import type { Cancellable, Clock, Log, Meter, Pool, PoolFacts } from '../ports.ts';
import { NO_TRACER, type Tracer } from '../tracer.ts';
import { createConnections } from './connection.ts';
import { isXapiError, translate } from './errors.ts';
import { createExports } from './export.ts';
import { type Host, readFacts, readFeatures, readHosts } from './facts.ts';
import { findLeftovers, removeLeftover } from './leftovers.ts';
import { parseOrigin } from './origin.ts';
import { mapParallel } from './parallel.ts';
import { createPoolImports } from './pool-imports.ts';
import { createRedactor } from './redact.ts';
import { createSession, type Session } from './session.ts';
import { findSnapshots, markSnapshot, removeSnapshot, snapshotVm } from './snapshot.ts';
import { tracedSession } from './traced.ts';
import { createTransfers } from './transfer.ts';
import { createTrustBook, fingerprintOf, type PoolTrust, type TrustBook } from './trust.ts';
import { findVms, inspectVm, listVms } from './vm.ts';

export interface PoolSettings {
  name: string;
  /** Members to ask, `https://host[:port]`; scheme and port count for members the pool names, too. */
  urls: readonly string[];
  username: string;
  password: string | { reveal(): string };
  trust: PoolTrust;
  /** Marks our sessions in the pool. */
  originator?: string;
  connectTimeoutMs?: number;
  /** One call, wrong passwords (5 s) and slow records included. */
  callTimeoutMs?: number;
  firstByteTimeoutMs?: number;
  /** An export without bytes and without progress of its task. */
  stallTimeoutMs?: number;
  taskPollMs?: number;
}

export interface PoolDeps {
  clock: Clock;
  log: Log;
  meter: Meter;
  /** Nothing is traced unless given. */
  tracer?: Tracer;
}

const DEFAULTS = {
  originator: 'xvault',
  connectTimeoutMs: 10_000,
  callTimeoutMs: 60_000,
  firstByteTimeoutMs: 30 * 60_000,
  stallTimeoutMs: 5 * 60_000,
  taskPollMs: 10_000,
};

/** The pool behind these addresses. Nothing is opened before the first call. */
export function createXapiPool(given: PoolSettings, deps: PoolDeps): Pool {
  const settings = { ...DEFAULTS, ...given };
  const origins = settings.urls.map(parseOrigin);
  const trust = createTrustBook(settings.trust);
  const redactor = createRedactor();
  const password =
    typeof settings.password === 'string' ? settings.password : settings.password.reveal();
  redactor.add(password);
  const log = deps.log.child({ pool: settings.name });
  const shared = { ...deps, log, trust, redactor };
  const { connectTimeoutMs } = settings;
  const connections = createConnections({ trust, connectTimeoutMs });
  const session = tracedSession(
    createSession(
      { ...settings, pool: settings.name, origins, password },
      { ...shared, connections },
    ),
    deps.tracer ?? NO_TRACER,
    { pool: settings.name, address: origins[0]?.hostname },
  );
  const task = { ...shared, session };
  const learnCertificate = createCertificates(session, trust);
  const features = createFeatures(session, learnCertificate);
  const openTransfer = createTransfers(settings, {
    ...task,
    isConfigured: (address) => origins.some((origin) => origin.hostname === address),
    learnCertificate,
  });
  const openExport = createExports(task, openTransfer);
  const shownTrust = origins.some((origin) => origin.protocol === 'http:')
    ? 'insecure' // nothing is checked on a plain connection, whatever the setting
    : trust.kind;
  const facts = (o: Cancellable) =>
    told('read pool', readFacts(session, { trust: shownTrust, features }, o));
  return {
    ...createPoolImports({ ...task, settings, openTransfer, facts, told, foundVm }),
    name: settings.name,
    facts,
    listVms: (o) => told('list machines', listVms(session, o)),
    findVms: (name, o) => told('find machine', findVms(session, name, o)),
    inspectVm: (vm, o) => told('look at machine', foundVm(inspectVm(session, vm, o))),
    snapshotVm: (input, o) => told('make snapshot', snapshotVm(task, input, o)),
    markSnapshot: (ref, marker, o) => told('mark snapshot', markSnapshot(task, ref, marker, o)),
    findSnapshots: (input, o) => told('find snapshots', findSnapshots(task, input, o)),
    removeSnapshot: (snapshot, o) => told('remove snapshot', removeSnapshot(task, snapshot, o)),
    findLeftovers: (input, o) => told('find leftovers', findLeftovers(task, input, o)),
    removeLeftover: (leftover, o) => told('remove leftover', removeLeftover(task, leftover, o)),
    openExport: (input, o) => told('start export', openExport(input, o)),
    close: session.close,
  };
}

async function told<T>(verb: string, work: Promise<T>): Promise<T> {
  try {
    return await work;
  } catch (error) {
    throw translate(error, verb);
  }
}

async function foundVm<T>(work: Promise<T>): Promise<T> {
  try {
    return await work;
  } catch (error) {
    if (!isXapiError(error, 'HANDLE_INVALID') || error.params[0] !== 'VM') throw error;
    throw new BackupError('not_found', 'look at machine: it does not exist any more', {
      details: { xapi_code: error.code, xapi_params: error.params },
      cause: error,
    });
  }
}

type LearnCertificate = (host: Host, options: { signal: AbortSignal }) => Promise<void>;

/**
 * Asked once for each session: a new one may mean a new master, or an upgraded one.
 *
 * The members' certificates are learned on the way, so that any of them is trusted when it becomes master.
 */
function createFeatures(
  session: Session,
  learnCertificate: LearnCertificate,
): (options: Cancellable) => Promise<PoolFacts['features']> {
  let known: { of: string; features: PoolFacts['features'] } | undefined;
  return async (options) => {
    const { ref } = await session.open(options);
    if (known?.of === ref) return known.features;
    const features = await readFeatures(session, options);
    const live = (await readHosts(session, options)).filter((host) => host.live);
    await mapParallel(live, (host) => learnCertificate(host, options));
    known = { of: ref, features };
    return features;
  };
}

/**
 * Tells the trust book the certificate of a member, as the master knows it.
 *
 * Asked before each export: certificates are renewed. A host that cannot be asked is judged by the setting alone.
 */
function createCertificates(session: Session, trust: TrustBook): LearnCertificate {
  return async (host, options) => {
    if (trust.kind === 'insecure') return;
    try {
      const pem = await session.call('host.get_server_certificate', [host.ref], options);
      const fingerprint = fingerprintOf(String(pem));
      if (fingerprint !== undefined) trust.learn(host.address, fingerprint);
    } catch (error) {
      if (!isXapiError(error)) throw error;
    }
  };
}
