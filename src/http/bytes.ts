/**
 * Bytes with ranges and conditions (RFC 9110, sections 13 and 14): what curl, qemu and nbdkit need of a server.
 *
 * One range at a time. Several, another unit, or what is no range at all count as none was asked for: the whole comes,
 * with 200, as the RFC has it for a server that ignores the field. A range that begins behind the end is 416. There is
 * no Last-Modified, so a date in If-Range never matches and If-Modified-Since is ignored. The first piece is read before
 * anything is said: what fails until then is a problem with its status; later the connection ends, short of its length.
 *
 * The body is a stream, as everywhere; a server that can write memory it is lent takes what the stream would have read
 * (`takeBytes`) and does without the copies.
 */
import { HTTPException } from 'hono/http-exception';
import type { ByteView } from '../backup/disk-view.ts';
import type { Lending, Lent } from '../backup/lending.ts';
import { BackupError } from '../errors.ts';
import type { Answer, Call } from './route.ts';

interface Range {
  offset: number;
  length: number;
}

/** The answer to GET or HEAD of bytes. Errors: `precondition_failed`, 416, those of `read` before its first piece. */
export async function bytesAnswer(call: Call, view: ByteView): Promise<Answer> {
  const { c } = call;
  const { etag, sizeBytes } = view;
  const header = (name: string) => c.req.header(name);
  checkIfMatch(header('if-match'), etag);
  const headers = { etag, 'accept-ranges': 'bytes' };
  if (namesEtag(header('if-none-match'), etag, 'weak')) {
    return { status: 304, headers, body: null };
  }
  const isHead = c.req.method === 'HEAD';
  const ifRange = header('if-range');
  const isWanted = !isHead && (ifRange === undefined || ifRange.trim() === etag);
  const range = isWanted ? readRange(header('range'), sizeBytes) : undefined;
  const { offset, length } = range ?? { offset: 0, length: sizeBytes };
  const last = offset + length - 1;
  return {
    status: range === undefined ? 200 : 206,
    headers: {
      ...headers,
      'content-type': 'application/octet-stream',
      'content-length': String(length),
      'content-disposition': `attachment; filename="${view.fileName}"`,
      ...(range && { 'content-range': `bytes ${offset}-${last}/${sizeBytes}` }),
    },
    body: isHead ? null : await bodyOf(call, view, { offset, length }),
  };
}

/**
 * The one range a Range field asks for, cut at the end; undefined when the field counts as not there. Errors: 416.
 */
export function readRange(field: string | undefined, sizeBytes: number): Range | undefined {
  const [, first = '', last = ''] = /^bytes=\s*(\d*)-(\d*)\s*$/i.exec(field ?? '') ?? [];
  if (first === '' && last === '') return undefined;
  const to = last === '' ? Number.POSITIVE_INFINITY : Number(last);
  if (first === '') {
    const length = Math.min(to, sizeBytes);
    if (length === 0) throw unsatisfiable(sizeBytes);
    return { offset: sizeBytes - length, length };
  }
  const offset = Number(first);
  if (to < offset) return undefined;
  if (offset >= sizeBytes) throw unsatisfiable(sizeBytes);
  return { offset, length: Math.min(to + 1, sizeBytes) - offset };
}

function checkIfMatch(field: string | undefined, etag: string): void {
  if (field === undefined || namesEtag(field, etag, 'strong')) return;
  throw new BackupError('precondition_failed', `match If-Match: the entity tag here is ${etag}`, {
    retry: 'after-fix',
  });
}

/** Tags of ours have no comma in them. */
function namesEtag(field: string | undefined, etag: string, how: 'strong' | 'weak'): boolean {
  if (field === undefined) return false;
  if (field.trim() === '*') return true;
  const tags = field.split(',').map((tag) => tag.trim());
  return tags.some((tag) => (how === 'weak' ? tag.replace(/^W\//, '') : tag) === etag);
}

function unsatisfiable(sizeBytes: number): HTTPException {
  return new HTTPException(416, {
    message: `read Range: it begins behind the end, size_bytes=${sizeBytes}`,
    res: new Response(null, { headers: { 'content-range': `bytes */${sizeBytes}` } }),
  });
}

/** What a body's stream reads from. */
export interface LentBytes {
  /** The rest of them. Errors: those of `ByteView.lend`. */
  next(): Promise<Lent | undefined>;
  /** How the one who takes them takes them. */
  lending: Lending;
  /** To be called at the end, however it comes. */
  leave(): Promise<void>;
}

const taking = new WeakMap<Request, { bytes: LentBytes; body: ReadableStream<Uint8Array> }>();

/** What the stream in this answer would read from, for who reads it in its place; undefined for all other answers. */
export function takeBytes(request: Request, answer: Response): LentBytes | undefined {
  const found = taking.get(request);
  if (found === undefined || answer.body !== found.body || answer.bodyUsed) return undefined;
  taking.delete(request);
  return found.bytes;
}

async function bodyOf({ c, signal }: Call, view: ByteView, range: Range) {
  const bytes = await openBytes(view, range, signal);
  const body = streamOf(bytes);
  taking.set(c.req.raw, { bytes, body });
  return body;
}

async function openBytes(view: ByteView, range: Range, signal: AbortSignal): Promise<LentBytes> {
  const leaving = new AbortController();
  const options = { signal: AbortSignal.any([signal, leaving.signal]) };
  const lending: Lending = { isQuick: false };
  const pieces = view.lend(range, lending, options);
  let first: IteratorResult<Lent, void> | undefined = await pieces.next();
  return {
    lending,
    next: async () => {
      const { done, value } = first ?? (await pieces.next());
      first = undefined;
      return done ? undefined : value;
    },
    leave: async () => {
      leaving.abort();
      await pieces.return();
    },
  };
}

/** Pulled: a reader that does not read has nothing read for him. */
function streamOf(bytes: LentBytes): ReadableStream<Uint8Array> {
  let next: Lent | undefined;
  return new ReadableStream<Uint8Array>(
    {
      pull: async (controller) => {
        const piece = next ?? (await bytes.next());
        // who is not quick gets copies: they are the stream's own
        if (piece) controller.enqueue(piece.bytes);
        next = piece && (await bytes.next());
        if (next === undefined) controller.close();
      },
      cancel: () => bytes.leave(),
    },
    { highWaterMark: 0 },
  );
}
