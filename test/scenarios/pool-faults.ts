/**
 * Everything a pool is known to do to a backup, by name.
 *
 * Sources: xen-api `ocaml/xapi/export.ml`, `xapi_task.ml`, `xapi_vm_lifecycle.ml`, `xapi_vm_clone.ml`; the error codes of
 * the storage manager (sm `XE_SR_ERRORCODES.xml`). docs/reliability.md has a line for each.
 */
import type { Random } from '../crash/random.ts';
import type { Ground } from './ground.ts';
import { type NamedFault, once, pause } from './named-fault.ts';

const MINUTE_MS = 60_000;
/** Bytes of an export by which every machine of the ground is still at it. */
const AMID_BYTES = 2_000_000;
const CALLS = [
  'VM.get_all_records_where',
  'Async.VM.snapshot',
  'VM.add_to_other_config',
  'task.create',
  'Async.VDI.destroy',
  'Async.VM.destroy',
];

const amid = (draw: Random) => draw.between(700, AMID_BYTES);
const edge = (draw: Random, blocks: number) => draw.pick([0, blocks - 1]);
const TRUNCATED = ['source_truncated'] as const;
const FAILED = ['source_failed'] as const;

const EXPORTS = {
  'export-ends-early': {
    what: 'the export ends early, cleanly, as if it were whole',
    ends: TRUNCATED,
    arm: ({ sim }, draw) => sim.faults.set('export-ends-early', { afterBytes: amid(draw) }),
  },
  'export-reset': {
    what: 'the connection of the export is reset',
    ends: TRUNCATED,
    arm: ({ sim }, draw) => sim.faults.set('export-reset', { afterBytes: amid(draw) }),
  },
  'export-error-appended': {
    what: 'the host fails in the middle and appends an HTTP 500 page to the archive',
    ends: FAILED,
    says: /VDI_IO_ERROR|HTTP|error/,
    arm: ({ sim }, draw) => sim.faults.set('export-error', { afterBytes: amid(draw) }),
  },
  'export-storage-full': {
    what: 'the storage fills up while it is exported from',
    ends: FAILED,
    says: /SR_BACKEND_FAILURE_44/,
    arm: ({ sim }, draw) =>
      sim.faults.set('export-error', {
        afterBytes: amid(draw),
        code: 'SR_BACKEND_FAILURE_44',
        params: ['', 'There is insufficient space', ''],
      }),
  },
  'export-silent': {
    what: 'the export falls silent and does not come back',
    ends: TRUNCATED,
    says: /neither bytes nor progress/,
    arm: ({ sim }, draw) =>
      sim.faults.set('export-silent', { afterBytes: amid(draw), silentMs: 600 * MINUTE_MS }),
  },
  'export-pauses': {
    what: 'the export falls silent for minutes and goes on',
    ends: ['succeeded'],
    arm: ({ sim }, draw) =>
      sim.faults.set('export-silent', {
        afterBytes: amid(draw),
        silentMs: draw.between(1, 4) * MINUTE_MS,
      }),
  },
  'export-no-answer': {
    what: 'the host closes the connection without any answer, since no host sees the storage',
    ends: ['pool_refused'],
    says: /NO_HOSTS_AVAILABLE/,
    arm: ({ sim }) => sim.faults.set('export-no-response', { code: 'NO_HOSTS_AVAILABLE' }),
  },
  'export-refused': {
    what: 'the export is answered with an error page',
    ends: FAILED,
    says: /VDI_IO_ERROR/,
    arm: ({ sim }) =>
      sim.faults.set('export-refused', { code: 'VDI_IO_ERROR', params: ['Device I/O error'] }),
  },
  'export-redirected-outside': {
    what: 'the export is redirected to an address that is no member of the pool',
    ends: FAILED,
    says: /no member of the pool/,
    arm: ({ sim }) => sim.faults.set('redirect-unreachable', {}),
  },
  'export-redirected-unreachable': {
    what: 'the export is redirected to a host that cannot be reached',
    ends: ['pool_unavailable'],
    says: /connect to the pool/,
    arm: ({ sim }) => sim.faults.set('redirect-unreachable', { member: true }),
  },
  'export-redirected-for-ever': {
    what: 'the export is redirected again and again',
    ends: FAILED,
    arm: ({ sim }) => sim.faults.set('redirect-loop', { count: 9 }),
  },
  'block-checksum-wrong': {
    what: 'a block does not have the checksum the host gives for it',
    ends: ['data_corrupt'],
    says: /block=/,
    arm: ({ sim }, draw, { blocks }) =>
      sim.faults.set('block-checksum', { block: draw.between(0, blocks - 1) }),
  },
  'block-twice': {
    what: 'a block comes twice',
    ends: ['data_corrupt'],
    arm: ({ sim }, draw, { blocks }) =>
      sim.faults.set('block-duplicate', { block: draw.between(0, blocks - 1) }),
  },
  'block-missing': {
    what: 'the first or the last block of a disk is missing',
    ends: ['data_corrupt'],
    arm: ({ sim }, draw, { blocks }) =>
      sim.faults.set('block-missing', { block: edge(draw, blocks) }),
  },
  'task-fails': {
    what: 'the archive is complete, but the task of the export failed',
    ends: FAILED,
    says: /VDI_IO_ERROR/,
    arm: ({ sim }) => sim.faults.set('task-failure', {}),
  },
  'task-vanishes': {
    what: 'the archive is complete, but its task is gone',
    ends: FAILED,
    says: /task is gone/,
    arm: ({ sim }) => sim.faults.set('task-vanishes', {}),
  },
  'task-pending': {
    what: 'the archive is complete, but its task never ends',
    ends: FAILED,
    says: /does not end/,
    leaves: true,
    arm: ({ sim }) => sim.faults.set('task-pending', {}),
  },
} satisfies Record<string, NamedFault>;

