/**
 * The pool port by script: one machine without disks, whose archive is its configuration alone.
 *
 * For what no host does on demand: a snapshot that is still being made when its caller has left, a pool that is away
 * exactly while something is removed. Everything on real bytes runs against the simulated pool instead.
 */
import { BackupError } from '../../src/errors.ts';
import type {
  ExportStream,
  Pool,
  PoolLeftover,
  SnapshotFacts,
  VmRef,
  VmState,
} from '../../src/ports.ts';
import { writeHeader } from '../../src/xva/tar.ts';
import { formatXmlValue, type XmlValue } from '../../src/xva/xml-value.ts';
import { VM_UUID } from '../records.ts';

export interface ScriptedPool extends Pool {
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

/** A pool named dc1 with one running machine. */
export function createScriptedPool(): ScriptedPool {
  const snapshots: SnapshotFacts[] = [];
  const tasks: PoolLeftover[] = [];
  const calls: string[] = [];
  const enter = async (operation: string, signal: AbortSignal): Promise<void> => {
    signal.throwIfAborted();
    calls.push(operation);
    await self.onCall?.(operation, signal);
    signal.throwIfAborted();
  };
  // what no scenario here asks for is left out
  const self = {
    name: 'dc1',
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
    listVms: async () => [machine([])],
    findVms: async (_name, { signal }) => {
      await enter('findVms', signal);
      return [machine([])];
    },
    inspectVm: async (_vm, { signal }) => {
      await enter('inspectVm', signal);
      return machine(self.operations);
    },
    snapshotVm: async ({ name }, { signal }) => {
      await enter('snapshotVm', signal);
      return self.make(name);
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
      return exportOf(archive(), enter);
    },
    close: async () => undefined,
  } satisfies Partial<ScriptedPool> as unknown as ScriptedPool;
  return self;
}

function machine(operations: string[]): VmState {
  return {
    ref: 'OpaqueRef:web' as VmRef,
    uuid: VM_UUID,
    nameLabel: 'web',
    nameDescription: '',
    kind: 'vm',
    powerState: 'Running',
    tags: [],
    allowedOperations: ['snapshot'],
    currentOperations: [...operations],
    blockedOperations: {},
    disks: [],
    removables: [],
    hasVusbs: false,
    hasSuspendImage: false,
    haRestartPriority: '',
    networks: [],
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
function archive(): Buffer {
  const record = new Map<string, XmlValue>([['uuid', VM_UUID]]);
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
