/**
 * The storage side: snapshots of disks, the space they need, chains, coalescing, destruction.
 *
 * Chains are modelled as VHD ones: a snapshot turns the disk's data into a hidden base (managed=false) that live disk
 * and snapshot both point to by `sm_config.vhd-parent` (a uuid). When only one child is left, the base is coalesced
 * some time after the deletion, as the storage's garbage collector does. LVM takes the full virtual size for the new
 * leaf and shrinks the base to what it holds (SM `LVHDSR.py`); file storage takes next to nothing.
 *
 * New disks: LVM takes the full size at once and says at once that it is full; file storage takes only its header and
 * grows with what is written, so that it fills up in the middle. VHD disks are whole 2 MiB (SM `vhdutil.py`), rounded
 * up. That VHD ends at 2040 GiB is not simulated: the pool's own 2 TiB machine could not come back.
 */
import { canDo, canSnapshot } from './operations.ts';
import { nowDate, type Sim } from './sim.ts';
import { emptyDisk } from './tracked-disk.ts';
import { flag, int, list, map, type Rec, text, XenError } from './values.ts';

/** SM refuses the next snapshot when a chain is this long. */
export const MAX_CHAIN = 30;

/** A thin snapshot's own size: VHD header, block allocation table, footer. */
const VHD_OVERHEAD_BYTES = 8_388_608;

const THICK = new Set(['lvm', 'lvmoiscsi', 'lvmohba', 'lvmofcoe']);

function isThick(sr: Rec): boolean {
  return THICK.has(text(sr, 'type'));
}

/** VDI record whose uuid is `uuid`, if it exists. */
function parentOf(sim: Sim, vdi: Rec): { ref: string; record: Rec } | undefined {
  const uuid = map(vdi, 'sm_config')['vhd-parent'];
  return uuid === undefined ? undefined : sim.world.findByUuid('VDI', uuid);
}

/** How many ancestors a disk has on its storage. */
export function chainDepth(sim: Sim, vdiRef: string): number {
  let depth = 0;
  let at = parentOf(sim, sim.world.get('VDI', vdiRef));
  while (at !== undefined) {
    depth += 1;
    at = parentOf(sim, at.record);
  }
  return depth;
}

function smError(code: number, reason: string, detail = ''): XenError {
  return new XenError(`SR_BACKEND_FAILURE_${code}`, ['', reason, detail]);
}

/** The error the storage gives for a snapshot of this disk, or undefined. */
export function refuseDiskSnapshot(sim: Sim, vdiRef: string): XenError | undefined {
  const vdi = sim.world.get('VDI', vdiRef);
  const srRef = text(vdi, 'SR');
  if (!canSnapshot(sim, srRef) || map(vdi, 'sm_config').type === 'raw') {
    return new XenError('SR_OPERATION_NOT_SUPPORTED', [srRef]);
  }
  if (flag(vdi, 'sharable')) return new XenError('VDI_IS_SHARABLE', [vdiRef]);
  if (text(vdi, 'on_boot') === 'reset') {
    return new XenError('VDI_ON_BOOT_MODE_INCOMPATIBLE_WITH_OPERATION');
  }
  if (chainDepth(sim, vdiRef) >= MAX_CHAIN) return smError(109, 'The snapshot chain is too long');
  const sr = sim.world.get('SR', srRef);
  const free = int(sr, 'physical_size') - int(sr, 'physical_utilisation');
  if (growthBytes(sim, vdiRef) > free) {
    return smError(44, 'There is insufficient space');
  }
  return undefined;
}

/** Bytes the storage takes more for a snapshot: full leaf, less what the base gives back. */
function growthBytes(sim: Sim, vdiRef: string): number {
  const vdi = sim.world.get('VDI', vdiRef);
  if (!isThick(sim.world.get('SR', text(vdi, 'SR')))) return 0;
  const leaf = int(vdi, 'virtual_size') + VHD_OVERHEAD_BYTES;
  const shrunk = int(vdi, 'physical_utilisation') - allocatedBytes(sim, vdiRef);
  return Math.max(0, leaf - Math.max(0, shrunk) + VHD_OVERHEAD_BYTES);
}

