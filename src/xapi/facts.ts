/**
 * What this pool is and can: members, master, and features found by asking, never by product name.
 *
 * `ignoreVdis`: VM.snapshot has its fourth parameter since xapi 21.4. It is called with a machine that does not exist: an older
 * xapi complains about the number of parameters first, a newer one about the machine; nothing is made either way.
 * `quiesce`: VM.snapshot_with_quiesce, removed in CH 8.1, is tried in the same way.
 * `cbt`: the master lists VDI.list_changed_blocks, and the licence does not forbid it (pool.restrictions).
 * `zstdExport`: an older host ignores the wish and sends plain data, so it cannot be tried; API version 2.14 is the
 * first of which it is known.
 */
import type { HostFacts, PoolFacts, SrFacts, SrRef } from '../ports.ts';
import { isXapiError } from './errors.ts';
import {
  flag,
  integer,
  NULL_REF,
  ref,
  text,
  textMap,
  texts,
  toRecord,
  toRecords,
  type XapiRecord,
} from './fields.ts';
import type { Session } from './session.ts';

/** CH 8.1: the first release whose /export takes use_compression=zstd. */
const ZSTD_API = [2, 14] as const;
/** SR types whose snapshot takes the disk's full size: a logical volume for each (sm drivers/LVHDSR.py). */
const THICK_TYPES = new Set(['lvm', 'lvmoiscsi', 'lvmohba', 'lvmofcoe']);

type Options = { signal: AbortSignal };

/** A host with its reference, for PBDs and certificates. */
export interface Host extends HostFacts {
  ref: string;
}

/** All members, master first is not promised. */
export async function readHosts(session: Session, options: Options): Promise<Host[]> {
  const [hosts, metrics] = await Promise.all([
    session.call('host.get_all_records', [], options).then(toRecords),
    session.call('host_metrics.get_all_records', [], options).then(toRecords),
  ]);
  const found = [...hosts].map(([hostRef, record]): Host => {
    const version = textMap(record, 'software_version');
    const own = metrics.get(text(record, 'metrics'));
    return {
      ref: hostRef,
      uuid: text(record, 'uuid'),
      nameLabel: text(record, 'name_label'),
      address: text(record, 'address'),
      enabled: flag(record, 'enabled'),
      live: own !== undefined && flag(own, 'live'),
      productBrand: version.product_brand ?? '',
      productVersion: version.product_version ?? '',
      xapiVersion: version.xapi_build ?? version.xapi ?? '',
    };
  });
  session.learnMembers(found.map((host) => host.address).filter((address) => address !== ''));
  return found.sort((a, b) => a.nameLabel.localeCompare(b.nameLabel));
}

export interface FactsInput {
  trust: PoolFacts['trust'];
  features(options: Options): Promise<PoolFacts['features']>;
}

/** The pool as it is now. */
export async function readFacts(
  session: Session,
  { trust, features }: FactsInput,
  options: Options,
): Promise<PoolFacts> {
  const [pools, hosts, found] = await Promise.all([
    session.call('pool.get_all_records', [], options).then(toRecords),
    readHosts(session, options),
    features(options),
  ]);
  const [pool = {}] = [...pools.values()];
  const master = hosts.find((host) => host.ref === text(pool, 'master'));
  return {
    uuid: text(pool, 'uuid'),
    // A pool of one host often has no name; its host has.
    nameLabel: text(pool, 'name_label') || (master?.nameLabel ?? ''),
    masterAddress: master?.address ?? '',
    haEnabled: flag(pool, 'ha_enabled'),
    currentOperations: Object.values(textMap(pool, 'current_operations')),
    upgrading: 'rolling_upgrade_in_progress' in textMap(pool, 'other_config'),
    hosts: hosts.map(({ ref: _ref, ...facts }) => facts),
    features: found,
    trust,
  };
}

/** What the API of the master offers. */
export async function readFeatures(
  session: Session,
  options: Options,
): Promise<PoolFacts['features']> {
  const [ignoreVdis, quiesce, methods, hosts, pools] = await Promise.all([
    takesIgnoreVdis(session, options),
    canQuiesce(session, options),
    listMethods(session, options),
    session.call('host.get_all_records', [], options).then(toRecords),
    session.call('pool.get_all_records', [], options).then(toRecords),
  ]);
  const restrictions = [...pools.values()].map((pool) => textMap(pool, 'restrictions'));
  return {
    ignoreVdis,
    quiesce,
    cbt:
      methods.has('VDI.list_changed_blocks') &&
      !restrictions.some((map) => map.restrict_cbt === 'true'),
    zstdExport: hosts.size > 0 && [...hosts.values()].every(knowsZstd),
  };
}

