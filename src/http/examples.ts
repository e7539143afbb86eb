/** One backup and one job as examples of the description and of the pages; a test parses them with their schemas. */

import type { StatusReport, SweepReport, VmView } from '../backup/service.ts';
import type { Backup, Job } from '../catalog/record.ts';
import { backupView, jobView } from './views.ts';

const VM = { uuid: '6a3c2d6e-8a61-4a0e-9d4f-3f8f4f6f0a11', name: 'web-1', pool: 'default' };
const JOB_ID = '019aaf4a-2f3e-7c51-8f0a-5b7d0c1e2f34';
const BACKUP_ID = '019aaf4a-4d10-7e02-a6b1-9c8d7e6f5a43';
const MIB = 1024 * 1024;
const RESTORE_SR = { uuid: '8f7e6d5c-4b3a-4291-a0b1-c2d3e4f5a6b7', name: 'NFS store' };

const BACKUP: Backup = {
  version: 1,
  id: BACKUP_ID,
  job_id: JOB_ID,
  vm: VM,
  retention: 'daily',
  mode: 'delta',
  mode_reason:
    'unchanged blocks are copied from the backup of 2026-11-22T02:00:03.087Z, the newest backup of this machine',
  compression: 'none',
  created_at: '2026-11-23T02:00:03.120Z',
  finished_at: '2026-11-23T02:01:44.902Z',
  archive: {
    key: `backups/daily/default/${VM.uuid}/${BACKUP_ID}/web-1.xva`,
    size_bytes: 4_812_963_840,
    etag: '9b2cf535f27731c974343645a3985328-48',
    content_digest: '5fd1a5a6f0c2b7e4',
  },
  index_key: `backups/daily/default/${VM.uuid}/${BACKUP_ID}/blocks.idx`,
  disks: [
    {
      index: 0,
      archive_id: 'Ref:000',
      vdi_uuid: 'b3f1c1de-6d5f-4f3e-8a43-2c1b7f9a5d20',
      name: 'web-1 root',
      userdevice: '0',
      virtual_size_bytes: 20_480 * MIB,
      stored_bytes: 4583 * MIB,
      stored_blocks: 4583,
    },
  ],
  excluded_disks: [],
  power_state: 'Running',
  read_bytes: 4_830_020_608,
  sent_bytes: 142_815_232,
  copied_bytes: 4_670_148_608,
  base: {
    backup_id: '019aaa23-c8f4-7b10-9c55-1d2e3f405162',
    reason: 'the newest backup of this machine',
  },
  sent_ratio: 0.029673,
  requests: { total: 43, uploads: 17, copies: 16, reads: 3, retries: 0 },
  estimated_cost: {
    amount: 0.000201,
    currency: 'USD',
    prices: 'AWS S3 Standard us-east-1, 2026-11',
  },
  duration_seconds: 101.8,
  export_seconds: 96.4,
  host: { address: '192.0.2.11', product_version: '8.3.0', xapi_version: '25.6.0' },
  triggered_by: 'nightly',
  warnings: [],
};

const JOB: Job = {
  version: 1,
  id: JOB_ID,
  kind: 'backup',
  status: 'running',
  phase: 'exporting',
  vm: VM,
  request: {
    mode: 'auto',
    retention: 'daily',
    exclude_disks: [],
    compression: 'none',
    dry_run: false,
    quiesce: 'never',
  },
  progress: {
    read_bytes: 1_073_741_824,
    sent_bytes: 1_056_964_608,
    copied_bytes: 0,
    total_bytes: 20_480 * MIB,
  },
  attempt: 1,
  created_at: '2026-11-23T02:00:01.004Z',
  started_at: '2026-11-23T02:00:01.220Z',
  updated_at: '2026-11-23T02:00:25.731Z',
  cancel_requested: false,
  triggered_by: 'nightly',
  instance: 'xvault-1',
  checkpoint: { backup_id: BACKUP_ID, excluded_disks: [], warnings: [] },
};

const INDEX_JOB: Job = {
  ...JOB,
  id: '019ab0c1-7a11-7d2e-8c3f-4a5b6c7d8e9f',
  kind: 'index',
  status: 'succeeded',
  phase: 'cleaning',
  backup_id: BACKUP_ID,
  progress: {
    read_bytes: BACKUP.archive.size_bytes,
    sent_bytes: 0,
    copied_bytes: 0,
    total_bytes: BACKUP.archive.size_bytes,
  },
  created_at: '2026-11-23T09:30:00.118Z',
  started_at: '2026-11-23T09:30:00.240Z',
  finished_at: '2026-11-23T09:31:12.655Z',
  updated_at: '2026-11-23T09:31:12.655Z',
  triggered_by: 'ops',
  index: {
    found: 'missing',
    written: true,
    key: `indexes/${BACKUP_ID}.idx`,
    size_bytes: 112_784,
    stored_blocks: 4583,
  },
};

const { index: _index, ...ABOUT_BACKUP } = INDEX_JOB;

const VERIFY_JOB: Job = {
  ...ABOUT_BACKUP,
  id: '019ab0c4-1e52-7a90-9b7d-6c5d4e3f2a1b',
  kind: 'verify',
  notifications: [{ event: 'verify.succeeded', target: 'ops', ok: true, attempts: 1 }],
  verify: { percent: 100 },
  verified: {
    at: '2026-11-23T09:31:12.655Z',
    kind: 'whole',
    percent: 100,
    ok: true,
    read_bytes: BACKUP.archive.size_bytes,
    checked_blocks: 4583,
    job_id: '019ab0c4-1e52-7a90-9b7d-6c5d4e3f2a1b',
  },
};

