/**
 * How a test sees into a simulated pool without going through its calls: disks' contents, networks, storages.
 */
import type { SimMachineDisk } from './build-machine.ts';
import type { Ground } from './build-world.ts';
import { type Sim, seesStorage } from './sim.ts';
import { freeBytes } from './storage.ts';
import { emptyDisk } from './tracked-disk.ts';
import { flag, int, list, text } from './values.ts';

export interface SimNetwork {
  ref: string;
  uuid: string;
  name: string;
  bridge: string;
}

export interface SimStorage {
  /** What machines' specs call it; '' for one made later. */
  key: string;
  ref: string;
  uuid: string;
  name: string;
  type: string;
  freeBytes: number;
  /** Indexes of the hosts that see it. */
  hosts: number[];
  isDefault: boolean;
}

export interface PoolView {
  /**
   * The disks of any machine, imported ones too, by user device: what a guest would read. A disk may be larger than
   * the one it was imported from (VHDs are whole 2 MiB): `clipDisk` compares it with the original.
   */
  disksOf(vm: string): SimMachineDisk[];
  networks(): SimNetwork[];
  storages(): SimStorage[];
  /** The storage that machines' specs call `key`; throws when there is none. */
  storage(key: string): SimStorage;
}

/** The view of one pool. */
export function createPoolView(sim: Sim, ground: Ground): PoolView {
  const keys = new Map([...ground.storage].map(([key, ref]) => [ref, key]));
  const storages = () =>
    sim.world.all('SR').map(
      ([ref, sr]): SimStorage => ({
        key: keys.get(ref) ?? '',
        ref,
        uuid: text(sr, 'uuid'),
        name: text(sr, 'name_label'),
        type: text(sr, 'type'),
        freeBytes: freeBytes(sim, ref),
        hosts: sim.hosts
          .filter((host) => seesStorage(sim, host.ref, [ref]))
          .map(({ index }) => index),
        isDefault: sim.world.get('pool', sim.poolRef).default_SR === ref,
      }),
    );
  return {
    storages,
    storage(key) {
      const found = storages().find((storage) => storage.key === key);
      if (found === undefined) throw new Error(`no storage named ${key}`);
      return found;
    },
    networks: () =>
      sim.world.all('network').map(([ref, network]) => ({
        ref,
        uuid: text(network, 'uuid'),
        name: text(network, 'name_label'),
        bridge: text(network, 'bridge'),
      })),
    disksOf: (vm) =>
      list(sim.world.get('VM', vm), 'VBDs')
        .map((ref) => sim.world.get('VBD', ref))
        .filter((vbd) => text(vbd, 'type') === 'Disk' && !flag(vbd, 'empty'))
        .map((vbd): SimMachineDisk => {
          const ref = text(vbd, 'VDI');
          const vdi = sim.world.get('VDI', ref);
          return {
            ref,
            uuid: text(vdi, 'uuid'),
            name: text(vdi, 'name_label'),
            userdevice: text(vbd, 'userdevice'),
            disk: sim.disks.get(ref) ?? emptyDisk(int(vdi, 'virtual_size')),
          };
        })
        .sort((a, b) => Number(a.userdevice) - Number(b.userdevice)),
  };
}