function knowsZstd(host: XapiRecord): boolean {
  const major = integer(host, 'API_version_major');
  const minor = integer(host, 'API_version_minor');
  return major > ZSTD_API[0] || (major === ZSTD_API[0] && minor >= ZSTD_API[1]);
}

function takesIgnoreVdis(session: Session, options: Options): Promise<boolean> {
  return missesMachine(session.call('VM.snapshot', [NULL_REF, 'xvault: probe', []], options));
}

function canQuiesce(session: Session, options: Options): Promise<boolean> {
  const params = [NULL_REF, 'xvault: probe'];
  return missesMachine(session.call('VM.snapshot_with_quiesce', params, options));
}

/** True when all the pool has against this call is that there is no such machine. */
async function missesMachine(call: Promise<unknown>): Promise<boolean> {
  try {
    await call;
    return false; // impossible: there is no such machine
  } catch (error) {
    if (!isXapiError(error)) throw error;
    // Anything but the complaint about the machine (no right, upgrade …) proves nothing.
    return error.code === 'HANDLE_INVALID' || error.code === 'VM_NOT_FOUND';
  }
}

async function listMethods(session: Session, options: Options): Promise<Set<string>> {
  try {
    const names = await session.callBare('system.listMethods', options);
    return new Set(Array.isArray(names) ? names.map(String) : []);
  } catch (error) {
    if (!isXapiError(error)) throw error;
    return new Set(); // not offered: then nothing is known to be there
  }
}

/** SRs by reference, with what their driver can do. */
export async function readSrs(
  session: Session,
  refs: readonly string[],
  options: Options,
): Promise<Map<string, SrFacts>> {
  if (refs.length === 0) return new Map();
  const [drivers, ...records] = await Promise.all([
    readDrivers(session, options),
    ...refs.map((sr) => session.call('SR.get_record', [sr], options).then(toRecord)),
  ]);
  return new Map(refs.map((sr, at) => [sr, toSrFacts(sr, records[at] ?? {}, drivers)] as const));
}

/** What the driver of a type of SR can do. */
export interface SrDriver {
  canSnapshot: boolean;
  canCreate: boolean;
}

/** Drivers by the type of their SRs. */
export async function readDrivers(
  session: Session,
  options: Options,
): Promise<Map<string, SrDriver>> {
  const drivers = await session.call('SM.get_all_records', [], options).then(toRecords);
  return new Map([...drivers.values()].map((driver) => [text(driver, 'type'), toDriver(driver)]));
}

function toDriver(driver: XapiRecord): SrDriver {
  const features = Object.keys(textMap(driver, 'features'));
  const all = [...texts(driver, 'capabilities'), ...features];
  return { canSnapshot: all.includes('VDI_SNAPSHOT'), canCreate: all.includes('VDI_CREATE') };
}

/** The facts in an SR's record. */
export function toSrFacts(
  srRef: string,
  record: XapiRecord,
  drivers: ReadonlyMap<string, SrDriver>,
): SrFacts {
  const type = text(record, 'type');
  return {
    ref: srRef as SrRef,
    uuid: text(record, 'uuid'),
    nameLabel: text(record, 'name_label'),
    type,
    shared: flag(record, 'shared'),
    physicalSizeBytes: integer(record, 'physical_size'),
    physicalUtilisationBytes: integer(record, 'physical_utilisation'),
    virtualAllocationBytes: integer(record, 'virtual_allocation'),
    canSnapshot: drivers.get(type)?.canSnapshot ?? false,
    thick: THICK_TYPES.has(type),
  };
}

/** Hosts that hold each SR attached right now. */
export async function readAttachments(
  session: Session,
  options: Options,
): Promise<Map<string, Set<string>>> {
  const pbds = await session.call('PBD.get_all_records', [], options).then(toRecords);
  const hosts = new Map<string, Set<string>>();
  for (const pbd of pbds.values()) {
    const sr = ref(pbd, 'SR');
    const host = ref(pbd, 'host');
    if (sr === undefined || host === undefined || !flag(pbd, 'currently_attached')) continue;
    const known = hosts.get(sr) ?? new Set();
    hosts.set(sr, known.add(host));
  }
  return hosts;
}