const RESTORE_JOB: Job = {
  ...ABOUT_BACKUP,
  id: '019ab0c8-52d3-7f16-8a4e-0b1c2d3e4f50',
  kind: 'restore',
  progress: {
    read_bytes: BACKUP.archive.size_bytes,
    sent_bytes: BACKUP.archive.size_bytes,
    copied_bytes: 0,
    total_bytes: BACKUP.archive.size_bytes,
  },
  triggered_by: 'ops',
  restore: {
    sr: 'NFS store',
    disk_srs: {},
    name: 'web-1 of monday',
    mac: 'new',
    uuid: 'new',
    networks: { 'Pool-wide network associated with eth0': 'VM network' },
    start: false,
    via: 'auto',
    dry_run: false,
  },
  restore_plan: {
    pool: VM.pool,
    name: 'web-1 of monday',
    mac: 'new',
    start: false,
    via: 'stream',
    via_reason: 'its networks are mapped, so the archive is edited',
    disks: [
      { userdevice: '0', name: 'web-1 root', virtual_size_bytes: 20_480 * MIB, sr: RESTORE_SR },
    ],
    left_out_disks: [],
    networks: [
      {
        device: '0',
        mac: '3a:5e:11:08:4c:d2',
        from: 'Pool-wide network associated with eth0',
        to: { uuid: '0c1d2e3f-4a5b-4c6d-8e7f-9a0b1c2d3e4f', name: 'VM network' },
        because: 'asked for',
      },
    ],
    warnings: [],
  },
  restored: {
    pool: VM.pool,
    vm: { uuid: '51f0c8d7-6a2b-4e19-b3c4-d5e6f7a8b9c0', name: 'web-1 of monday' },
    disks: [
      {
        userdevice: '0',
        vdi_uuid: 'e7d6c5b4-a392-4817-8605-f4e3d2c1b0a9',
        virtual_size_bytes: 20_480 * MIB,
        sr: RESTORE_SR.name,
      },
    ],
    networks: [{ device: '0', mac: 'c2:41:7f:90:1e:5b', network: 'VM network' }],
    started: false,
    via: 'stream',
    duration_seconds: 72.4,
    warnings: [],
  },
};

const PIN_JOB: Job = {
  ...INDEX_JOB,
  kind: 'pin',
  phase: 'exporting',
  progress: { ...INDEX_JOB.progress, read_bytes: 0, copied_bytes: 536_870_912 },
  pin: { reason: 'before the upgrade' },
};
export const PIN_JOB_EXAMPLE = jobView(PIN_JOB);
export const RESTORE_JOB_EXAMPLE = jobView(RESTORE_JOB);
const RESTORE_TEST_JOB: Job = {
  ...RESTORE_JOB,
  id: '019ab0cc-77a4-7d3b-8b21-3c4d5e6f7a80',
  kind: 'restore_test',
  restore_test: { boot_timeout_seconds: 600 },
  verified: {
    at: '2026-11-23T09:31:12.655Z',
    kind: 'restored',
    percent: 100,
    ok: true,
    read_bytes: BACKUP.archive.size_bytes,
    checked_blocks: 4583,
    job_id: '019ab0cc-77a4-7d3b-8b21-3c4d5e6f7a80',
  },
};

export const RESTORE_TEST_JOB_EXAMPLE = jobView(RESTORE_TEST_JOB);
export const VERIFY_JOB_EXAMPLE = jobView(VERIFY_JOB);
export const INDEX_JOB_EXAMPLE = jobView(INDEX_JOB);
export const BACKUP_EXAMPLE = backupView(BACKUP);
export const JOB_EXAMPLE = jobView(JOB);

export const VM_EXAMPLE: VmView = {
  ...VM,
  power_state: 'Running',
  tags: ['nightly'],
  last_backup: {
    id: BACKUP_ID,
    created_at: BACKUP.created_at,
    retention: 'daily',
    size_bytes: BACKUP.archive.size_bytes,
  },
  age_seconds: 10_800,
};

export const STATUS_EXAMPLE: StatusReport = {
  status: 'ok',
  checked_at: '2026-11-23T05:00:03.120Z',
  max_age_seconds: 93_600,
  vms: [
    {
      vm: VM,
      status: 'ok',
      reason: 'last good backup 3 h ago',
      last_backup_id: BACKUP_ID,
      last_backup_at: BACKUP.created_at,
      age_seconds: 10_800,
    },
  ],
  unreachable_pools: [],
};

export const SWEEP_EXAMPLE: SweepReport = {
  dry_run: false,
  started_at: '2026-11-23T05:00:03.120Z',
  finished_at: '2026-11-23T05:00:04.377Z',
  counts: { removed: 1, would_remove: 0, kept: 1 },
  findings: [
    {
      kind: 'snapshot',
      pool: VM.pool,
      id: '3f8a2c1e-5b7d-4e90-8a6f-0d1c2b3a4958',
      name: `xvault:${JOB_ID}`,
      job_id: JOB_ID,
      age_seconds: 10_800,
      action: 'removed',
      reason: 'its job has ended: failed',
    },
    {
      kind: 'snapshot',
      pool: VM.pool,
      id: '77b0c9d4-2f1e-4a3b-9c8d-5e6f70819203',
      name: 'xvault:019aaf00-1111-7222-8333-444455556666',
      job_id: '019aaf00-1111-7222-8333-444455556666',
      age_seconds: 86_400,
      action: 'kept',
      reason:
        'not ours as far as this bucket knows: no record of its job; another installation made it, or the record expired',
    },
  ],
  taken_over: [],
  errors: [],
};