const CALLS_FAIL = {
  'session-lost': {
    what: 'the pool forgets its sessions in mid-job',
    ends: ['succeeded'],
    leaves: true,
    arm: ({ sim }, draw) => sim.faults.set('session-lost', { method: draw.pick(CALLS) }),
  },
  'master-moves': {
    what: 'another host becomes master, sessions and tasks are lost',
    ends: ['succeeded', 'pool_unavailable', 'source_failed', 'source_truncated'],
    leaves: true,
    arm: ({ sim }, draw) => sim.faults.set('master-moves', { method: draw.pick(CALLS) }),
  },
  'toolstack-restarts': {
    what: 'the toolstack restarts: connections are cut, sessions and tasks lost, exports ended',
    ends: ['succeeded', 'pool_unavailable', 'source_failed', 'source_truncated'],
    leaves: true,
    arm: (on, draw) => {
      const method = draw.pick([...CALLS, '/export']);
      const fits = ({ name, done }: { name: string; done: boolean }) =>
        name === `pool ${method}` && !done;
      once(on, fits, () => on.sim.restartToolstack());
    },
  },
  'master-away': {
    what: 'the master is unreachable for two minutes',
    ends: ['succeeded', 'pool_unavailable', 'source_failed', 'source_truncated'],
    leaves: true,
    arm: (on, draw) => {
      const method = draw.pick([...CALLS, '/export']);
      const fits = ({ name, done }: { name: string; done: boolean }) =>
        name === `pool ${method}` && !done;
      once(on, fits, () => on.later(away(on, 2 * MINUTE_MS)));
    },
  },
  'vdi-in-use': {
    what: 'the disks of the snapshot are in use for a minute',
    ends: ['succeeded'],
    arm: (on) => {
      on.sim.faults.set('vdi-in-use', { count: 10_000 });
      const destroying = ({ name }: { name: string }) => name === 'pool Async.VDI.destroy';
      once(on, destroying, () => {
        on.later(pause(on, MINUTE_MS).then(() => on.sim.faults.clear('vdi-in-use')));
      });
    },
  },
  'snapshot-stays': {
    what: 'the storage does not let the snapshot go for longer than a job cleans up',
    ends: ['succeeded'],
    arm: (on) => {
      const code = 'SR_BACKEND_FAILURE_80';
      on.sim.faults.set('call-fails', { method: 'Async.VDI.destroy', code, count: 10_000 });
    },
  },
  'pool-busy': {
    what: 'the pool has too many tasks for a moment',
    ends: ['succeeded'],
    arm: ({ sim }, draw) =>
      sim.faults.set('call-fails', {
        method: draw.pick(CALLS),
        code: 'TOO_MANY_PENDING_TASKS',
        count: 3,
      }),
  },
  'role-too-weak': {
    what: 'the role of the user does not allow snapshots (any more)',
    ends: ['pool_refused'],
    says: /vm-power-admin/,
    retry: 'after-fix',
    arm: ({ sim }) =>
      sim.faults.set('call-fails', {
        method: 'Async.VM.snapshot',
        code: 'RBAC_PERMISSION_DENIED',
        params: ['VM.snapshot', 'no'],
      }),
  },
  'answer-lost': {
    what: 'the pool does what it is asked, and its answer is lost',
    ends: ['succeeded', 'pool_unavailable'],
    leaves: true,
    arm: ({ sim }, draw) => sim.faults.set('answer-lost', { method: draw.pick(CALLS) }),
  },
  'call-silent': {
    what: 'a call is not answered for a minute, and then never',
    ends: ['succeeded', 'pool_unavailable'],
    leaves: true,
    arm: ({ sim }, draw) =>
      sim.faults.set('call-silent', { method: draw.pick(CALLS), silentMs: MINUTE_MS }),
  },
} satisfies Record<string, NamedFault>;

