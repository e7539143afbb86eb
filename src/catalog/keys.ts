/**
 * The grammar of every key in the bucket: build and parse, nothing else knows it.
 *
 *   <prefix>backups/<class>/<pool>/<vm uuid>/<backup id>/<vm name, made safe>.xva | blocks.idx | backup.json
 *   <prefix>pinned/<pool>/<vm uuid>/<backup id>/…                copies with pin.json (pin.ts); no rule deletes here
 *   <prefix>jobs/<job id>.json                                   30 days by rule
 *   <prefix>runs/<run id>.json                                   30 days by rule
 *   <prefix>leases/<pool>/<vm uuid>   idempotency/<hash>         small, conditional writes; of a dry run: its job's id;
 *                                                                of a run: leases/_runs/<run id>, which no pool is called
 *   <prefix>indexes/<backup id>.idx                              rebuilt ones; may be deleted at any time
 *   <prefix>verified/<backup id>.json                           what a verification found; may be deleted at any time
 *   <prefix>staging/<job id>/<n>                                 parts of one outsized archive until they are joined
 *   <prefix>probe/<random>/…                                     moments, when an instance first looks at the bucket
 *
 * Only [A-Za-z0-9._/-]: other characters break UploadPartCopy on older Ceph RGW. A rule selects by prefix, so the
 * retention class comes first. Backup and job ids are UUIDv7: keys under one machine sort by time.
 */
import { BackupError } from '../errors.ts';

export interface BackupKeyParts {
  retention: string;
  pool: string;
  vmUuid: string;
  backupId: string;
}

export interface Keys {
  readonly backupsPrefix: string;
  readonly jobsPrefix: string;
  readonly runsPrefix: string;
  readonly pinnedPrefix: string;
  readonly leasesPrefix: string;
  readonly stagingPrefix: string;
  readonly verifiedPrefix: string;
  readonly rebuiltPrefix: string;
  readonly idempotencyPrefix: string;
  /** Where the store adapter tries out what the bucket can. */
  readonly probePrefix: string;
  classPrefix(retention: string): string;
  vmPrefix(retention: string, pool: string, vmUuid: string): string;
  archive(parts: BackupKeyParts, vmName: string): string;
  index(parts: BackupKeyParts): string;
  /** Of an index that was made anew: what lies beside an archive is never written again. */
  rebuiltIndex(backupId: string): string;
  record(parts: BackupKeyParts): string;
  /** What verifications of this backup found. */
  verified(backupId: string): string;
  /** A file of a backup's copy that is out of rotation, by its name beside the original. */
  pinned(parts: Omit<BackupKeyParts, 'retention'>, name: string): string;
  /** All copies of one machine that are out of rotation. */
  pinnedVmPrefix(pool: string, vmUuid: string): string;
  job(jobId: string): string;
  run(runId: string): string;
  runLease(runId: string): string;
  lease(pool: string, vmUuid: string): string;
  idempotency(hash: string): string;
  staging(jobId: string): string;
  /** undefined for a key that is no `backup.json`. */
  parseRecord(key: string): BackupKeyParts | undefined;
  parseJob(key: string): string | undefined;
  parseRun(key: string): string | undefined;
  /** Any file beside an archive, that itself too; undefined for other keys. */
  parseBackup(key: string): (BackupKeyParts & { name: string }) | undefined;
  /** undefined for a key that is no file of a copy out of rotation. */
  parsePinned(key: string): (Omit<BackupKeyParts, 'retention'> & { name: string }) | undefined;
  /** undefined for a key that is no archive. */
  parseArchive(key: string): BackupKeyParts | undefined;
  parseLease(key: string): { pool: string; vmUuid: string } | undefined;
  /** The backup id of a key below `verified/`. */
  parseVerified(key: string): string | undefined;
  /** The job id of a key below `staging/`. */
  parseStaging(key: string): string | undefined;
}

/** Makes any machine name safe as one path segment: never empty, at most 80 characters. */
export function safeName(name: string): string {
  const safe = name
    .normalize('NFKD')
    .replace(/[^A-Za-z0-9._-]+/g, '-')
    .replace(/^[-.]+|[-.]+$/g, '')
    .slice(0, 80);
  return safe === '' ? 'vm' : safe;
}

