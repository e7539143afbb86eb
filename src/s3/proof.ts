/**
 * Whether the store has what was sent: the parts it lists, and the object that lies at the key.
 *
 * Sizes are compared always, ETags of parts where the store lists them, the CRC32 of the whole object where the store gives one.
 * Only what differs is `data_corrupt`; what the store does not tell proves nothing, and is no error.
 */
import { HeadObjectCommand, ListPartsCommand } from '@aws-sdk/client-s3';
import { BackupError, isBackupError } from '../errors.ts';
import type { Cancellable, StoredObject } from '../ports.ts';
import { type CallOptions, storeStatus } from './calls.ts';
import type { StoreContext } from './context.ts';

/** Answers that are truncated and yet empty: allowed, but not for ever. */
const EMPTY_PAGES_MAX = 100;

/** An upload, and how the store is asked about it. */
export interface UploadTarget {
  context: StoreContext;
  upload: { Bucket: string; Key: string; UploadId: string };
  call: (options: Cancellable) => CallOptions;
}

/** A part as the store took it. */
export interface SentPart {
  partNumber: number;
  etag: string;
  sizeBytes: number;
}

/** The object that is to be there. */
export interface Expected {
  sizeBytes: number;
  parts: number;
  /** CRC32 of all of it, as the store writes it. */
  checksum?: string;
}

/** A 400 to Complete: `data_corrupt` if the store's list of parts is not ours, else what the store said. */
export async function explainRefusal(
  target: UploadTarget,
  parts: readonly SentPart[],
  refusal: BackupError,
  options: Cancellable,
): Promise<BackupError> {
  try {
    await compareParts(target, parts, options);
    return refusal;
  } catch (error) {
    options.signal.throwIfAborted();
    // If the list cannot be had, the refusal itself still says most.
    return isBackupError(error, 'data_corrupt') ? error : refusal;
  }
}

/** The object at the key as the store sees it; undefined when there is none. Errors: `store_*`. */
export async function look(
  { context, upload, call }: UploadTarget,
  options: Cancellable,
): Promise<StoredObject | undefined> {
  const { client, calls } = context;
  const input = { Bucket: upload.Bucket, Key: upload.Key, ChecksumMode: 'ENABLED' as const };
  const answer = await calls(
    'HeadObject',
    (to) => client.send(new HeadObjectCommand(input), to),
    call(options),
  ).catch((error) => {
    if (isBackupError(error) && storeStatus(error) === 404) return undefined;
    throw error;
  });
  if (answer === undefined) return undefined;
  const { ChecksumCRC32: value, ChecksumType: type } = answer;
  const stored: StoredObject = { sizeBytes: answer.ContentLength ?? -1, etag: answer.ETag ?? '' };
  const lockedUntil = answer.ObjectLockRetainUntilDate?.getTime();
  if (lockedUntil !== undefined) stored.lockedUntil = lockedUntil;
  // A composite value (`…-N`) is no checksum of the object's bytes.
  if (value !== undefined && type !== 'COMPOSITE' && !value.includes('-')) {
    stored.checksum = { algorithm: 'crc32', value };
  }
  return stored;
}

/** After an unclear Complete: is what lies there the object we meant? */
export async function isOurs(
  target: UploadTarget,
  expected: Expected,
  options: Cancellable,
): Promise<boolean> {
  const stored = await look(target, options);
  if (stored === undefined || stored.sizeBytes !== expected.sizeBytes) return false;
  const count = /-(\d+)"?$/.exec(stored.etag)?.[1];
  if (count !== undefined && Number(count) !== expected.parts) return false;
  if (stored.checksum === undefined || expected.checksum === undefined) return true;
  return stored.checksum.value === expected.checksum;
}

/** Errors: `data_corrupt` when it is not the object that is to be there. */
export function compareStored(key: string, stored: StoredObject, expected: Expected): void {
  if (stored.sizeBytes !== expected.sizeBytes) {
    throw differs('object', {
      key,
      sent_bytes: expected.sizeBytes,
      stored_bytes: stored.sizeBytes,
    });
  }
  const storedValue = stored.checksum?.value;
  if (storedValue === undefined || expected.checksum === undefined) return;
  if (storedValue !== expected.checksum) {
    throw differs('object', { key, sent_crc32: expected.checksum, stored_crc32: storedValue });
  }
}

/**
 * Number, size and ETag of every part as the store lists them. Stores without ListParts are not asked.
 * Errors: `data_corrupt` when one differs.
 */
export async function compareParts(
  { context, upload, call }: UploadTarget,
  parts: readonly SentPart[],
  options: Cancellable,
): Promise<void> {
  const { client, calls, quirks } = context;
  if (!quirks.listParts) return;
  let at = 0;
  let marker: string | undefined;
  for (let pages = 0; pages < parts.length + EMPTY_PAGES_MAX; pages += 1) {
    const input = { ...upload, ...(marker === undefined ? {} : { PartNumberMarker: marker }) };
    const page = await calls(
      'ListParts',
      (to) => client.send(new ListPartsCommand(input), to),
      call(options),
    ).catch((error) => {
      if (isBackupError(error) && [501, 405].includes(storeStatus(error))) return undefined;
      throw error;
    });
    if (page === undefined) return; // Not offered: size is still compared after completing.
    for (const { PartNumber, Size, ETag } of page.Parts ?? []) {
      const part = parts[at++];
      if (
        part?.partNumber !== PartNumber ||
        part?.sizeBytes !== Size ||
        bare(part?.etag ?? '') !== bare(ETag ?? '')
      ) {
        throw differs('part', {
          part: PartNumber,
          sent_bytes: part?.sizeBytes,
          stored_bytes: Size,
        });
      }
    }
    marker = page.IsTruncated ? page.NextPartNumberMarker : undefined;
    if (marker === undefined) break;
  }
  if (at !== parts.length) throw differs('upload', { sent_parts: parts.length, stored_parts: at });
}

const bare = (etag: string) => etag.replaceAll('"', '');

/** What is stored is not what was sent. */
export function differs(
  what: string,
  details: Record<string, unknown>,
  cause?: unknown,
): BackupError {
  const values = Object.entries(details).map(([name, value]) => `${name}=${value}`);
  return new BackupError('data_corrupt', `find the stored ${what} as sent, ${values.join(' ')}`, {
    details,
    retry: 'later',
    cause,
  });
}