/** Rough allocation of a disk: walking a terabyte for its exact number is not worth it. */
function allocatedBytes(sim: Sim, vdiRef: string): number {
  const disk = sim.disks.get(vdiRef);
  if (disk === undefined) return 0;
  const step = 2_097_152;
  let bytes = 0;
  let at = disk.nextData(0);
  for (let probes = 0; at !== undefined && probes < 4096; probes += 1) {
    bytes += step;
    at = disk.nextData((Math.floor(at / step) + 1) * step);
  }
  return Math.min(bytes, disk.sizeBytes);
}

function changeUsage(sim: Sim, srRef: string, bytes: number): void {
  const sr = sim.world.get('SR', srRef);
  const used = Math.max(0, int(sr, 'physical_utilisation') + bytes);
  sim.world.set('SR', srRef, { physical_utilisation: used });
}

/** A VHD's block: disks are whole ones. */
const VHD_BLOCK_BYTES = 2_097_152;

/** Bytes free on a storage; without end where it does not tell its size. */
export function freeBytes(sim: Sim, srRef: string): number {
  const sr = sim.world.get('SR', srRef);
  const size = int(sr, 'physical_size');
  return size < 0 ? Number.POSITIVE_INFINITY : size - int(sr, 'physical_utilisation');
}

/** VDI.create: the size may be rounded up; SR_BACKEND_FAILURE_44 when the storage cannot take it. */
export function createDisk(sim: Sim, srRef: string, fields: Rec): string {
  const sr = sim.world.get('SR', srRef);
  if (!canDo(sim, srRef, 'VDI_CREATE')) throw new XenError('SR_OPERATION_NOT_SUPPORTED', [srRef]);
  const asked = int(fields, 'virtual_size');
  if (asked < 1) throw smError(79, 'VDI Invalid size', `[opterr=size=${asked}]`);
  const isVhd = map(fields, 'sm_config')['image-format'] !== 'qcow2';
  const size = isVhd ? Math.ceil(asked / VHD_BLOCK_BYTES) * VHD_BLOCK_BYTES : asked;
  const taken = isThick(sr) ? size + VHD_OVERHEAD_BYTES : VHD_OVERHEAD_BYTES;
  if (taken > freeBytes(sim, srRef)) throw smError(44, 'There is insufficient space');
  changeUsage(sim, srRef, taken);
  const uuid = sim.newUuid();
  const ref = sim.world.create('VDI', {
    ...fields,
    uuid,
    location: uuid,
    SR: srRef,
    virtual_size: size,
    physical_utilisation: taken,
  });
  sim.disks.set(ref, emptyDisk(size));
  return ref;
}

/** What a disk takes more while it is written: nothing on thick storage; false when there is no room. */
export function growDisk(sim: Sim, vdiRef: string, bytes: number): boolean {
  const vdi = sim.world.get('VDI', vdiRef);
  const srRef = text(vdi, 'SR');
  if (isThick(sim.world.get('SR', srRef))) return true;
  if (bytes > freeBytes(sim, srRef)) return false;
  changeUsage(sim, srRef, bytes);
  sim.world.set('VDI', vdiRef, { physical_utilisation: int(vdi, 'physical_utilisation') + bytes });
  return true;
}

