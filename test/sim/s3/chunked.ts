/**
 * `aws-chunked`: the framing S3 clients put round a body that is signed or summed while it is sent.
 *
 *   <size in hex>[;chunk-signature=<hex>] CRLF <size bytes> CRLF   … the last size is 0, then
 *   <trailer>:<value> CRLF …  CRLF
 *
 * Source: Amazon S3 API reference, "Signature calculations … transferring payload in multiple chunks" and "using
 * trailers". Signed chunks are verified one by one; the signature of signed trailers is not.
 */
import { createHash, type Hash } from 'node:crypto';
import { S3Error } from './errors.ts';
import { chunkSignature, type Proof } from './signature.ts';

/** No chunk header or trailer line of a real client is longer. */
const MAX_LINE_BYTES = 4096;

type State = 'size' | 'data' | 'data-end' | 'trailer' | 'done';

export interface ChunkedDecoder {
  /** Takes framed bytes in pieces of any size. */
  push(piece: Uint8Array): void;
  /** After the last piece. Errors: `IncompleteBody`. */
  end(): void;
  readonly trailers: ReadonlyMap<string, string>;
}

/** Unwraps a body; `onData` gets views of the pieces, in order. */
export function createChunkedDecoder(
  proof: Proof,
  onData: (data: Uint8Array) => void,
): ChunkedDecoder {
  const trailers = new Map<string, string>();
  const signed = proof.payload.startsWith('STREAMING-AWS4-HMAC-SHA256-PAYLOAD');
  let state: State = 'size';
  let line = '';
  let left = 0;
  let expected = '';
  let previous = proof.signature;
  let hash: Hash | undefined;

  const endChunk = () => {
    if (!hash) return;
    const actual = chunkSignature(proof, previous, hash.digest('hex'));
    if (actual !== expected) {
      throw new S3Error(403, 'SignatureDoesNotMatch', 'the signature of a chunk does not match');
    }
    previous = actual;
    hash = undefined;
  };

  const onSize = (text: string) => {
    const [, size = '', signature] =
      /^([0-9a-fA-F]{1,15})(?:;chunk-signature=([0-9a-f]{64}))?$/.exec(text) ?? [];
    if (size === '' || (signed && signature === undefined)) throw badChunk(text);
    left = Number.parseInt(size, 16);
    if (signed) {
      expected = signature as string;
      hash = createHash('sha256');
    }
    if (left > 0) {
      state = 'data';
      return;
    }
    endChunk();
    state = 'trailer';
  };

  const onLine = (text: string) => {
    if (state === 'size') return onSize(text);
    if (state === 'data-end') {
      if (text !== '') throw badChunk(text);
      state = 'size';
    } else if (text === '') {
      state = 'done';
    } else {
      const colon = text.indexOf(':');
      if (colon < 1) throw badChunk(text);
      trailers.set(text.slice(0, colon).trim().toLowerCase(), text.slice(colon + 1).trim());
    }
  };

  /** Reads up to the end of a line; returns where to go on. */
  const takeLine = (piece: Uint8Array, from: number): number => {
    const end = piece.indexOf(10, from);
    line += Buffer.from(piece.subarray(from, end < 0 ? undefined : end)).toString('latin1');
    if (line.length > MAX_LINE_BYTES) throw badChunk(line.slice(0, 40));
    if (end < 0) return piece.length;
    const text = line.replace(/\r$/, '');
    line = '';
    onLine(text);
    return end + 1;
  };

  return {
    trailers,
    push: (piece) => {
      let at = 0;
      while (at < piece.length) {
        if (state === 'done') throw badChunk('bytes after the last chunk');
        if (state !== 'data') {
          at = takeLine(piece, at);
          continue;
        }
        const data = piece.subarray(at, at + left);
        hash?.update(data);
        onData(data);
        at += data.length;
        left -= data.length;
        if (left === 0) {
          endChunk();
          state = 'data-end';
        }
      }
    },
    end: () => {
      // Some clients leave out the empty line after the last chunk when there are no trailers.
      if (state !== 'done' && !(state === 'trailer' && line === '')) {
        throw new S3Error(400, 'IncompleteBody', 'the chunked body ends early');
      }
    },
  };
}

function badChunk(text: string): S3Error {
  return new S3Error(
    400,
    'InvalidRequest',
    `the body is not aws-chunked, near ${text.slice(0, 40)}`,
  );
}
