/**
 * What an ova.xml of ours says of the machine, as far as a restore must know it before a byte is sent.
 *
 * Read from the archive itself: backup.json tells of disks, not of networks, addresses or versions. Nothing here leaves
 * the process but names, uuids, sizes and MAC addresses; what else stands in ova.xml may be secret.
 */
import { compareDevices } from './archive-ids.ts';
import { type Ova, type OvaObject, textOf } from './ova.ts';
import type { XmlStruct } from './xml-value.ts';

/** A network interface of the machine. */
export interface OvaInterface {
  id: string;
  device: string;
  mac: string;
  /** `OvaNetwork.id`. */
  networkId: string;
}

/** A network the machine was on. */
export interface OvaNetwork {
  id: string;
  uuid: string;
  nameLabel: string;
  bridge: string;
}

/** A disk of the archive. */
export interface OvaDiskFacts {
  archiveId: string;
  vdiUuid: string;
  nameLabel: string;
  userdevice: string;
  virtualSizeBytes: number;
  bootable: boolean;
  readOnly: boolean;
}

export interface OvaFacts {
  uuid: string;
  nameLabel: string;
  nameDescription: string;
  /** Seed of the addresses XenServer makes for it; '' where it has none. */
  macSeed: string;
  /** Of the toolstack that wrote it; importers compare the pair with their own. */
  xapi: { major: number; minor: number };
  productVersion: string;
  /** In the order of the archive. */
  disks: OvaDiskFacts[];
  /** By device. */
  interfaces: OvaInterface[];
  networks: OvaNetwork[];
  /** Its secrets lie in the archive, and only hosts since 23.9 take them. */
  hasTpm: boolean;
  /** Drives with a medium in them. */
  loadedDrives: number;
}

/** Sums up an ova.xml. */
export function describeOva({ root, objects, machine, disks }: Ova): OvaFacts {
  const version = root.get('version') as XmlStruct;
  const { record } = machine;
  const of = (className: string) => objects.filter((object) => object.className === className);
  return {
    uuid: textOf(record.get('uuid')),
    nameLabel: textOf(record.get('name_label')),
    nameDescription: textOf(record.get('name_description')),
    macSeed: macSeedOf(record),
    xapi: {
      major: Number(textOf(version.get('xapi_major'))) || 0,
      minor: Number(textOf(version.get('xapi_minor'))) || 0,
    },
    productVersion: textOf(version.get('product_version')),
    disks: disks.map(({ vdi, vbd, virtualSizeBytes }) => ({
      archiveId: vdi.id,
      vdiUuid: textOf(vdi.record.get('uuid')),
      nameLabel: textOf(vdi.record.get('name_label')),
      userdevice: textOf(vbd.record.get('userdevice')),
      virtualSizeBytes,
      bootable: textOf(vbd.record.get('bootable')) === '1',
      readOnly: textOf(vbd.record.get('mode')) === 'RO',
    })),
    interfaces: of('VIF')
      .map(describeInterface)
      .sort((a, b) => compareDevices(a.device, b.device)),
    networks: of('network').map(({ id, record: network }) => ({
      id,
      uuid: textOf(network.get('uuid')),
      nameLabel: textOf(network.get('name_label')),
      bridge: textOf(network.get('bridge')),
    })),
    hasTpm: of('VTPM').length > 0,
    loadedDrives: of('VBD').filter(isLoaded).length,
  };
}

/** A drive whose medium is not in the archive: CD or floppy. */
export function isRemovable({ record }: OvaObject): boolean {
  const type = textOf(record.get('type'));
  return type === 'CD' || type === 'Floppy';
}

function isLoaded(vbd: OvaObject): boolean {
  return isRemovable(vbd) && textOf(vbd.record.get('empty')) !== '1';
}

function describeInterface({ id, record }: OvaObject): OvaInterface {
  return {
    id,
    device: textOf(record.get('device')),
    mac: textOf(record.get('MAC')),
    networkId: textOf(record.get('network')),
  };
}

function macSeedOf(record: XmlStruct): string {
  const otherConfig = record.get('other_config');
  return otherConfig instanceof Map ? textOf(otherConfig.get('mac_seed')) : '';
}
