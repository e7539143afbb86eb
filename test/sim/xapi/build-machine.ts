/**
 * Puts one machine of a spec into the database, with its disks, drives and network cards.
 */
import type { DiskSpec, MachineSpec } from '../machines.ts';
import type { Ground } from './build-world.ts';
import { setPower } from './power-calls.ts';
import { nowDate, type Sim } from './sim.ts';
import { type TrackedDisk, trackDisk } from './tracked-disk.ts';
import { NULL_REF, type Rec } from './values.ts';

/** A live disk of a machine; writes go through `disk`, as a guest's would. */
export interface SimMachineDisk {
  ref: string;
  uuid: string;
  name: string;
  userdevice: string;
  disk: TrackedDisk;
}

export interface SimMachine {
  ref: string;
  uuid: string;
  name: string;
  disks: SimMachineDisk[];
}

/** Where the CD drive sits, as XenCenter puts it. */
const CD_DEVICE = '3';

function storageRef(sim: Sim, ground: Ground, name: string): string {
  const local = /^local:(\d+)$/.exec(name);
  const wanted = local === null ? name : `local:${Number(local[1]) % sim.hosts.length}`;
  const ref = ground.storage.get(wanted);
  if (ref === undefined) throw new Error(`no storage named ${name}`);
  return ref;
}

function smConfig(spec: DiskSpec): Rec {
  return {
    ...(spec.raw === true ? { type: 'raw' } : {}),
    ...(spec.qcow2 === true ? { 'image-format': 'qcow2' } : {}),
  };
}

function addDisk(
  sim: Sim,
  ground: Ground,
  input: { vm: string; spec: DiskSpec; userdevice: string },
): SimMachineDisk {
  const { vm, spec, userdevice } = input;
  const disk = trackDisk(spec.open());
  const uuid = sim.newUuid();
  const ref = sim.world.create('VDI', {
    uuid,
    location: uuid,
    name_label: spec.name,
    SR: storageRef(sim, ground, spec.storage),
    virtual_size: disk.sizeBytes,
    physical_utilisation: disk.sizeBytes,
    sharable: spec.sharable === true,
    on_boot: spec.onBootReset === true ? 'reset' : 'persist',
    sm_config: smConfig(spec),
  });
  sim.disks.set(ref, disk);
  sim.world.create('VBD', {
    VM: vm,
    VDI: ref,
    userdevice,
    device: `xvd${String.fromCharCode(97 + Number(userdevice))}`,
    bootable: spec.bootable === true,
  });
  return { ref, uuid, name: spec.name, userdevice, disk };
}

function addCd(sim: Sim, ground: Ground, vm: string, name: string): void {
  const iso = name === '' ? NULL_REF : ground.isos.get(name);
  if (iso === undefined) throw new Error(`no ISO named ${name}`);
  sim.world.create('VBD', {
    VM: vm,
    VDI: iso,
    userdevice: CD_DEVICE,
    device: 'xvdd',
    type: 'CD',
    mode: 'RO',
    empty: name === '',
  });
}

function addDevices(sim: Sim, ground: Ground, vm: string, spec: MachineSpec): void {
  for (let device = 0; device < (spec.networks ?? 1); device += 1) {
    const mac = sim.newUuid().replace(/\D/g, '').slice(0, 6).padEnd(6, '0');
    sim.world.create('VIF', {
      VM: vm,
      network: ground.networks[device % ground.networks.length] ?? NULL_REF,
      device: String(device),
      MAC: `02:16:3e:${mac.slice(0, 2)}:${mac.slice(2, 4)}:${mac.slice(4)}`,
    });
  }
  if (spec.vtpm === true) sim.world.create('VTPM', { VM: vm, contents: 'simulated-tpm-secret' });
  if (spec.usb === true) sim.world.create('VUSB', { VM: vm });
}

/** Creates the machine; disks get userdevices 0, 1, 2, 4 … (3 is the CD drive's). */
export function buildMachine(sim: Sim, ground: Ground, spec: MachineSpec): SimMachine {
  const { world } = sim;
  const uuid = sim.newUuid();
  const firmware: Rec =
    spec.uefi === true
      ? { HVM_boot_params: { order: 'cd', firmware: 'uefi' }, NVRAM: { 'EFI-variables': 'AAAA' } }
      : {};
  const ref = world.create('VM', {
    uuid,
    name_label: spec.name,
    name_description: spec.description ?? '',
    tags: [...(spec.tags ?? [])],
    other_config: { mac_seed: sim.newUuid(), ...spec.otherConfig },
    blocked_operations: { ...spec.blockedOperations },
    ha_restart_priority: spec.haRestartPriority ?? '',
    ha_always_run: spec.haRestartPriority === 'restart' && spec.power === 'Running',
    generation_id: spec.uefi === true ? '4711:4712' : '',
    metrics: world.create('VM_metrics', { last_updated: nowDate(sim) }),
    guest_metrics: world.create('VM_guest_metrics', {
      last_updated: nowDate(sim),
      other: spec.vss === true ? { 'feature-quiesce': '1' } : {},
    }),
    ...firmware,
  });
  const disks = spec.disks.map((disk, index) =>
    addDisk(sim, ground, {
      vm: ref,
      spec: disk,
      userdevice: String(index < 3 ? index : index + 1),
    }),
  );
  if (spec.cd !== undefined) addCd(sim, ground, ref, spec.cd);
  addDevices(sim, ground, ref, spec);
  setPower(sim, ref, spec.power ?? 'Halted');
  if (spec.power === 'Suspended') addSuspendImage(sim, ground, ref);
  return { ref, uuid, name: spec.name, disks };
}

function addSuspendImage(sim: Sim, ground: Ground, vm: string): void {
  const uuid = sim.newUuid();
  const image = sim.world.create('VDI', {
    uuid,
    location: uuid,
    name_label: 'Suspend image',
    SR: storageRef(sim, ground, 'nfs'),
    type: 'suspend',
    virtual_size: 16_777_216,
  });
  sim.world.set('VM', vm, { suspend_VDI: image });
}
