/**
 * The object store of ports.ts on any S3-compatible service.
 *
 * Small objects are read and written here; archives go through upload.ts. What one provider does differently is in
 * quirks.ts and probe.ts. Keys are checked to be plain: other characters break copies on older Ceph RGW.
 */
import {
  AbortMultipartUploadCommand,
  GetObjectCommand,
  ListMultipartUploadsCommand,
} from '@aws-sdk/client-s3';
import { getSignedUrl } from '@aws-sdk/s3-request-presigner';
import { BackupError, isBackupError } from '../errors.ts';
import type { Arena, Clock, Log, Meter, ObjectStore, StoreFacts } from '../ports.ts';
import { untilAborted } from '../signals.ts';
import { NO_TRACER, type Tracer } from '../tracer.ts';
import { createCalls, storeStatus } from './calls.ts';
import { type ClientSettings, createS3Client } from './client.ts';
import type { StoreContext } from './context.ts';
import { copyObject } from './copy.ts';
import { createCrc32Thread } from './crc32-thread.ts';
import {
  type EncryptionSettings,
  encryptRequests,
  readBucketEncryption,
  refuseLink,
} from './encryption.ts';
import { translateStoreError } from './errors.ts';
import { readLifecycle, writeLifecycle } from './lifecycle.ts';
import { listPage } from './list.ts';
import { type LockRule, lockObjects, readBucketLock } from './lock.ts';
import { checked, contentDisposition } from './names.ts';
import { createProbe } from './probe.ts';
import { PROVIDERS, type Quirks, quirksOf } from './quirks.ts';
import { getObject, headObject } from './read.ts';
import type { RetryBudget } from './retry.ts';
import type { UploadShare } from './section.ts';
import { fillFromObject, readStream } from './stream.ts';
import { tracedCalls } from './traced.ts';
import { beginUpload } from './upload.ts';
import { readVersioning } from './versioning.ts';
import { deleteObject, putObject } from './write.ts';

export interface StoreSettings extends ClientSettings {
  bucket: string;
  /** Where the probe may write: `<prefix>probe/`. Empty or a plain path. */
  prefix: string;
  /** A row of quirks.ts; default: recognised by the endpoint's host. */
  provider?: string | undefined;
  /** Overrides single quirks: tests, and stores nobody has a row for yet. */
  quirks?: Partial<Quirks> | undefined;
  /** Asked for with every object; undefined: what the bucket does by itself. */
  encryption?: EncryptionSettings | undefined;
  /** Objects of these prefixes are locked as they are made. */
  locks?: readonly LockRule[] | undefined;
  /** Replaces the number of tries and the waits between them, of small calls and of transfers. */
  retries?: { calls?: RetryBudget | undefined; transfers?: RetryBudget | undefined } | undefined;
}

export interface StoreDeps {
  clock: Clock;
  log: Log;
  arena: Arena;
  meter: Meter;
  /** Nothing is traced unless given. */
  tracer?: Tracer;
  /** 0 … 1, for the jitter of retries. */
  random?: () => number;
}

/** At most this long for one answer to "what can the store do?". */
const PROBE_LIMIT_MS = 120_000;
const UPLOADS_PAGES_MAX = 100;

/** Makes the store; nothing is sent before the first call. Errors: `configuration`. */
export function createS3Store(settings: StoreSettings, deps: StoreDeps): ObjectStore {
  const context = createContext(settings, deps);
  const { client, calls, bucket, quirks } = context;
  const { prefix } = settings;
  const facts = createFacts(context, prefix === '' || prefix.endsWith('/') ? prefix : `${prefix}/`);
  const share: UploadShare = { active: 0 };

  return {
    facts,
    put: async (key, body, options) => await putObject(context, checked(key), body, options),
    get: async (key, options) => await getObject(context, checked(key), options),
    read: (input, options) => readStream(context, { ...input, key: checked(input.key) }, options),
    fill: async (input, target, options) =>
      await fillFromObject(context, { ...input, key: checked(input.key) }, target, options),
    head: async (key, options) => await headObject(context, checked(key), options),
    list: async (input, options) => await listPage(context, input, options),
    delete: async (key, options) => await deleteObject(context, checked(key), options),
    beginUpload: async (input, options) => {
      checked(input.key);
      const found = await facts(options);
      return await beginUpload({ ...context, facts: found, share }, input, options);
    },
    copy: async (input, options) => {
      checked(input.from.key);
      checked(input.to);
      return await copyObject({ ...context, facts: await facts(options) }, input, options);
    },
    listUploads: async (prefix, options) => {
      if (!quirks.listUploads) return [];
      return await listUploads(context, prefix, options);
    },
    abortUpload: async ({ key, uploadId }, options) => {
      const command = () =>
        new AbortMultipartUploadCommand({ Bucket: bucket, Key: checked(key), UploadId: uploadId });
      await calls('AbortMultipartUpload', (to) => client.send(command(), to), {
        signal: options.signal,
        key,
      }).catch((error) => {
        if (!(isBackupError(error) && storeStatus(error) === 404)) throw error;
      });
    },
    lifecycle: async (options) => await readLifecycle(context, options),
    putLifecycle: async (input, options) => await writeLifecycle(context, input, options),
    versioning: async (options) => await readVersioning(context, options),
    bucketEncryption: async (options) => await readBucketEncryption(context, options),
    bucketLock: async (options) => await readBucketLock(context, options),
    presignGet: async ({ key, expiresSeconds, fileName }) => {
      refuseLink(settings.encryption, key);
      const command = new GetObjectCommand({
        Bucket: bucket,
        Key: checked(key),
        ResponseContentDisposition: contentDisposition(fileName),
      });
      const site = { operation: 'GetObject', bucket, key, endpoint: context.endpoint };
      return await getSignedUrl(client, command, { expiresIn: expiresSeconds }).catch((error) => {
        throw translateStoreError(error, site);
      });
    },
    close: () => {
      client.destroy();
      context.crc32s.close();
    },
  };
}

