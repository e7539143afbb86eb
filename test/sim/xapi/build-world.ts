/**
 * Fills an empty database with a pool: hosts, networks, storage, drivers, control domains, default templates.
 */
import { formatServertime, masterRef, nowDate, type Sim, type SimHost } from './sim.ts';
import { NULL_REF } from './values.ts';

const TIB = 1_099_511_627_776;

/** The drivers and what they can do; only those a backup meets. */
const DRIVERS: readonly (readonly [type: string, capabilities: string[]])[] = [
  ['nfs', ['VDI_CREATE', 'VDI_DELETE', 'VDI_SNAPSHOT', 'VDI_CLONE', 'VDI_CONFIG_CBT']],
  ['ext', ['VDI_CREATE', 'VDI_DELETE', 'VDI_SNAPSHOT', 'VDI_CLONE', 'VDI_CONFIG_CBT']],
  ['lvm', ['VDI_CREATE', 'VDI_DELETE', 'VDI_SNAPSHOT', 'VDI_CLONE', 'VDI_CONFIG_CBT']],
  ['lvmoiscsi', ['VDI_CREATE', 'VDI_DELETE', 'VDI_SNAPSHOT', 'VDI_CLONE', 'VDI_CONFIG_CBT']],
  ['iso', ['VDI_ATTACH', 'VDI_DETACH', 'SR_ATTACH']],
  ['udev', ['VDI_ATTACH', 'VDI_DETACH', 'VDI_UPDATE']],
];

/** Made-up but shaped as the real ones: what a listing of 40 default templates weighs. */
const TEMPLATES = [
  'AlmaLinux 9',
  'CentOS Stream 9',
  'Debian Bookworm 12',
  'Debian Trixie 13',
  'Other install media',
  'Red Hat Enterprise Linux 9',
  'Rocky Linux 9',
  'SUSE Linux Enterprise 15 (64-bit)',
  'Ubuntu Noble Numbat 24.04',
  'Windows 11 (64-bit)',
  'Windows Server 2022 (64-bit)',
  'Windows Server 2025 (64-bit)',
];

const ISOS = ['debian-13.iso', 'win-tools.iso', 'grml.iso'];

/** A storage of the pool; `name` is what machines and tests call it by. */
export interface StorageSpec {
  name: string;
  nameLabel: string;
  type: 'nfs' | 'ext' | 'lvm' | 'lvmoiscsi' | 'iso' | 'udev';
  contentType?: 'user' | 'iso' | 'disk';
  shared?: boolean;
  /** Indexes of the hosts that have it plugged; all when absent. */
  hosts?: number[];
  /** 20 TiB unless given; -1: the storage does not tell. */
  sizeBytes?: number;
  /** All of a size that is given, else 19 TiB. */
  freeBytes?: number;
}

export interface NetworkSpec {
  name: string;
  bridge: string;
}

/** What a pool is made of when it shall not be the usual one. */
export interface GroundSpec {
  /** The first one is the management network; machines' cards take turns. */
  networks?: readonly NetworkSpec[];
  /** All storages, instead of the usual ones. */
  storages?: readonly StorageSpec[];
  /** Name of the pool's default storage; '' for none. `nfs`, or else the first one, unless given. */
  defaultStorage?: string;
}

const NETWORKS: readonly NetworkSpec[] = [
  { name: 'Pool-wide network associated with eth0', bridge: 'xenbr0' },
  { name: 'VM network', bridge: 'xenbr1' },
];

/** Refs of what machines are put on. */
export interface Ground {
  storage: Map<string, string>;
  isos: Map<string, string>;
  networks: string[];
}

function addDrivers(sim: Sim): void {
  for (const [type, capabilities] of DRIVERS) {
    const features = Object.fromEntries(capabilities.map((name) => [name, 1]));
    sim.world.create('SM', { type, name_label: type, capabilities, features });
  }
}

function addHost(sim: Sim, host: SimHost, network: string): void {
  const { persona, world } = sim;
  const metrics = world.create('host_metrics', { last_updated: nowDate(sim) });
  const { major, minor, build } = persona.xapi;
  world.create(
    'host',
    {
      name_label: `host-${host.index + 1}`,
      hostname: `host-${host.index + 1}`,
      address: host.address,
      metrics,
      API_version_minor: persona.apiMinor,
      https_only: persona.httpsOnly,
      software_version: {
        product_brand: persona.productBrand,
        product_version: persona.productVersion,
        product_version_text: persona.productVersion,
        build_number: persona.buildNumber,
        hostname: 'localhost',
        date: '2026-05-12',
        xapi: `${major}.${minor}`,
        xapi_build: build,
        xen: '4.17.5-13',
        linux: '4.19.0+1',
        platform_name: 'XCP',
        platform_version: '3.4.0',
        network_backend: 'openvswitch',
      },
    },
    host.ref,
  );
  const dom0 = world.create('VM', {
    name_label: `Control domain on host: host-${host.index + 1}`,
    is_control_domain: true,
    power_state: 'Running',
    resident_on: host.ref,
    domid: 0,
    domain_type: 'pv',
    other_config: { is_system_domain: 'true' },
    metrics: world.create('VM_metrics', { last_updated: nowDate(sim) }),
  });
  world.set('host', host.ref, { control_domain: dom0 });
  world.create('PIF', { host: host.ref, network, IP: host.address, device: 'eth0' });
  const colons = (host.fingerprint.match(/../g) ?? []).join(':').toUpperCase();
  world.create('Certificate', {
    host: host.ref,
    type: 'host_internal',
    fingerprint: colons,
    fingerprint_sha256: colons,
    not_before: nowDate(sim),
    not_after: new Date(formatServertime(sim).getTime() + 7_776_000_000),
  });
}

