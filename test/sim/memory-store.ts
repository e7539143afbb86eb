/**
 * The object store port in memory: for tests that need many buckets or simulated time, held to the same conformance
 * suite as the real adapter (test/conformance/object-store.ts).
 */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { isDeepStrictEqual } from 'node:util';
import { BackupError } from '../../src/errors.ts';
import type {
  Clock,
  LifecycleRule,
  ObjectStore,
  ObjectUpload,
  PutCondition,
} from '../../src/ports.ts';

interface Stored {
  bytes: Buffer;
  etag: string;
  lastModified: number;
}

/** One piece of `read`. */
const READ_BYTES = 1_048_576;

export interface MemoryStore extends ObjectStore {
  readonly objects: ReadonlyMap<string, { bytes: Buffer }>;
  readonly uploads: ReadonlySet<string>;
  /** Called before every operation; may throw, to make the store fail. */
  onCall?: (operation: string, key: string) => void;
  readonly calls: Map<string, number>;
  /** What `lifecycle` answers; undefined unless set. */
  rules?: LifecycleRule[];
}

/** An empty bucket. `copyParts`: uploads may have a base, whose bytes are compared with those said to be the same. */
export function createMemoryStore(
  clock: Clock,
  { copyParts = false }: { copyParts?: boolean } = {},
): MemoryStore {
  const objects = new Map<string, Stored>();
  const uploads = new Set<string>();
  const calls = new Map<string, number>();
  let version = 0;
  let uploadId = 0;

  const enter = (operation: string, key: string, signal: AbortSignal): void => {
    signal.throwIfAborted();
    calls.set(operation, (calls.get(operation) ?? 0) + 1);
    self.onCall?.(operation, key);
  };
  const check = (key: string, condition: PutCondition): void => {
    const found = objects.get(key);
    if (condition.ifAbsent && found) throw lost(key);
    if (condition.ifMatch !== undefined && found?.etag !== condition.ifMatch) throw lost(key);
  };
  const write = (key: string, bytes: Buffer): Stored => {
    const md5 = createHash('md5').update(bytes).digest('hex');
    const stored = { bytes, etag: `"${md5}-${++version}"`, lastModified: clock.now() };
    objects.set(key, stored);
    return stored;
  };
  const factsOf = (key: string, o: Stored) => ({
    key,
    sizeBytes: o.bytes.length,
    etag: o.etag,
    lastModified: o.lastModified,
  });

  const self: MemoryStore = {
    objects,
    uploads,
    calls,
    facts: async () => ({
      endpoint: 'memory:',
      bucket: 'memory',
      provider: 'memory',
      conditionalWrites: true,
      conditionalComplete: true,
      copyParts,
      equalParts: false,
    }),
    put: async (key, body, { signal, ...condition }) => {
      enter('put', key, signal);
      check(key, condition);
      return { etag: write(key, Buffer.from(body as Uint8Array)).etag };
    },
    get: async (key, { signal, range }) => {
      enter('get', key, signal);
      const found = objects.get(key);
      if (found === undefined) return undefined;
      const { offset, length } = range ?? { offset: 0, length: found.bytes.length };
      const bytes = Buffer.from(found.bytes.subarray(offset, offset + length));
      return { bytes, etag: found.etag, lastModified: found.lastModified };
    },
    read: async function* ({ key, sizeBytes, etag, range }, { signal }) {
      const end = range ? range.offset + range.length : sizeBytes;
      for (let offset = range?.offset ?? 0; offset < end; offset += READ_BYTES) {
        enter('read', key, signal);
        const found = objects.get(key);
        if (found?.etag !== etag) throw lost(key);
        yield Buffer.from(found.bytes.subarray(offset, Math.min(end, offset + READ_BYTES)));
      }
    },
    fill: async ({ key, etag, offset }, target, { signal }) => {
      enter('fill', key, signal);
      const found = objects.get(key);
      if (found?.etag !== etag || offset + target.length > found.bytes.length) throw lost(key);
      target.set(found.bytes.subarray(offset, offset + target.length));
    },
    head: async (key, { signal }) => {
      enter('head', key, signal);
      const found = objects.get(key);
      return found && factsOf(key, found);
    },
    list: async ({ prefix, startAfter = '', delimiter, limit = 1000 }, { signal }) => {
      enter('list', prefix, signal);
      const keys = [...objects.keys()]
        .filter((key) => key.startsWith(prefix) && key > startAfter)
        .sort();
      const prefixes = new Set<string>();
      const page = { objects: [] as ReturnType<typeof factsOf>[], prefixes: [] as string[] };
      for (const key of keys) {
        const cut = delimiter ? key.indexOf(delimiter, prefix.length) : -1;
        const folder = cut === -1 ? undefined : key.slice(0, cut + 1);
        if (folder !== undefined && (prefixes.has(folder) || folder <= startAfter)) continue;
        if (page.objects.length + prefixes.size === limit) {
          const last =
            [page.objects.at(-1)?.key ?? '', [...prefixes].at(-1) ?? ''].sort().at(-1) ?? '';
          return {
            ...page,
            prefixes: [...prefixes],
            next: last.endsWith('/') ? `${last}\uffff` : last,
          };
        }
        if (folder === undefined) page.objects.push(factsOf(key, objects.get(key) as Stored));
        else prefixes.add(folder);
      }
      return { ...page, prefixes: [...prefixes] };
    },
    delete: async (key, { signal, ifMatch }) => {
      enter('delete', key, signal);
      if (ifMatch !== undefined && objects.has(key)) check(key, { ifMatch });
      objects.delete(key);
    },
    beginUpload: async ({ key, base }, { signal }) => {
      enter('beginUpload', key, signal);
      const id = `upload-${++uploadId}`;
      uploads.add(id);
      return memoryUpload({
        key,
        id,
        enter,
        write: (bytes) => factsOf(key, write(key, bytes)),
        baseBytes: () => {
          const found = base && objects.get(base.key);
          if (base && found?.etag === base.etag) return found.bytes;
          const details = { base: found ? 'changed' : 'gone' };
          throw new BackupError('precondition_failed', 'copy from base', { details });
        },
        hasBase: base !== undefined,
        uploads,
      });
    },
    copy: async ({ from, to, anew = false }, { signal, onProgress }) => {
      enter('copy', to, signal);
      const source = objects.get(from.key);
      if (source?.etag !== from.etag) {
        const details = { base: source ? 'changed' : 'gone', key: from.key };
        throw new BackupError('precondition_failed', `copy key=${from.key}`, { details });
      }
      const there = objects.get(to);
      const copy = !anew && there?.bytes.equals(source.bytes) ? there : write(to, source.bytes);
      onProgress?.(copy.bytes.length);
      return { sizeBytes: copy.bytes.length, etag: copy.etag };
    },
    listUploads: async (_prefix, { signal }) => {
      enter('listUploads', '', signal);
      return [...uploads].map((id) => ({ key: '', uploadId: id, initiated: clock.now() }));
    },
    abortUpload: async ({ key, uploadId: id }, { signal }) => {
      enter('abortUpload', key, signal);
      uploads.delete(id);
    },
    lifecycle: async ({ signal }) => {
      enter('lifecycle', '', signal);
      return self.rules;
    },
    putLifecycle: async ({ found, rules }, { signal }) => {
      enter('putLifecycle', '', signal);
      if (!isDeepStrictEqual(self.rules ?? [], found)) throw lost('rules');
      self.rules = [...rules];
    },
    versioning: async ({ signal }) => {
      enter('versioning', '', signal);
      return 'never';
    },
    presignGet: async ({ key }) => `memory:${key}`,
    bucketEncryption: async () => undefined,
    bucketLock: async () => undefined,
    close: () => undefined,
  };
  return self;
}