/** The host comes back by itself. */
async function away(on: Ground, ms: number): Promise<void> {
  const master = on.sim.master();
  await on.sim.stopHost(master);
  await pause(on, ms);
  await on.sim.startHost(master);
}

type Refusal = Pick<NamedFault, 'what' | 'says' | 'retry'> & {
  params: string[];
  code?: NamedFault['ends'][number];
};

/** Why VM.snapshot refuses, with the code XenAPI gives. */
const REFUSALS: Record<string, Refusal> = {
  SR_OPERATION_NOT_SUPPORTED: {
    what: 'a storage cannot make snapshots (USB, raw, passed through)',
    params: ['OpaqueRef:1'],
    says: /exclude_disks/,
  },
  UNIMPLEMENTED_IN_SM_BACKEND: {
    what: 'a disk is a raw volume',
    params: ['VDI_SNAPSHOT'],
    says: /raw volume/,
  },
  VDI_IS_SHARABLE: {
    what: 'a disk is shared between machines',
    params: ['OpaqueRef:1'],
    says: /shared/,
  },
  VDI_ON_BOOT_MODE_INCOMPATIBLE_WITH_OPERATION: {
    what: 'a disk is reset at every boot',
    params: [],
    says: /on_boot=reset/,
  },
  VM_HAS_VUSBS: { what: 'a USB device is passed through', params: ['OpaqueRef:1'], says: /USB/ },
  VM_IS_TEMPLATE: {
    what: 'the machine became a template',
    params: ['OpaqueRef:1', 'snapshot'],
    code: 'vm_not_supported',
    says: /template/,
  },
  VM_IS_SNAPSHOT: {
    what: 'the machine is a snapshot itself',
    params: ['OpaqueRef:1', 'snapshot'],
    code: 'vm_not_supported',
    says: /snapshot itself/,
  },
  OPERATION_NOT_ALLOWED: {
    what: 'a disk is being copied, or it is the control domain',
    params: ['Snapshot operation not allowed during copy.'],
    retry: 'later',
    says: /does not allow/,
  },
  OPERATION_BLOCKED: {
    what: 'snapshots are blocked on the machine',
    params: ['OpaqueRef:1', 'no'],
    says: /blocked/,
  },
  OTHER_OPERATION_IN_PROGRESS: {
    what: 'the machine is being migrated, and goes on being it',
    params: ['VM', 'OpaqueRef:1', 'pool_migrate'],
    retry: 'later',
    says: /another operation/,
  },
  SR_BACKEND_FAILURE_109: {
    what: 'the snapshot chain is too long',
    params: ['', 'The snapshot chain is too long', ''],
    retry: 'later',
    says: /chain/,
  },
  SR_BACKEND_FAILURE_44: {
    what: 'the storage has too little space for the snapshot',
    params: ['', 'There is insufficient space', ''],
    says: /too little free space/,
  },
  SR_BACKEND_FAILURE_46: {
    what: 'a disk is not available to the storage',
    params: ['', 'The VDI is not available', ''],
    retry: 'later',
    says: /not available/,
  },
  NOT_SUPPORTED_DURING_UPGRADE: {
    what: 'the pool is being upgraded',
    params: [],
    retry: 'later',
    says: /upgraded/,
  },
  VDI_IN_USE: {
    what: 'a disk is in use elsewhere',
    params: ['OpaqueRef:1', 'clone'],
    retry: 'later',
    says: /in use/,
  },
};

const SNAPSHOTS: Record<string, NamedFault> = Object.fromEntries(
  Object.entries(REFUSALS).map(([code, { params, code: ends = 'snapshot_refused', ...rest }]) => [
    `snapshot-refused:${code}`,
    {
      ...rest,
      ends: [ends],
      retry: rest.retry ?? 'after-fix',
      arm: ({ sim }) => sim.faults.set('snapshot-refused', { code, params }),
    } satisfies NamedFault,
  ]),
);

/** Every fault of a pool by name. */
export const POOL_FAULTS: Readonly<Record<string, NamedFault>> = {
  ...EXPORTS,
  ...SNAPSHOTS,
  ...CALLS_FAIL,
};