function createContext(settings: StoreSettings, deps: StoreDeps): StoreContext {
  if (settings.provider !== undefined && !PROVIDERS.includes(settings.provider)) {
    throw new BackupError(
      'configuration',
      `name a known provider (${PROVIDERS.join(', ')}), provider=${settings.provider}`,
    );
  }
  const endpoint = settings.endpoint ?? 'AWS';
  const log = deps.log.child({ part: 's3' });
  const untraced = createCalls(
    { clock: deps.clock, log, meter: deps.meter, random: deps.random ?? Math.random },
    {
      bucket: settings.bucket,
      endpoint,
      budget: settings.retries?.calls,
      encryption: settings.encryption?.kind,
      locks: settings.locks,
    },
  );
  const { tracer = NO_TRACER } = deps;
  const calls = tracedCalls(untraced, tracer, { bucket: settings.bucket, endpoint });
  const client = createS3Client(settings);
  const quirks = { ...quirksOf(settings), ...settings.quirks };
  encryptRequests(client, settings.encryption, { onParts: quirks.encryptedParts });
  lockObjects(client, { rules: settings.locks ?? [], clock: deps.clock });
  return {
    client,
    bucket: settings.bucket,
    endpoint,
    calls,
    quirks,
    log,
    meter: deps.meter,
    arena: deps.arena,
    crc32s: createCrc32Thread({ log }),
    transferBudget: settings.retries?.transfers,
  };
}

/** Probes once and keeps the answer; callers who ask meanwhile share the probe, and leave it by their own signal. */
function createFacts(context: StoreContext, prefix: string): ObjectStore['facts'] {
  const { quirks } = context;
  const probe = createProbe(context, prefix);
  let running: Promise<StoreFacts> | undefined;
  const start = async (): Promise<StoreFacts> => ({
    endpoint: context.endpoint,
    bucket: context.bucket,
    provider: quirks.name,
    ...(await probe({ signal: AbortSignal.timeout(PROBE_LIMIT_MS) })),
    copyParts: quirks.copyParts,
    equalParts: quirks.equalParts,
    listsUploads: quirks.listUploads,
    lifecycle: quirks.lifecycle,
  });
  return async ({ signal }) => {
    signal.throwIfAborted();
    running ??= start().catch((error) => {
      running = undefined; // A failure is not remembered: the next caller tries again.
      throw error;
    });
    return await untilAborted(running, signal);
  };
}

async function listUploads(
  { client, calls, bucket }: StoreContext,
  prefix: string,
  options: { signal: AbortSignal },
): ReturnType<ObjectStore['listUploads']> {
  const found: Awaited<ReturnType<ObjectStore['listUploads']>> = [];
  let marker = {};
  for (let pages = 0; pages < UPLOADS_PAGES_MAX; pages += 1) {
    const input = { Bucket: bucket, Prefix: prefix, ...marker };
    const answer = await calls(
      'ListMultipartUploads',
      (to) => client.send(new ListMultipartUploadsCommand(input), to),
      options,
    ).catch((error) => {
      // Not every store can; whoever remembers the ids can still abort.
      if (isBackupError(error) && [501, 405].includes(storeStatus(error))) return undefined;
      throw error;
    });
    if (answer === undefined) return [];
    for (const { Key, UploadId, Initiated } of answer.Uploads ?? []) {
      if (Key === undefined || UploadId === undefined || !Key.startsWith(prefix)) continue;
      found.push({ key: Key, uploadId: UploadId, initiated: Initiated?.getTime() ?? 0 });
    }
    if (!answer.IsTruncated || answer.NextKeyMarker === undefined) break;
    marker = { KeyMarker: answer.NextKeyMarker, UploadIdMarker: answer.NextUploadIdMarker };
  }
  return found;
}