interface MemoryUploadInput {
  key: string;
  id: string;
  uploads: Set<string>;
  enter(operation: string, key: string, signal: AbortSignal): void;
  write(bytes: Buffer): { sizeBytes: number; etag: string };
  hasBase: boolean;
  baseBytes(): Buffer;
}

function memoryUpload(input: MemoryUploadInput): ObjectUpload {
  const { key, id, uploads, enter, write, hasBase, baseBytes } = input;
  // head, sections in their places, tail
  let sections: Buffer[][] = [[]];
  let order: readonly number[] = [];
  let current = 0;
  let reserved = Buffer.alloc(0);
  const counters = {
    acceptedBytes: 0,
    sentBytes: 0,
    copiedBytes: 0,
    joinedBytes: 0,
    rereadBytes: 0,
    parts: 0,
    requests: 0,
    uploadRequests: 0,
    copyRequests: 0,
    retries: 0,
  };
  const append = (bytes: Buffer, isSame = false): void => {
    const place = order[current - 1];
    sections.at(place === undefined ? (current === 0 ? 0 : -1) : place + 1)?.push(bytes);
    counters.acceptedBytes += bytes.length;
    if (isSame) counters.copiedBytes += bytes.length;
    else counters.sentBytes += bytes.length;
  };
  return {
    key,
    uploadId: id,
    counters,
    reserve: async (sizeBytes, { signal }) => {
      enter('reserve', key, signal);
      reserved = Buffer.alloc(sizeBytes);
      return reserved;
    },
    arrange: (places) => {
      order = places;
      sections = [sections[0] ?? [], ...places.map(() => []), []];
      current = 1;
    },
    endSection: async () => {
      current += 1;
    },
    commit: (sizeBytes, sameOffset) => {
      const bytes = Buffer.from(reserved.subarray(0, sizeBytes));
      if (sameOffset !== undefined) {
        const there = baseBytes().subarray(sameOffset, sameOffset + sizeBytes);
        assert(bytes.equals(there), 'what is said to be the same is');
      }
      append(bytes, sameOffset !== undefined);
    },
    write: async (bytes, { signal }) => {
      enter('write', key, signal);
      append(Buffer.from(bytes));
    },
    complete: async ({ signal }) => {
      enter('complete', key, signal);
      uploads.delete(id);
      if (hasBase) baseBytes();
      const { sizeBytes, etag } = write(Buffer.concat(sections.flat()));
      return { sizeBytes, etag };
    },
    [Symbol.asyncDispose]: async () => {
      uploads.delete(id);
    },
  };
}

function lost(key: string): BackupError {
  return new BackupError('precondition_failed', `write key=${key}`);
}
