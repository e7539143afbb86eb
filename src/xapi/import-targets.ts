/**
 * Where a machine can be restored to, and what it would collide with there: read at once, judged by whoever restores.
 *
 * The importer compares the archive's xapi_major and xapi_minor with its own; a host tells its own as
 * `software_version.xapi` ("1.20", "26.1"). Members differ while a pool is being upgraded, and any may be asked: the lowest
 * counts. An SR takes disks when its driver makes them (VDI_CREATE), it is no ISO library, and a live host holds it attached.
 * mac_seed of snapshots counts, too, as xapi counts it. Source: xen-api ocaml/xapi/importexport.ml (assert_compatible),
 * import.ml (assert_can_restore_backup).
 */
import type { ImportNetwork, ImportSr, ImportTargets, PresentMachine } from '../imports.ts';
import type { Cancellable, PoolFacts } from '../ports.ts';
import {
  type Host,
  readAttachments,
  readDrivers,
  readHosts,
  type SrDriver,
  toSrFacts,
} from './facts.ts';
import { integer, ref, text, textMap, texts, toRecords, type XapiRecord } from './fields.ts';
import type { Session } from './session.ts';
import { byName, ORDINARY, toVmFacts } from './vm.ts';

const SNAPSHOTS = 'field "is_a_snapshot"="true"';

/** The pool as a target, as in imports.ts. */
export async function readTargets(
  session: Session,
  input: { facts(options: Cancellable): Promise<PoolFacts> },
  options: Cancellable,
): Promise<ImportTargets> {
  const all = (cls: string) => session.call(`${cls}.get_all_records`, [], options).then(toRecords);
  const [facts, hosts, pools, srs, networks, machines] = await Promise.all([
    input.facts(options),
    all('host'),
    all('pool'),
    readImportSrs(session, options),
    all('network'),
    readMachines(session, options),
  ]);
  const [pool = {}] = [...pools.values()];
  const defaultSr = ref(pool, 'default_SR');
  const master = hosts.get(text(pool, 'master')) ?? {};
  return {
    version: lowest([...hosts.values()].map(versionOf)),
    productVersion: textMap(master, 'software_version').product_version ?? '',
    upgrading: facts.upgrading ?? false,
    // one release brought both: CH 8.1
    readsZstd: facts.features.zstdExport,
    readsXxhash: facts.features.zstdExport,
    srs: srs
      .map((sr) => ({ ...sr, isDefault: sr.ref === defaultSr }))
      .sort((a, b) => Number(b.isDefault) - Number(a.isDefault) || byName(a, b)),
    networks: [...networks.values()].map(toNetwork).sort(byName),
    machines,
  };
}

function versionOf(host: XapiRecord): ImportTargets['version'] {
  const [major = '', minor = ''] = (textMap(host, 'software_version').xapi ?? '').split('.');
  return { major: Number.parseInt(major, 10) || 0, minor: Number.parseInt(minor, 10) || 0 };
}

function lowest(versions: readonly ImportTargets['version'][]): ImportTargets['version'] {
  const [first] = [...versions].sort((a, b) => a.major - b.major || a.minor - b.minor);
  return first ?? { major: 0, minor: 0 };
}

async function readImportSrs(
  session: Session,
  options: Cancellable,
): Promise<Omit<ImportSr, 'isDefault'>[]> {
  const [records, drivers, attachments, hosts] = await Promise.all([
    session.call('SR.get_all_records', [], options).then(toRecords),
    readDrivers(session, options),
    readAttachments(session, options),
    readHosts(session, options),
  ]);
  return [...records].map(([srRef, record]) => {
    const holders = attachments.get(srRef) ?? new Set();
    const attached = hosts.filter((host) => host.live && holders.has(host.ref));
    return toImportSr(toSrFacts(srRef, record, drivers), { record, drivers, attached });
  });
}

function toImportSr(
  facts: ReturnType<typeof toSrFacts>,
  input: { record: XapiRecord; drivers: ReadonlyMap<string, SrDriver>; attached: readonly Host[] },
): Omit<ImportSr, 'isDefault'> {
  const { record, drivers, attached } = input;
  const { physicalSizeBytes, physicalUtilisationBytes } = facts;
  const known = physicalSizeBytes > 0 && physicalUtilisationBytes >= 0;
  const creates = drivers.get(facts.type)?.canCreate ?? true; // the pool refuses if it cannot
  return {
    ...facts,
    attachedHosts: attached.map(({ uuid, nameLabel, address }) => ({ uuid, nameLabel, address })),
    freeBytes: known ? Math.max(0, physicalSizeBytes - physicalUtilisationBytes) : -1,
    takesDisks: creates && text(record, 'content_type') !== 'iso' && attached.length > 0,
  };
}

function toNetwork(record: XapiRecord): ImportNetwork {
  return {
    uuid: text(record, 'uuid'),
    nameLabel: text(record, 'name_label'),
    bridge: text(record, 'bridge'),
  };
}

async function readMachines(session: Session, options: Cancellable): Promise<PresentMachine[]> {
  const where = (expression: string) =>
    session.call('VM.get_all_records_where', [expression], options).then(toRecords);
  const [ordinary, snapshots, vifs] = await Promise.all([
    where(ORDINARY),
    where(SNAPSHOTS),
    session.call('VIF.get_all_records', [], options).then(toRecords),
  ]);
  const macs = (record: XapiRecord) =>
    texts(record, 'VIFs').map((vif) => text(vifs.get(vif) ?? {}, 'MAC').toLowerCase());
  return [...new Map([...ordinary, ...snapshots])]
    .map(([vmRef, record]) => ({
      ...toVmFacts(vmRef, record),
      macSeed: textMap(record, 'other_config').mac_seed ?? '',
      macs: macs(record).filter((mac) => mac !== ''),
      version: integer(record, 'version', 0),
    }))
    .sort(byName);
}