/** `prefix` is empty or a plain path; a missing last slash is added. */
export function createKeys(prefix: string): Keys {
  const root = prefix === '' || prefix.endsWith('/') ? prefix : `${prefix}/`;
  if (!/^[A-Za-z0-9._/-]*$/.test(root) || root.startsWith('/')) {
    throw new BackupError(
      'configuration',
      `use plain characters in XVAULT_PREFIX, prefix=${prefix}`,
    );
  }
  const folder = (p: BackupKeyParts) =>
    `${root}backups/${p.retention}/${segment(p.pool)}/${p.vmUuid}/${p.backupId}`;
  const plainRoot = escapeRegExp(root);
  const inFolder = (name: string) => {
    const pattern = new RegExp(`^${plainRoot}backups/([^/]+)/([^/]+)/([^/]+)/([^/]+)/${name}$`);
    return (key: string) => {
      const [, retention, pool, vmUuid, backupId] = pattern.exec(key) ?? [];
      return retention && pool && vmUuid && backupId
        ? { retention, pool, vmUuid, backupId }
        : undefined;
    };
  };
  const inAnyFolder = inFolder('[^/]+');
  const pinned = new RegExp(`^${plainRoot}pinned/([^/]+)/([^/]+)/([^/]+)/([^/]+)$`);
  const lease = new RegExp(`^${plainRoot}leases/([^/]+)/([^/]+)$`);
  const staging = new RegExp(`^${plainRoot}staging/([0-9a-f-]{36})/`);
  const verified = new RegExp(`^${plainRoot}verified/([0-9a-f-]{36})\\.json$`);
  const job = new RegExp(`^${plainRoot}jobs/([0-9a-f-]{36})\\.json$`);
  const run = new RegExp(`^${plainRoot}runs/([0-9a-f-]{36})\\.json$`);
  return {
    backupsPrefix: `${root}backups/`,
    jobsPrefix: `${root}jobs/`,
    runsPrefix: `${root}runs/`,
    pinnedPrefix: `${root}pinned/`,
    leasesPrefix: `${root}leases/`,
    stagingPrefix: `${root}staging/`,
    verifiedPrefix: `${root}verified/`,
    rebuiltPrefix: `${root}indexes/`,
    idempotencyPrefix: `${root}idempotency/`,
    probePrefix: `${root}probe/`,
    classPrefix: (retention) => `${root}backups/${retention}/`,
    vmPrefix: (retention, pool, vmUuid) =>
      `${root}backups/${retention}/${segment(pool)}/${vmUuid}/`,
    archive: (p, vmName) => `${folder(p)}/${safeName(vmName)}.xva`,
    index: (p) => `${folder(p)}/blocks.idx`,
    rebuiltIndex: (backupId) => `${root}indexes/${backupId}.idx`,
    record: (p) => `${folder(p)}/backup.json`,
    verified: (backupId) => `${root}verified/${backupId}.json`,
    pinnedVmPrefix: (pool, vmUuid) => `${root}pinned/${segment(pool)}/${vmUuid}/`,
    pinned: (p, name) => `${root}pinned/${segment(p.pool)}/${p.vmUuid}/${p.backupId}/${name}`,
    job: (jobId) => `${root}jobs/${jobId}.json`,
    run: (runId) => `${root}runs/${runId}.json`,
    runLease: (runId) => `${root}leases/_runs/${runId}`,
    lease: (pool, vmUuid) => `${root}leases/${segment(pool)}/${vmUuid}`,
    idempotency: (hash) => `${root}idempotency/${hash}`,
    staging: (jobId) => `${root}staging/${jobId}/`,
    parseRecord: inFolder('backup\\.json'),
    parseBackup: (key) => {
      const parts = inAnyFolder(key);
      return parts && { ...parts, name: key.slice(key.lastIndexOf('/') + 1) };
    },
    parsePinned: (key) => {
      const [, pool, vmUuid, backupId, name] = pinned.exec(key) ?? [];
      return pool && vmUuid && backupId && name ? { pool, vmUuid, backupId, name } : undefined;
    },
    parseArchive: inFolder('[^/]+\\.xva'),
    parseJob: (key) => job.exec(key)?.[1],
    parseRun: (key) => run.exec(key)?.[1],
    parseLease: (key) => {
      const [, pool, vmUuid] = lease.exec(key) ?? [];
      return pool && vmUuid ? { pool, vmUuid } : undefined;
    },
    parseVerified: (key) => verified.exec(key)?.[1],
    parseStaging: (key) => staging.exec(key)?.[1],
  };
}

/**
 * The lease a job holds: its machine's; of a job about a backup, which leaves the machine alone, the backup's; of a dry
 * run, which disturbs no other job, one of its own.
 */
export function leaseKey(
  keys: Keys,
  job: {
    id: string;
    vm: { pool: string; uuid: string };
    request: { dry_run: boolean };
    backup_id?: string | undefined;
    restore?: { name?: string | undefined } | undefined;
  },
): string {
  if (job.restore !== undefined) return restoreLease(keys, job);
  if (job.backup_id !== undefined) return keys.lease(job.vm.pool, job.backup_id);
  return keys.lease(job.vm.pool, job.request.dry_run ? job.id : job.vm.uuid);
}

/**
 * A backup is restored once at a time under one name; verifying it, or another backup of the machine, is no reason to wait
 * with a restore. Names are anything: written in letters keys may have.
 */
function restoreLease(keys: Keys, job: Parameters<typeof leaseKey>[1]): string {
  if (job.request.dry_run) return keys.lease(job.vm.pool, job.id);
  const name = Buffer.from(job.restore?.name ?? '', 'utf8')
    .toString('base64url')
    .slice(0, 200);
  return keys.lease(job.vm.pool, `${job.backup_id}-restore-${name}`);
}

/** Pool names are settings of ours, checked when they are read; this only keeps a mistake from leaving its folder. */
function segment(pool: string): string {
  if (!/^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/.test(pool)) {
    throw new BackupError(
      'configuration',
      `use a plain pool name (letters, digits, . _ -), pool=${pool}`,
    );
  }
  return pool;
}

function escapeRegExp(text: string): string {
  return text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');
}