function addStorage(sim: Sim, spec: StorageSpec): string {
  const { sizeBytes = 20 * TIB } = spec;
  const freeBytes = spec.freeBytes ?? spec.sizeBytes ?? 19 * TIB;
  const sr = sim.world.create('SR', {
    name_label: spec.nameLabel,
    type: spec.type,
    content_type: spec.contentType ?? 'user',
    shared: spec.shared === true,
    physical_size: sizeBytes,
    physical_utilisation: sizeBytes < 0 ? sizeBytes : sizeBytes - freeBytes,
    virtual_allocation: 2 * TIB,
  });
  const hosts = spec.hosts?.flatMap((index) => sim.hosts[index] ?? []) ?? sim.hosts;
  for (const host of hosts) sim.world.create('PBD', { SR: sr, host: host.ref });
  return sr;
}

function usualStorages(sim: Sim): StorageSpec[] {
  const iso = { type: 'iso', contentType: 'iso', sizeBytes: -1, shared: true } as const;
  return [
    { name: 'nfs', nameLabel: 'NFS store', type: 'nfs', shared: true },
    { name: 'lvm', nameLabel: 'iSCSI store', type: 'lvmoiscsi', shared: true },
    { name: 'usb', nameLabel: 'Removable storage', type: 'udev', contentType: 'disk', hosts: [0] },
    { name: 'iso', nameLabel: 'ISO library', ...iso },
    ...sim.hosts.map(({ index }): StorageSpec => {
      const nameLabel = `Local storage ${index + 1}`;
      return { name: `local:${index}`, nameLabel, type: 'ext', hosts: [index] };
    }),
  ];
}

function addIsos(sim: Sim, sr: string): Map<string, string> {
  return new Map(
    ISOS.map((name): [string, string] => [
      name,
      sim.world.create('VDI', {
        name_label: name,
        location: name,
        SR: sr,
        virtual_size: 4_194_304,
        physical_utilisation: 4_194_304,
        read_only: true,
      }),
    ]),
  );
}

function addTemplates(sim: Sim): void {
  for (const name of TEMPLATES) {
    sim.world.create('VM', {
      name_label: name,
      name_description: `Clones of this template will install ${name}`,
      is_a_template: true,
      is_default_template: true,
      reference_label: name.toLowerCase().replace(/\W+/g, '-'),
      other_config: {
        default_template: 'true',
        'install-methods': 'cdrom,nfs,http,ftp',
        disks: '<provision><disk bootable="true" device="0" size="10737418240"/></provision>',
      },
      recommendations:
        '<restrictions><restriction field="memory-static-max" max="1649267441664"/>' +
        '<restriction field="vcpus-max" max="32"/></restrictions>',
    });
  }
}

/** Builds everything but the machines. */
export function buildWorld(sim: Sim, name: string, spec: GroundSpec = {}): Ground {
  const { world } = sim;
  addDrivers(sim);
  const networks = (spec.networks ?? NETWORKS).map(({ name: label, bridge }) =>
    world.create('network', { name_label: label, bridge }),
  );
  const [management = NULL_REF] = networks;
  for (const host of sim.hosts) addHost(sim, host, management);
  const specs = spec.storages ?? usualStorages(sim);
  const storage = new Map(specs.map((one): [string, string] => [one.name, addStorage(sim, one)]));
  const [first = NULL_REF] = storage.values();
  const wanted = spec.defaultStorage;
  const standard =
    wanted === undefined ? (storage.get('nfs') ?? first) : (storage.get(wanted) ?? NULL_REF);
  sim.poolRef = world.create('pool', {
    name_label: name,
    master: masterRef(sim),
    default_SR: standard,
    suspend_image_SR: standard,
  });
  addTemplates(sim);
  const library = storage.get('iso');
  const isos = library === undefined ? new Map<string, string>() : addIsos(sim, library);
  return { storage, isos, networks };
}
