/** Which way the bytes of a transfer go: what differs in the request, and in the words when it goes wrong. */
import type { ErrorCode } from '../errors.ts';

export interface Direction {
  method: 'GET' | 'PUT';
  /** For messages: "start export". */
  name: 'export' | 'import';
  /** The host said no, or nonsense. */
  failed: ErrorCode;
  /** The connection or the host stopped in the middle. */
  broken: ErrorCode;
}

export const EXPORT: Direction = {
  method: 'GET',
  name: 'export',
  failed: 'source_failed',
  broken: 'source_truncated',
};

export const IMPORT: Direction = {
  method: 'PUT',
  name: 'import',
  failed: 'target_failed',
  broken: 'target_failed',
};
