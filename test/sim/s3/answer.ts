/**
 * Writes answers onto the wire: documents, content with back-pressure, S3's error document.
 */
import { once } from 'node:events';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { cut } from './apply-fault.ts';
import type { Bytes } from './bytes.ts';
import type { Answer } from './call.ts';
import type { S3Error } from './errors.ts';
import { el } from './xml.ts';

/** Sends the answer and resolves when the last byte was handed to the socket. */
export async function sendAnswer(
  request: IncomingMessage,
  response: ServerResponse,
  answer: Answer,
  options: { onSent: (sizeBytes: number) => void; cutAfterBytes: number | undefined },
): Promise<void> {
  const { status, headers = {}, body } = answer;
  for (const [name, value] of Object.entries(headers)) response.setHeader(name, value);
  response.statusCode = status;
  if (status === 204 || status === 304) {
    response.end();
    return;
  }
  const content: Bytes =
    typeof body === 'object' ? body : asBytes(typeof body === 'string' ? body : '');
  if (typeof body === 'string') response.setHeader('content-type', 'application/xml');
  response.setHeader('content-length', content.sizeBytes);
  if (request.method === 'HEAD') {
    response.end();
    return;
  }
  let left = options.cutAfterBytes ?? Number.POSITIVE_INFINITY;
  for (const chunk of content.chunks) {
    if (response.destroyed) return;
    const piece = left < chunk.length ? chunk.subarray(0, left) : chunk;
    options.onSent(piece.length);
    left -= piece.length;
    const flowing = response.write(piece);
    if (left <= 0) {
      await new Promise<void>((resolve) => response.write('', () => resolve()));
      throw cut(request);
    }
    if (!flowing) await drained(response);
  }
  response.end();
}

function asBytes(text: string): Bytes {
  const chunk = Buffer.from(text);
  return { sizeBytes: chunk.length, chunks: chunk.length > 0 ? [chunk] : [] };
}

async function drained(response: ServerResponse): Promise<void> {
  const stop = new AbortController();
  const { signal } = stop;
  const settled = [once(response, 'drain', { signal }), once(response, 'close', { signal })];
  await Promise.race(settled);
  stop.abort();
  await Promise.allSettled(settled);
}

/** The error document. */
export function errorAnswer(error: S3Error, resource: string, requestId: string): Answer {
  const inner = el(
    'Error',
    el('Code', error.code),
    el('Message', error.message),
    el('Resource', resource),
    el('RequestId', requestId),
  );
  return {
    status: error.status,
    headers: { ...error.headers },
    body: `<?xml version="1.0" encoding="UTF-8"?>\n${inner.xml}`,
  };
}
