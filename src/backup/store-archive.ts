/**
 * From a stream of an archive to a stored, proved one: an export of a pool, or an archive somebody made by hand.
 *
 * Normalised, checked and packed on the way; as a delta over a base where the mode has one. What is stored is proved: every
 * disk that was expected to its full size and no other, the end of the archive, the source's own word that it was all, size and
 * checksum of the object, and, where copied and sent bytes meet, the stored bytes themselves.
 */
import type { Job } from '../catalog/record.ts';
import { BackupError, blameBase } from '../errors.ts';
import type { Cancellable, ExportStream, StoredObject } from '../ports.ts';
import { decodeIndex } from '../xva/blocks-index.ts';
import { createDigestKey } from '../xva/hash.ts';
import type { DiskTotals, OvaRewrite } from '../xva/types.ts';
import type { StepContext } from './context.ts';
import { createBaseBlocks } from './delta-blocks.ts';
import type { Mode } from './delta-mode.ts';
import { checkSeams } from './delta-seams.ts';
import { type ExportInput, exportArchive } from './export-archive.ts';
import { type Moved, percentOf, progressOf } from './export-result.ts';
import { createPacking } from './packing.ts';
import { createPartPlan } from './plan.ts';
import { maxArchiveBytes } from './size.ts';

/** An archive on its way in. */
export interface Incoming {
  job: Job;
  /** What must be in it, by the uuids it has in the source. */
  disks: readonly { vdiUuid: string; userdevice: string; virtualSizeBytes: number }[];
  rewrite: OvaRewrite;
  mode: Mode;
  /** Its bytes from the beginning, uncompressed. */
  open(options: Cancellable): Promise<ExportStream>;
}

/**
 * Stores one archive under the job's backup id, and its index. Afterwards both are there, and no record yet.
 *
 * Errors: those of the source, the codec and the upload. Cancel: source and upload are disposed; nothing is there.
 */
export async function storeArchive(incoming: Incoming, context: StepContext): Promise<Moved> {
  const { job, disks, rewrite, mode } = incoming;
  const { engine, signal } = context;
  const { base, order } = mode;
  const parts = {
    retention: job.request.retention,
    pool: job.vm.pool,
    vmUuid: job.vm.uuid,
    backupId: job.checkpoint.backup_id,
  };
  const key = engine.keys.archive(parts, job.vm.name);
  const indexKey = engine.keys.index(parts);
  const digestKey = base?.index.digestKey ?? createDigestKey();
  const normaliser = await engine.createNormaliser({ rewrite, order, digestKey });
  const blocks =
    base && createBaseBlocks(engine.store, { index: base.index, indexKey: base.backup.index_key });
  await using upload = await engine.store.beginUpload(
    {
      key,
      contentType: job.request.compression === 'zstd' ? 'application/zstd' : 'application/x-xva',
      stagingPrefix: engine.keys.staging(job.id),
      maxBytes: maxArchiveBytes(disks, job.request.compression),
      ...(base && { base: base.archive, createPlan: createPartPlan }),
    },
    { signal },
  );
  await context.remember({
    backup_id: parts.backupId,
    archive_key: key,
    upload_id: upload.uploadId,
  });
  const packing = createPacking({ upload, blocks }, job.request.compression);
  const isArranged = order === 'device';
  const into = { upload, normaliser, packing, isArranged };
  const read = await readInto(incoming, into, context);
  proveDisks(normaliser.totals(), disks);
  const indexBytes = normaliser.index(packing.frames());
  await engine.store.put(indexKey, indexBytes, { signal, patient: true });
  const stored = await upload.complete({ signal });
  const seamReads = await lookAtSeams({ key, stored, indexBytes }, context).catch((error) => {
    throw base ? blameBase(error) : error;
  });
  return {
    ...read,
    mode,
    stored,
    plainBytes: packing.plainBytes,
    ovaSha256: packing.ovaSha256,
    counters: upload.counters,
    reads: (blocks?.reads ?? 0) + seamReads,
    normaliser,
    indexKey,
    archiveKey: key,
  };
}

/** The bytes of one source, committed to the upload. */
async function readInto(
  { job, open }: Incoming,
  into: Pick<ExportInput, 'upload' | 'normaliser' | 'packing' | 'isArranged'>,
  context: StepContext,
): Promise<Pick<Moved, 'readBytes' | 'exportMs' | 'host'>> {
  const { engine, signal } = context;
  await using source = await open({ signal });
  const startedAt = engine.clock.elapsed();
  const onRead = (readBytes: number) => {
    const percent = percentOf(job, readBytes, source.taskProgress);
    context.report(progressOf(job, readBytes, into.upload.counters, percent));
  };
  const readBytes = await exportArchive({ ...into, source, onRead }, { signal });
  return {
    readBytes,
    exportMs: engine.clock.elapsed() - startedAt,
    host: {
      address: source.host.address,
      product_version: source.host.productVersion,
      xapi_version: source.host.xapiVersion,
    },
  };
}

/** A store that proves the whole object by its checksum need not be asked. */
async function lookAtSeams(
  { key, stored, indexBytes }: { key: string; stored: StoredObject; indexBytes: Uint8Array },
  { engine, signal }: StepContext,
): Promise<number> {
  const { seams = [], checksum } = stored;
  const percent = engine.delta.seamCheckPercent;
  if (checksum !== undefined || seams.length === 0 || percent === 0) return 0;
  const hash = await engine.hasher();
  const index = decodeIndex(indexBytes, hash);
  const reads = await checkSeams(
    { store: engine.store, key, seams, percent, index, indexBytes, hash },
    { signal },
  );
  engine.meter.count('delta_blocks_read_back_total', reads);
  return reads;
}

/** Every disk that is expected must be in the archive with its size, and no other. */
function proveDisks(totals: readonly DiskTotals[], disks: Incoming['disks']): void {
  const seen = new Map(totals.map(({ disk }) => [disk.vdiUuid, disk.virtualSizeBytes]));
  for (const disk of disks) {
    const size = seen.get(disk.vdiUuid);
    if (size === disk.virtualSizeBytes) {
      seen.delete(disk.vdiUuid);
      continue;
    }
    throw new BackupError(
      'data_corrupt',
      `prove archive: disk ${disk.userdevice} of ${disk.virtualSizeBytes} bytes is ${size === undefined ? 'not in it' : `${size} bytes in it`}`,
      { details: { vdi_uuid: disk.vdiUuid, userdevice: disk.userdevice } },
    );
  }
  if (seen.size === 0) return;
  throw new BackupError('data_corrupt', 'prove archive: it holds a disk that was not expected', {
    details: { vdi_uuids: [...seen.keys()] },
  });
}
