/**
 * The object store of ports.ts over a Worker's R2 binding: small objects read and written, keys listed.
 *
 * No credentials, no request over the Internet, and R2's own consistency: read after write, conditional writes decided
 * where the object lies. What the binding does not have comes from the S3 API if one is given (links, the bucket's rules),
 * and is refused by name otherwise; bytes of archives never come this way: uploads and copies are the engine's.
 *
 * Entity tags are the quoted ones, the same as of the S3 API, so that whoever reads here and writes there agrees.
 * Source: developers.cloudflare.com/r2/api/workers/workers-api-reference and workers-types of November 2026.
 */
import type { R2Bucket, R2Conditional, R2Object, R2Objects } from '@cloudflare/workers-types';
import { BackupError, isBackupError } from '../errors.ts';
import type { Cancellable, ObjectFacts, ObjectPage, ObjectStore, StoreFacts } from '../ports.ts';
import { checked } from '../s3/names.ts';
import { quirksOf } from '../s3/quirks.ts';
import { untilAborted } from '../signals.ts';
import type { R2Api } from './r2-api.ts';

const PAGE_MAX = 1000;
/** A page may be cut short by R2 at any length, also at none. */
const EMPTY_PAGES_MAX = 100;
/** Sorts after every character of a plain key: the page after a prefix `a/` begins behind all `a/…`. */
const AFTER_PREFIX = '~';
/** A read that failed is made twice more; a third failure is no accident, and the caller waits. */
const READ_TRIES = 3;
const PLACE = 'R2 binding';

export interface R2StoreSettings {
  /** The bucket's own name, as links and messages have it. */
  name: string;
  /** A row of quirks.ts other than R2's. */
  provider?: string | undefined;
}

interface Context extends R2StoreSettings {
  bucket: R2Bucket;
}

/** Makes the store; nothing is asked before the first call. */
export function createR2Store(
  { bucket, api }: { bucket: R2Bucket; api?: R2Api | undefined },
  settings: R2StoreSettings,
): ObjectStore {
  const context: Context = { ...settings, bucket };
  const refuse = (operation: string) => async (): Promise<never> => {
    throw refused(context, operation);
  };
  return {
    facts: (options) => facts(context, options),
    put: (key, body, options) => put(context, { key: checked(key), body }, options),
    get: (key, options) => get(context, checked(key), options),
    head: async (key, options) => {
      const found = await read(context, `head ${key}`, () => bucket.head(checked(key)), options);
      return found === null ? undefined : factsOf(found);
    },
    list: (input, options) => list(context, input, options),
    delete: (key, options) => remove(context, checked(key), options),
    // biome-ignore lint/correctness/useYield: it is refused before there is anything to give
    read: async function* () {
      throw refused(context, 'read an archive');
    },
    fill: refuse('read an archive'),
    beginUpload: refuse('upload'),
    copy: refuse('copy'),
    listUploads: refuse('list uploads'),
    abortUpload: refuse('abort an upload'),
    lifecycle: api?.lifecycle ?? refuse('read the rules'),
    putLifecycle: refuse('write the rules'),
    presignGet: api?.presignGet ?? refuse('sign a link'),
    // R2 has none of these (developers.cloudflare.com/r2/api/s3/api, November 2026)
    versioning: async () => undefined,
    bucketEncryption: async () => undefined,
    bucketLock: async () => undefined,
    close: () => api?.close(),
  };
}

/** One look at the bucket, so that a binding to no bucket is found; the rest is R2's documentation. */
async function facts(context: Context, options: Cancellable): Promise<StoreFacts> {
  await read(context, 'list', () => context.bucket.list({ limit: 1 }), options);
  const { equalParts, copyParts, listUploads, lifecycle, name } = quirksOf({
    provider: context.provider ?? 'r2',
  });
  return {
    endpoint: PLACE,
    bucket: context.name,
    provider: name,
    conditionalWrites: true,
    conditionalComplete: true,
    copyParts,
    equalParts,
    listsUploads: listUploads,
    lifecycle,
  };
}

async function get(
  context: Context,
  key: string,
  { signal, range }: Parameters<ObjectStore['get']>[1],
): ReturnType<ObjectStore['get']> {
  const look = async () => {
    const found = await context.bucket.get(key, range === undefined ? {} : { range });
    if (found === null) return undefined;
    const bytes = new Uint8Array(await found.arrayBuffer());
    return { bytes, etag: found.httpEtag, lastModified: found.uploaded.getTime() };
  };
  return await read(context, `get ${key}`, look, { signal });
}

async function put(
  context: Context,
  { key, body }: { key: string; body: Uint8Array | string },
  options: Parameters<ObjectStore['put']>[2],
): Promise<{ etag: string }> {
  const { signal, contentType } = options;
  const bytes = typeof body === 'string' ? new TextEncoder().encode(body) : body;
  const onlyIf = conditionOf(options);
  const more = contentType === undefined ? {} : { httpMetadata: { contentType } };
  signal.throwIfAborted();
  let written: R2Object | null;
  try {
    const write = context.bucket.put(key, bytes, { ...more, ...(onlyIf && { onlyIf }) });
    written = await untilAborted(write, signal);
  } catch (error) {
    signal.throwIfAborted();
    const unclear = translated(context, `put ${key}`, error);
    if (onlyIf === undefined) throw unclear;
    // it may have been written all the same: who finds his own bytes there has won
    const there = await get(context, key, { signal }).catch(() => undefined);
    if (there !== undefined && isSame(there.bytes, bytes)) return { etag: there.etag };
    throw unclear;
  }
  if (written !== null) return { etag: written.httpEtag };
  throw lost(context, key);
}

