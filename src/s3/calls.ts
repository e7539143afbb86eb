/**
 * One call of the store: retried, counted, its errors translated. Every request of this adapter goes through here.
 */
import { S3ServiceException } from '@aws-sdk/client-s3';
import { BackupError } from '../errors.ts';
import type { Cancellable, Clock, Log, Meter } from '../ports.ts';
import { type CallSite, translateStoreError } from './errors.ts';
import { CALL_BUDGET, type Failure, type RetryBudget, retry } from './retry.ts';

/** What the SDK's `send` takes as second argument. */
export interface SendOptions {
  abortSignal: AbortSignal;
}

export interface CallOptions extends Cancellable {
  key?: string | undefined;
  budget?: RetryBudget | undefined;
  /** Told of every failed try that is followed by another. */
  onRetry?: ((failure: Failure) => void) | undefined;
  /** Told of every try. */
  onRequest?: ((operation: string) => void) | undefined;
}

/** Runs one operation: `send` is called once for each try and reads the whole answer. */
export type Calls = <T>(
  operation: string,
  send: (options: SendOptions) => Promise<T>,
  options: CallOptions,
) => Promise<T>;

export interface CallDeps {
  clock: Clock;
  log: Log;
  meter: Meter;
  random: () => number;
}

/** Makes `call`; `budget` replaces the small calls' budget. */
export function createCalls(
  deps: CallDeps,
  settings: Pick<CallSite, 'bucket' | 'endpoint' | 'encryption' | 'locks'> & {
    budget?: RetryBudget | undefined;
  },
): Calls {
  const { clock, log, meter } = deps;
  return async (operation, send, options) => {
    const { signal, key = '' } = options;
    const attempt = async () => {
      options.onRequest?.(operation);
      const startedAt = clock.elapsed();
      try {
        const answer = await send({ abortSignal: signal });
        meter.count('store_requests', 1, { operation, outcome: 'ok' });
        return answer;
      } catch (error) {
        meter.count('store_requests', 1, { operation, outcome: outcomeOf(error) });
        throw error;
      } finally {
        meter.observe('store_request_seconds', (clock.elapsed() - startedAt) / 1000, { operation });
      }
    };
    try {
      return await retry(attempt, deps, {
        budget: options.budget ?? settings.budget ?? CALL_BUDGET,
        signal,
        onRetry: (failure, { code, status }) => {
          meter.count('store_retries', 1, { operation });
          log.debug('store call is tried again', { operation, key, code, status });
          options.onRetry?.(failure);
        },
      });
    } catch (error) {
      signal.throwIfAborted();
      throw translateStoreError(error, { operation, key, ...settings });
    }
  };
}

function outcomeOf(error: unknown): string {
  const status = error instanceof S3ServiceException ? error.$metadata.httpStatusCode : undefined;
  return status === undefined ? 'network' : String(status);
}

/** The store's status of a translated error; 0 when there was no answer. */
export function storeStatus(error: BackupError): number {
  const status = error.details.store_status;
  return typeof status === 'number' ? status : 0;
}

/**
 * Whether bytes of an answer begin where the range does. A store or a proxy that knows no ranges answers with the whole
 * object, and as many bytes of its beginning would look right.
 */
export function isAnswerTo(
  range: { offset: number },
  { ContentRange }: { ContentRange?: string | undefined },
): boolean {
  if (ContentRange === undefined) return range.offset === 0;
  return ContentRange.startsWith(`bytes ${range.offset}-`);
}

/** Trying again would not help. */
export function notARange(key: string): BackupError {
  const text = 'read a range: the store, or a proxy before it, answered with other bytes';
  return new BackupError('store_refused', `${text}, key=${key}`, { details: { key } });
}
