/**
 * What is there after a restore beside what was wanted. Pure.
 *
 * The importer has checked every block's checksum, and its task said success; this looks at what it made of the rest. A
 * difference fails the restore, and what was made is removed: whoever needs the machine needs this one. Whether it runs by
 * now is none: a try before this one, or somebody at the pool, may have started it.
 */
import type { RestoreCheckpoint, Restored, RestorePlan } from '../catalog/restore.ts';
import { BackupError } from '../errors.ts';
import type { ImportedMachine } from '../ports.ts';

/** VHD rounds a size up to whole 2 MiB, LVM to whole extents of 4 MiB. */
const ROUNDING_BYTES = 4 * 1024 * 1024;

type Shown = Pick<Restored, 'vm' | 'disks' | 'networks'>;

/** The machine as the job tells it. Errors: `target_failed` with all that differs. */
export function checkMachine(found: ImportedMachine, plan: RestorePlan): Shown & { vm: object } {
  const wrong = [
    ...differing('kind', found.kind, 'vm'),
    ...(plan.uuid === undefined ? [] : differing('uuid', found.uuid, plan.uuid)),
    ...differing('HA restart priority', found.haRestartPriority, ''),
    ...(found.autoPoweron ? ['it is started with its host'] : []),
    ...checkDisks(found, plan),
    ...checkNetworks(found, plan),
  ];
  if (wrong.length > 0) {
    throw new BackupError('target_failed', `check restored machine: ${wrong.join('; ')}`, {
      retry: 'never',
      details: { vm: found.uuid, differences: wrong },
    });
  }
  return {
    vm: { uuid: found.uuid, name: found.nameLabel },
    disks: found.disks.map(({ userdevice, vdiUuid, virtualSizeBytes, sr }) => ({
      userdevice,
      vdi_uuid: vdiUuid,
      virtual_size_bytes: virtualSizeBytes,
      sr: sr.nameLabel,
    })),
    networks: found.networks.map(({ device, mac, networkName }) => ({
      device,
      mac,
      network: networkName,
    })),
  };
}

/** Disks without a machine, as they were made. */
export function describeDisks(plan: RestorePlan, { disks }: RestoreCheckpoint): Restored['disks'] {
  const uuids = Object.values(disks).map(({ uuid }) => uuid);
  return plan.disks.map(({ userdevice, virtual_size_bytes: bytes, sr }, i) => ({
    userdevice,
    vdi_uuid: uuids[i] ?? '',
    virtual_size_bytes: bytes,
    sr: sr.name,
  }));
}

function checkDisks({ disks }: ImportedMachine, plan: RestorePlan): string[] {
  const wrong = differing('disks', devices(disks, 'userdevice'), devices(plan.disks, 'userdevice'));
  for (const { userdevice, virtual_size_bytes: size, sr } of plan.disks) {
    const found = disks.find((disk) => disk.userdevice === userdevice);
    if (found === undefined) continue;
    const more = found.virtualSizeBytes - size;
    if (more < 0 || more >= ROUNDING_BYTES) {
      wrong.push(...differing(`size of disk ${userdevice}`, found.virtualSizeBytes, size));
    }
    wrong.push(...differing(`storage of disk ${userdevice}`, found.sr.uuid, sr.uuid));
  }
  return wrong;
}

function checkNetworks({ networks }: ImportedMachine, plan: RestorePlan): string[] {
  const wanted = plan.networks.filter(({ to }) => to !== undefined);
  const wrong = differing('interfaces', devices(networks, 'device'), devices(wanted, 'device'));
  for (const { device, mac, to } of wanted) {
    const found = networks.find((nic) => nic.device === device);
    if (found === undefined) continue;
    wrong.push(...differing(`network of interface ${device}`, found.networkUuid, to?.uuid));
    const isSame = found.mac.toLowerCase() === mac.toLowerCase();
    if (plan.mac === 'keep' && !isSame) {
      wrong.push(...differing(`MAC of interface ${device}`, found.mac, mac));
    }
    if (plan.mac === 'new' && (isSame || found.mac === '')) {
      wrong.push(`interface ${device} has no MAC of its own`);
    }
  }
  return wrong;
}

function differing(what: string, found: unknown, wanted: unknown): string[] {
  return found === wanted ? [] : [`${what} is ${String(found)}, not ${String(wanted)}`];
}

function devices<K extends string>(list: readonly Record<K, string>[], key: K): string {
  return list
    .map((one) => one[key])
    .sort()
    .join(' ');
}
