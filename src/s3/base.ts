/**
 * The object whose ranges are copied: is it still the one that was read?
 *
 * A base is never written again, but a rule of the bucket or somebody else may remove or replace it. Where the store
 * honours it, each copy names the ETag it wants; RGW and R2 ignore or refuse such conditions, so the base is also
 * looked at before the first copy and before the object is completed. What changed in between and back again is met
 * by the checksum of the whole object where the store gives one.
 */
import { BackupError, blameBase, isBackupError } from '../errors.ts';
import type { UploadInput } from '../ports.ts';
import type { CallOptions } from './calls.ts';
import type { StoreContext } from './context.ts';
import { getObject, headObject } from './read.ts';

export type Base = NonNullable<UploadInput['base']>;

export interface BaseGuard {
  readonly base: Base;
  /** The condition for a copy, where the store honours it. */
  readonly ifMatch: string | undefined;
  /** A copy was asked for. */
  readonly wasUsed: boolean;
  /**
   * Before a copy: the first one looks at the base. Errors: `precondition_failed`, details.base `gone`, `changed` or,
   * of what must be restored before it can be read, `archived`.
   */
  expect(options: CallOptions): Promise<void>;
  /** Looks at the base again. Errors: as `expect`. */
  prove(options: CallOptions): Promise<void>;
  /** Reads a range of it. Errors: as `expect`. */
  read(range: { offset: number; length: number }, options: CallOptions): Promise<Uint8Array>;
  /** What the failure of a copy means: the base's state if that is the reason, else the failure itself. */
  explain(error: unknown, options: CallOptions): Promise<unknown>;
}

/** Makes the guard of one upload's base; nothing is asked yet. */
export function createBaseGuard(context: StoreContext, base: Base): BaseGuard {
  let first: Promise<void> | undefined;
  const prove = async (options: CallOptions) => {
    const found = await headObject(context, base.key, options);
    if (found === undefined) throw lostBase(base, 'gone');
    const isSame = bare(found.etag) === bare(base.etag) && found.sizeBytes === base.sizeBytes;
    if (!isSame) throw lostBase(base, 'changed');
  };
  return {
    base,
    ifMatch: context.quirks.copyConditions ? base.etag : undefined,
    get wasUsed() {
      return first !== undefined;
    },
    expect: async (options) => {
      first ??= prove(options);
      await first;
    },
    prove,
    read: async (range, options) => {
      const found = await getObject(context, base.key, { ...options, range }).catch((error) => {
        throw isArchived(error) ? withCause(lostBase(base, 'archived'), error) : error;
      });
      if (found === undefined) throw lostBase(base, 'gone');
      if (bare(found.etag) !== bare(base.etag)) throw lostBase(base, 'changed');
      return found.bytes;
    },
    explain: async (error, options) => {
      if (isBackupError(error, 'data_corrupt')) return blameBase(error);
      if (isArchived(error)) return withCause(lostBase(base, 'archived'), error);
      if (!isBackupError(error, 'store_refused', 'precondition_failed')) return error;
      if (error.details.base !== undefined) return error;
      try {
        await prove(options);
      } catch (found) {
        options.signal.throwIfAborted();
        // A look that failed for another reason says less than the refusal itself.
        if (isBackupError(found, 'precondition_failed')) return withCause(found, error);
      }
      return error;
    },
  };
}

/** Trying again does not help: the object is made without a base instead. */
function lostBase({ key }: Base, base: 'gone' | 'changed' | 'archived'): BackupError {
  const text = `find the base as it was, base=${base} key=${key}`;
  return new BackupError('precondition_failed', text, { details: { base, key }, retry: 'never' });
}

function withCause(found: BackupError, cause: unknown): BackupError {
  const { code, message, details, retry } = found;
  return new BackupError(code, message, { details, retry, cause });
}

const isArchived = (error: unknown) =>
  isBackupError(error, 'store_refused') && error.details.store_code === 'InvalidObjectState';

const bare = (etag: string) => etag.replaceAll('"', '');
