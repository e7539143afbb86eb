/** Archives somebody made by hand, where they lie: a file here, or an object of a bucket with the settings' endpoint and keys. */
import { createReadStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import type { AdoptSource } from '../backup/adopt-stream.ts';
import type { Settings } from '../config.ts';
import { BackupError } from '../errors.ts';
import type { Cancellable, Log } from '../ports.ts';
import { wireAdapters } from './wire.ts';

/** Read from a file at once. */
const READ_BYTES = 1_048_576;
const OBJECT = /^s3:\/\/([^/]+)\/(.+)$/;

export interface OpenedSource extends AsyncDisposable {
  source: AdoptSource;
}

/** Looks whether it is there. Errors: `not_found`, `invalid_request`, the store's. */
export async function openSource(
  name: string,
  { settings, log }: { settings: Settings; log: Log },
  options: Cancellable,
): Promise<OpenedSource> {
  const [, bucket, key] = OBJECT.exec(name) ?? [];
  if (bucket === undefined || key === undefined) return await openFile(name);
  const { stateBucket: _, ...rest } = settings.bucket;
  // a store of its own, for the bucket may be another one
  const adapters = wireAdapters({ ...settings, bucket: { ...rest, name: bucket } }, { log });
  const { store } = adapters;
  try {
    const found = await store.head(key, options);
    if (found === undefined) throw new BackupError('not_found', `find ${name}: no such object`);
    const { sizeBytes, etag, lastModified: modifiedMs } = found;
    const read: AdoptSource['read'] = (to) => store.read({ key, sizeBytes, etag }, to);
    const close = () => adapters[Symbol.asyncDispose]();
    return { source: { name, sizeBytes, modifiedMs, read }, [Symbol.asyncDispose]: close };
  } catch (error) {
    await adapters[Symbol.asyncDispose]();
    throw error;
  }
}

async function openFile(name: string): Promise<OpenedSource> {
  const facts = await stat(name).catch((cause) => {
    throw new BackupError('not_found', `find file ${name}: it is not there, or may not be read`, {
      cause,
    });
  });
  if (!facts.isFile()) throw new BackupError('invalid_request', `read ${name}: this is no file`);
  const source: AdoptSource = {
    name,
    sizeBytes: facts.size,
    modifiedMs: facts.mtimeMs,
    read: async function* ({ signal }) {
      const file = createReadStream(name, { highWaterMark: READ_BYTES, signal });
      try {
        for await (const piece of file) yield piece as Buffer;
      } catch (cause) {
        signal.throwIfAborted();
        throw new BackupError('source_failed', `read file ${name}`, { cause });
      }
    },
  };
  return { source, [Symbol.asyncDispose]: () => Promise.resolve() };
}
