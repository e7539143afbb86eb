/**
 * Carries out the planned faults: before the operation, on its data, on what it stored, on its answer.
 */
import type { IncomingMessage } from 'node:http';
import { bytesOf, slice } from './bytes.ts';
import type { Answer, Call } from './call.ts';
import { S3Error } from './errors.ts';
import type { FaultEffect } from './faults.ts';
import { currentVersion } from './state.ts';

/** Thrown when the connection was cut on purpose: there is nobody to answer. */
export class ConnectionCut extends Error {}

/** Waits, refuses or cuts before anything is done. */
export async function beforeOperation(
  effect: FaultEffect | undefined,
  request: IncomingMessage,
  closing: AbortSignal,
): Promise<void> {
  switch (effect?.kind) {
    case 'status': {
      for await (const _ of request);
      const { status, code, retryAfterSeconds } = effect;
      const headers: Record<string, string> =
        retryAfterSeconds === undefined ? {} : { 'retry-after': String(retryAfterSeconds) };
      throw new S3Error(status, code, 'planned fault', headers);
    }
    case 'reset':
      if (effect.afterBytes === 0) throw cut(request);
      return;
    case 'hang':
      return pause(undefined, closing);
    case 'delay':
      return pause(effect.ms, closing);
  }
}

/** Counts what comes off the wire and cuts where the fault says. */
export function wireCounter(
  effect: FaultEffect | undefined,
  request: IncomingMessage,
  count: (sizeBytes: number) => void,
): (sizeBytes: number) => void {
  if (effect?.kind !== 'reset') return count;
  let left = effect.afterBytes;
  return (sizeBytes) => {
    count(sizeBytes);
    left -= sizeBytes;
    if (left <= 0) throw cut(request);
  };
}

/** Changes the first byte of the data, once. */
export function dataFilter(
  effect: FaultEffect | undefined,
): ((data: Uint8Array) => Uint8Array) | undefined {
  if (effect?.kind !== 'receive-damaged') return undefined;
  let done = false;
  return (data) => {
    if (done || data.length === 0) return data;
    done = true;
    const changed = Uint8Array.from(data);
    changed[0] = (changed[0] as number) ^ 1;
    return changed;
  };
}

/** Damages what the operation has just stored. */
export function damageStored(effect: FaultEffect | undefined, call: Call): void {
  if (effect?.kind !== 'store-damaged' && effect?.kind !== 'store-short') return;
  const bucket = call.world.buckets.get(call.bucketName);
  const upload = bucket?.uploads.get(call.query.get('uploadId') ?? '');
  const stored = upload
    ? upload.parts.get(Number(call.query.get('partNumber')))
    : bucket && currentVersion(bucket, call.key);
  if (!stored) return;
  const { bytes } = stored;
  if (effect.kind === 'store-short') {
    stored.bytes = slice(bytes, 0, Math.max(0, bytes.sizeBytes - 1));
    return;
  }
  const [first] = slice(bytes, 0, 1).chunks;
  if (!first) return;
  const rest = slice(bytes, 1, bytes.sizeBytes - 1);
  stored.bytes = bytesOf(Uint8Array.of((first[0] as number) ^ 1), ...rest.chunks);
}

/** Loses the answer, or replaces it by an error that pretends to be a success. */
export function onAnswer(
  effect: FaultEffect | undefined,
  request: IncomingMessage,
  answer: Answer,
): Answer {
  if (effect?.kind === 'lose-answer' || effect?.kind === 'reset') throw cut(request);
  return answer;
}

/** Resets the connection. */
export function cut(request: IncomingMessage): ConnectionCut {
  // A TLS socket can not send RST itself; destroying it closes the connection below.
  if ('encrypted' in request.socket) request.socket.destroy();
  else request.socket.resetAndDestroy();
  return new ConnectionCut('the connection was cut on purpose');
}

/** Resolves after `ms` (never when undefined), or as soon as the server closes. */
function pause(ms: number | undefined, closing: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const timer = ms === undefined ? undefined : setTimeout(finish, ms);
    function finish(): void {
      clearTimeout(timer);
      closing.removeEventListener('abort', finish);
      resolve();
    }
    if (closing.aborted) finish();
    else closing.addEventListener('abort', finish);
  });
}
