/**
 * The pool port by script: one machine without disks, whose archive is its configuration alone.
 *
 * For what no host does on demand: a snapshot that is still being made when its caller has left, a pool that is away
 * exactly while something is removed. Everything on real bytes runs against the simulated pool instead.
 */
import { BackupError } from '../../src/errors.ts';
import type {
  DiskFacts,
  ExportStream,
  Pool,
  PoolLeftover,
  SnapshotFacts,
  SrRef,
  VdiRef,
  VmRef,
  VmState,
} from '../../src/ports.ts';
import { writeHeader } from '../../src/xva/tar.ts';
import { formatXmlValue, type XmlValue } from '../../src/xva/xml-value.ts';
import { VM_UUID } from '../records.ts';

/** What a machine is, where it matters. */
export interface ScriptedMachine {
  name: string;
  uuid: string;
  tags?: string[];
  /** The archive has none of them: a job can only leave them out. */
  disks?: { name: string; sr: string; sizeBytes?: number }[];
}

const WEB: ScriptedMachine = { name: 'web', uuid: VM_UUID };

export interface ScriptedPool extends Pool {
  /** Those on the pool now. */
  machines: ScriptedMachine[];
  readonly snapshots: SnapshotFacts[];
  /** Tasks that lie on the pool whatever is called; a test puts them there. */
  readonly tasks: PoolLeftover[];
  /** What the machine's record shows as running. */
  operations: string[];
  /** Called before every operation; may throw or wait. */
  onCall?: ((operation: string, signal: AbortSignal) => void | Promise<void>) | undefined;
  readonly calls: string[];
  /** Makes a snapshot of this name, as the pool does behind a call. */
  make(name: string): SnapshotFacts;
}

/** A pool named dc1 with one running machine, or with these. */
export function createScriptedPool(machines: ScriptedMachine[] = [WEB]): ScriptedPool {
  const snapshots: SnapshotFacts[] = [];
  const tasks: PoolLeftover[] = [];
  const calls: string[] = [];
  const machineOf = new Map<string, VmRef>();
  const enter = async (operation: string, signal: AbortSignal): Promise<void> => {
    signal.throwIfAborted();
    calls.push(operation);
    await self.onCall?.(operation, signal);
    signal.throwIfAborted();
  };
  const stateOf = (spec: ScriptedMachine) => machine(spec, self.operations);
  // what no scenario here asks for is left out
  const self: ScriptedPool = {
    name: 'dc1',
    machines,
    snapshots,
    tasks,
    operations: [],
    calls,
    make: (name) => {
      const id = `snapshot-${calls.length}-${snapshots.length}`;
      const made = { ref: id as VmRef, uuid: id, nameLabel: name, disks: [] };
      snapshots.push(made);
      return made;
    },
    facts: async ({ signal }) => {
      await enter('facts', signal);
      return {
        uuid: 'pool',
        nameLabel: 'pool',
        masterAddress: 'master',
        haEnabled: false,
        hosts: [],
        features: { ignoreVdis: true, zstdExport: true, cbt: false, quiesce: false },
        trust: 'fingerprint',
      };
    },
    listVms: async () => self.machines.map(stateOf),
    findVms: async (wanted, { signal }) => {
      await enter('findVms', signal);
      return self.machines.filter(({ name, uuid }) => [name, uuid].includes(wanted)).map(stateOf);
    },
    inspectVm: async (vm, { signal }) => {
      await enter('inspectVm', signal);
      const spec = self.machines.find(({ uuid }) => refOf(uuid) === vm) ?? self.machines[0];
      if (spec === undefined) throw new BackupError('not_found', 'inspect machine: it is gone');
      return stateOf(spec);
    },
    snapshotVm: async ({ name, vm }, { signal }) => {
      await enter('snapshotVm', signal);
      const made = self.make(name);
      machineOf.set(made.ref, vm);
      return made;
    },
    markSnapshot: (_snapshot, _marker, { signal }) => enter('markSnapshot', signal),
    findSnapshots: async ({ namePrefix }, { signal }) => {
      await enter('findSnapshots', signal);
      return snapshots.filter((one) => one.nameLabel.startsWith(namePrefix));
    },
    removeSnapshot: async (snapshot, { signal }) => {
      await enter('removeSnapshot', signal);
      const at = snapshots.findIndex((one) => one.ref === snapshot.ref);
      if (at !== -1) snapshots.splice(at, 1);
    },
    findLeftovers: async ({ prefix }, { signal }) => {
      await enter('findLeftovers', signal);
      return tasks.filter(({ label }) => label.startsWith(prefix));
    },
    removeLeftover: async ({ ref }, { signal }) => {
      await enter('removeLeftover', signal);
      tasks.splice(0, tasks.length, ...tasks.filter((task) => task.ref !== ref));
    },
    openExport: async ({ snapshot }, { signal }) => {
      await enter('openExport', signal);
      if (!snapshots.some((one) => one.ref === snapshot)) {
        throw new BackupError('pool_refused', 'export machine: it is gone');
      }
      const ref = machineOf.get(snapshot);
      const spec = self.machines.find(({ uuid }) => refOf(uuid) === ref);
      return exportOf(archive(spec?.uuid ?? VM_UUID), enter);
    },
    close: async () => undefined,
  } satisfies Partial<ScriptedPool> as unknown as ScriptedPool;
  return self;
}