/** Snapshots one disk: its data becomes a hidden base under it and the snapshot. */
export function snapshotDisk(sim: Sim, vdiRef: string): string {
  const refusal = refuseDiskSnapshot(sim, vdiRef);
  if (refusal !== undefined) throw refusal;
  const { world } = sim;
  const vdi = world.get('VDI', vdiRef);
  const srRef = text(vdi, 'SR');
  const thick = isThick(world.get('SR', srRef));
  const used = allocatedBytes(sim, vdiRef);
  changeUsage(sim, srRef, growthBytes(sim, vdiRef));
  const smConfig = map(vdi, 'sm_config');
  const { 'image-format': format } = smConfig;
  const baseUuid = sim.newUuid();
  const common = {
    virtual_size: int(vdi, 'virtual_size'),
    SR: srRef,
    type: text(vdi, 'type'),
  };
  world.create('VDI', {
    ...common,
    uuid: baseUuid,
    location: baseUuid,
    name_label: 'base copy',
    managed: false,
    read_only: true,
    physical_utilisation: used,
    sm_config: { ...smConfig },
  });
  const childConfig: Record<string, string> = { 'vhd-parent': baseUuid };
  if (format !== undefined) childConfig['image-format'] = format;
  const leafBytes = thick ? common.virtual_size + VHD_OVERHEAD_BYTES : VHD_OVERHEAD_BYTES;
  world.set('VDI', vdiRef, { sm_config: { ...childConfig }, physical_utilisation: leafBytes });
  const uuid = sim.newUuid();
  const ref = world.create('VDI', {
    ...common,
    uuid,
    location: uuid,
    name_label: text(vdi, 'name_label'),
    name_description: text(vdi, 'name_description'),
    is_a_snapshot: true,
    snapshot_of: vdiRef,
    snapshot_time: nowDate(sim),
    other_config: { ...map(vdi, 'other_config') },
    tags: [...list(vdi, 'tags')],
    sm_config: { ...childConfig },
    physical_utilisation: VHD_OVERHEAD_BYTES,
  });
  const disk = sim.disks.get(vdiRef);
  if (disk !== undefined) sim.disks.set(ref, disk.clone());
  return ref;
}

/** VDI.destroy: refuses an attached disk, removes its record and idle VBDs, and plans the coalescing. */
export function destroyDisk(sim: Sim, vdiRef: string): void {
  const { world } = sim;
  const vdi = world.get('VDI', vdiRef);
  const vbds = list(vdi, 'VBDs');
  const attached = vbds.some((ref) => world.find('VBD', ref)?.currently_attached === true);
  const origin = text(vdi, 'snapshot_of');
  const inUse = attached || sim.faults.take('vdi-in-use', { vm: ownerUuid(sim, origin) });
  if (inUse) throw new XenError('VDI_IN_USE', [vdiRef, 'destroy']);
  if (text(world.get('SR', text(vdi, 'SR')), 'content_type') === 'iso') {
    throw new XenError('SR_OPERATION_NOT_SUPPORTED', [text(vdi, 'SR')]);
  }
  for (const ref of vbds) world.destroy('VBD', ref);
  const parent = parentOf(sim, vdi);
  changeUsage(sim, text(vdi, 'SR'), -int(vdi, 'physical_utilisation'));
  world.destroy('VDI', vdiRef);
  sim.disks.delete(vdiRef);
  if (parent !== undefined && !flag(parent.record, 'managed')) {
    sim.coalesceAt.set(parent.ref, sim.clock.now() + sim.settings.coalesceMs);
  }
}

/** The uuid of the machine a live disk belongs to. */
function ownerUuid(sim: Sim, vdiRef: string): string | undefined {
  const vdi = sim.world.find('VDI', vdiRef);
  const vbd = vdi === undefined ? undefined : list(vdi, 'VBDs')[0];
  const record = vbd === undefined ? undefined : sim.world.find('VBD', vbd);
  const vm = record === undefined ? undefined : sim.world.find('VM', text(record, 'VM'));
  return vm === undefined ? undefined : text(vm, 'uuid');
}

/** Does the coalescing that is due; called before every RPC, so that it needs no timer. */
export function coalesceDue(sim: Sim): void {
  for (const [ref, at] of [...sim.coalesceAt]) {
    if (at > sim.clock.now()) continue;
    sim.coalesceAt.delete(ref);
    coalesce(sim, ref);
  }
}

function coalesce(sim: Sim, baseRef: string): void {
  const base = sim.world.find('VDI', baseRef);
  if (base === undefined) return;
  const children = sim.world
    .all('VDI')
    .filter(([, vdi]) => map(vdi, 'sm_config')['vhd-parent'] === base.uuid);
  const [only, ...others] = children;
  if (only === undefined || others.length > 0) return;
  const [childRef, child] = only;
  const { 'vhd-parent': _base, ...config } = map(child, 'sm_config');
  const above = map(base, 'sm_config')['vhd-parent'];
  sim.world.set('VDI', childRef, {
    sm_config: above === undefined ? config : { ...config, 'vhd-parent': above },
  });
  changeUsage(sim, text(base, 'SR'), -int(base, 'physical_utilisation'));
  sim.world.destroy('VDI', baseRef);
}