/** Without a condition of its own: looked at before, so that only a race of milliseconds is left. */
async function remove(
  context: Context,
  key: string,
  { signal, ifMatch }: Parameters<ObjectStore['delete']>[1],
): Promise<void> {
  if (ifMatch !== undefined) {
    const found = await read(context, `head ${key}`, () => context.bucket.head(key), { signal });
    if (found === null) return;
    if (found.httpEtag !== ifMatch) throw lost(context, key);
  }
  await read(context, `delete ${key}`, () => context.bucket.delete(key), { signal });
}

async function list(
  context: Context,
  { prefix, startAfter, delimiter, limit = PAGE_MAX }: Parameters<ObjectStore['list']>[0],
  options: Cancellable,
): Promise<ObjectPage> {
  const wanted = {
    prefix,
    limit: Math.min(PAGE_MAX, Math.max(1, limit)),
    ...(delimiter === undefined ? {} : { delimiter }),
  };
  let from: { startAfter?: string; cursor?: string } =
    startAfter === undefined ? {} : { startAfter };
  for (let pages = 0; ; pages += 1) {
    const ask = () => context.bucket.list({ ...wanted, ...from });
    const page: R2Objects = await read(context, `list ${prefix}`, ask, options);
    const objects = page.objects.map(factsOf);
    const prefixes = page.delimitedPrefixes.filter(
      (found) => startAfter === undefined || found > startAfter,
    );
    if (!page.truncated) return { objects, prefixes };
    if (objects.length + prefixes.length > 0) {
      return { objects, prefixes, next: lastOf(objects.at(-1)?.key ?? '', prefixes.at(-1) ?? '') };
    }
    if (pages === EMPTY_PAGES_MAX) {
      const text = `list ${prefix}: ${pages} pages in a row were empty and not the last`;
      throw new BackupError('store_unavailable', text, { details: { bucket: context.name } });
    }
    from = { cursor: page.cursor };
  }
}

/** Prefixes come sorted among the keys: the later of the two is where the next page begins. */
function lastOf(key: string, prefix: string): string {
  return prefix > key ? prefix + AFTER_PREFIX : key;
}

function factsOf({ key, size, httpEtag, uploaded, storageClass }: R2Object): ObjectFacts {
  const isCold = storageClass !== '' && storageClass !== 'Standard';
  return {
    key,
    sizeBytes: size,
    etag: httpEtag,
    lastModified: uploaded.getTime(),
    ...(isCold
      ? { storageClass: storageClass === 'InfrequentAccess' ? 'STANDARD_IA' : storageClass }
      : {}),
  };
}

function conditionOf(options: { ifAbsent?: boolean; ifMatch?: string }): R2Conditional | undefined {
  if (options.ifAbsent) return { etagDoesNotMatch: '*' };
  // the binding wants it without its quotes
  if (options.ifMatch !== undefined) return { etagMatches: options.ifMatch.replaceAll('"', '') };
  return undefined;
}

/** Reads and deletes may be repeated; between two tries there is no pause, R2's own way here is short. */
async function read<T>(
  context: Context,
  operation: string,
  work: () => Promise<T>,
  { signal }: Cancellable,
): Promise<T> {
  for (let tries = 1; ; tries += 1) {
    signal.throwIfAborted();
    try {
      return await untilAborted(work(), signal);
    } catch (error) {
      signal.throwIfAborted();
      const known = translated(context, operation, error);
      if (tries >= READ_TRIES || !isBackupError(known, 'store_unavailable')) throw known;
    }
  }
}

/** R2's messages end with a number, `(10020)`, of developers.cloudflare.com/r2/api/error-codes. */
function translated({ name }: Context, operation: string, error: unknown): BackupError {
  if (error instanceof BackupError) return error;
  const text = error instanceof Error ? error.message : String(error);
  const code = /\((\d{5})\)/.exec(text)?.[1];
  const details = { operation, bucket: name, ...(code && { store_code: code }) };
  const where = `operation=${operation} bucket=${name}${code === undefined ? '' : ` store_code=${code}`}`;
  if (code === '10006') {
    const mend = `correct the bucket of [[r2_buckets]] in wrangler.toml, ${where}`;
    return new BackupError('configuration', mend, { details, cause: error });
  }
  return new BackupError('store_unavailable', `reach R2, ${where}`, { details, cause: error });
}

function lost({ name }: Context, key: string): BackupError {
  const text = `win against another write, bucket=${name} key=${key}`;
  return new BackupError('precondition_failed', text, { details: { bucket: name, key } });
}

function refused({ name }: Context, operation: string): BackupError {
  return new BackupError(
    'store_refused',
    `${operation}: the R2 binding of a Worker cannot; ask the engine, which speaks S3 to the same bucket, bucket=${name}`,
    { details: { operation, bucket: name }, retry: 'never' },
  );
}

function isSame(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, at) => byte === b[at]);
}