function refOf(uuid: string): VmRef {
  return `OpaqueRef:${uuid}` as VmRef;
}

function machine(spec: ScriptedMachine, operations: string[]): VmState {
  return {
    ref: refOf(spec.uuid),
    uuid: spec.uuid,
    nameLabel: spec.name,
    nameDescription: '',
    kind: 'vm',
    powerState: 'Running',
    tags: spec.tags ?? [],
    allowedOperations: ['snapshot'],
    currentOperations: [...operations],
    blockedOperations: {},
    disks: (spec.disks ?? []).map((disk, at) => diskOf(spec, disk, at)),
    removables: [],
    hasVusbs: false,
    hasSuspendImage: false,
    haRestartPriority: '',
    networks: [],
  };
}

function diskOf(
  { uuid }: ScriptedMachine,
  { name, sr, sizeBytes = 1_048_576 }: NonNullable<ScriptedMachine['disks']>[number],
  at: number,
): DiskFacts {
  const id = `${uuid.slice(0, -2)}d${at}`;
  return {
    vdiRef: `OpaqueRef:${id}` as VdiRef,
    vdiUuid: id,
    nameLabel: name,
    userdevice: String(at),
    virtualSizeBytes: sizeBytes,
    physicalUtilisationBytes: sizeBytes,
    bootable: at === 0,
    readOnly: false,
    sharable: false,
    resetsOnBoot: false,
    raw: false,
    uncoalesced: false,
    sr: {
      ref: `OpaqueRef:${sr}` as SrRef,
      uuid: sr,
      nameLabel: sr,
      type: 'nfs',
      shared: true,
      physicalSizeBytes: -1,
      physicalUtilisationBytes: 0,
      virtualAllocationBytes: 0,
      canSnapshot: true,
      thick: false,
    },
  };
}

function exportOf(
  bytes: Buffer,
  enter: (operation: string, signal: AbortSignal) => Promise<void>,
): ExportStream {
  let at = 0;
  return {
    host: { address: 'master', xapiVersion: '1', productVersion: '8.3' },
    taskProgress: 0,
    fill: async (target, { signal }) => {
      await enter('fill', signal);
      const piece = bytes.subarray(at, at + target.length);
      target.set(piece);
      at += piece.length;
      return piece.length;
    },
    settle: ({ signal }) => enter('settle', signal),
    [Symbol.asyncDispose]: async () => undefined,
  };
}

/** ova.xml with the machine alone, and the end. */
function archive(uuid: string): Buffer {
  const record = new Map<string, XmlValue>([['uuid', uuid]]);
  const object = new Map<string, XmlValue>([
    ['class', 'VM'],
    ['id', 'Ref:0'],
    ['snapshot', record],
  ]);
  const root = new Map<string, XmlValue>([
    ['version', new Map<string, XmlValue>()],
    ['objects', [object]],
  ]);
  const xml = Buffer.from(formatXmlValue(root));
  const member = Buffer.alloc(512 + Math.ceil(xml.length / 512) * 512 + 1024);
  writeHeader(member, 0, 'ova.xml', xml.length);
  xml.copy(member, 512);
  return member;
}
