/**
 * Reads a request's body into chunks and checks everything the request says about it.
 *
 * Content-MD5, the signed SHA-256 of the payload, x-amz-checksum-* headers or trailers, the decoded length: all are
 * compared before anything is stored (as AWS does; Ceph RGW ignores a checksum header on a plain put). Only what is
 * asked for is hashed.
 */
import type { IncomingMessage } from 'node:http';
import { type Bytes, bytesOf } from './bytes.ts';
import {
  CHECKSUM_ALGORITHMS,
  type ChecksumAlgorithm,
  checksumHeader,
  createHasher,
  type Hasher,
} from './checksums.ts';
import { createChunkedDecoder } from './chunked.ts';
import { S3Error } from './errors.ts';
import type { Proof } from './signature.ts';

/** The largest single put S3 takes: 5 GiB. */
export const MAX_PUT_BYTES = 5 * 1024 ** 3;

export interface ReadBody {
  bytes: Bytes;
  /** 32 hex digits: MD5, or a cheap stand-in of the same shape. */
  etag: string;
  /** Base64 of each checksum that was sent or asked for. */
  checksums: Map<ChecksumAlgorithm, string>;
  /** The algorithm the client named or sent a value of. */
  sentAlgorithm?: ChecksumAlgorithm;
}

export interface BodyOptions {
  proof: Proof;
  headers: Readonly<Record<string, string>>;
  etag: 'md5' | 'fast' | 'none';
  /** Also computed, whether the client sends a value or not. */
  wanted?: ChecksumAlgorithm | undefined;
  /** Told of every piece as it comes off the wire; may throw or destroy the request. */
  onWire: (sizeBytes: number) => void;
  /** Stands in for a damaged wire: gives what is taken instead of what came. */
  onData?: ((data: Uint8Array) => Uint8Array) | undefined;
}

/** Reads to the end and verifies. Errors: `BadDigest`, `XAmzContentSHA256Mismatch`, `IncompleteBody`, `EntityTooLarge`. */
export async function readBody(request: IncomingMessage, options: BodyOptions): Promise<ReadBody> {
  const { headers, proof } = options;
  const streaming = proof.payload.startsWith('STREAMING-');
  const sentAlgorithm = namedAlgorithm(headers);
  const hashers = createHashers(options, sentAlgorithm);
  const chunks: Uint8Array[] = [];
  let sizeBytes = 0;
  const take = (received: Uint8Array) => {
    const chunk = options.onData ? options.onData(received) : received;
    sizeBytes += chunk.length;
    if (sizeBytes > MAX_PUT_BYTES) throw new S3Error(400, 'EntityTooLarge');
    chunks.push(chunk);
    for (const hasher of hashers.values()) hasher.update(chunk);
  };
  const decoder = streaming ? createChunkedDecoder(proof, take) : undefined;
  // Not destroyed when a check throws: the refusal must still be answered.
  const pieces: AsyncIterable<Buffer> = request.iterator({ destroyOnReturn: false });
  for await (const piece of pieces) {
    options.onWire(piece.length);
    if (decoder) decoder.push(piece);
    else take(piece);
  }
  decoder?.end();
  const declared = streaming ? headers['x-amz-decoded-content-length'] : undefined;
  if (declared !== undefined && Number(declared) !== sizeBytes) {
    throw new S3Error(400, 'IncompleteBody', 'the body is not as long as the request said');
  }
  const digests = new Map<string, Buffer>();
  for (const [name, hasher] of hashers) digests.set(name, hasher.digest());
  checkDigests(digests, options, decoder?.trailers);
  return result(bytesOf(...chunks), digests, options, sentAlgorithm);
}

/** The algorithm a client names, by a value, a trailer or the SDK's own header. */
export function namedAlgorithm(
  headers: Readonly<Record<string, string>>,
): ChecksumAlgorithm | undefined {
  const trailer = headers['x-amz-trailer']?.toLowerCase();
  const named = (
    headers['x-amz-sdk-checksum-algorithm'] ?? headers['x-amz-checksum-algorithm']
  )?.toUpperCase();
  return CHECKSUM_ALGORITHMS.find((algorithm) => {
    const header = checksumHeader(algorithm);
    return headers[header] !== undefined || trailer === header || named === algorithm;
  });
}

function createHashers(
  options: BodyOptions,
  sentAlgorithm: ChecksumAlgorithm | undefined,
): Map<string, Hasher> {
  const { headers, proof, etag, wanted } = options;
  const hashers = new Map<string, Hasher>();
  const add = (name: ChecksumAlgorithm | 'MD5') => hashers.set(name, createHasher(name));
  if (etag === 'md5' || headers['content-md5'] !== undefined) add('MD5');
  if (etag === 'fast') add('CRC32');
  if (/^[0-9a-f]{64}$/.test(proof.payload)) add('SHA256');
  if (sentAlgorithm) add(sentAlgorithm);
  if (wanted) add(wanted);
  return hashers;
}

function checkDigests(
  digests: ReadonlyMap<string, Buffer>,
  options: BodyOptions,
  trailers: ReadonlyMap<string, string> | undefined,
): void {
  const { headers, proof } = options;
  const md5 = headers['content-md5'];
  if (md5 !== undefined) {
    if (Buffer.from(md5, 'base64').length !== 16) throw new S3Error(400, 'InvalidDigest');
    if (digests.get('MD5')?.toString('base64') !== md5) {
      throw new S3Error(400, 'BadDigest', 'the Content-MD5 does not match what was received');
    }
  }
  const isHash = /^[0-9a-f]{64}$/.test(proof.payload);
  if (isHash && digests.get('SHA256')?.toString('hex') !== proof.payload) {
    throw new S3Error(
      400,
      'XAmzContentSHA256Mismatch',
      'the x-amz-content-sha256 does not match what was received',
    );
  }
  for (const algorithm of CHECKSUM_ALGORITHMS) {
    const header = checksumHeader(algorithm);
    const sent = headers[header] ?? trailers?.get(header);
    if (sent !== undefined && digests.get(algorithm)?.toString('base64') !== sent) {
      throw new S3Error(400, 'BadDigest', `the ${algorithm} sent does not match what was received`);
    }
  }
  const announced = headers['x-amz-trailer']?.toLowerCase();
  if (trailers && announced !== undefined && !trailers.has(announced)) {
    throw new S3Error(400, 'MalformedTrailerError', 'the announced trailer is missing');
  }
}

function result(
  bytes: Bytes,
  digests: ReadonlyMap<string, Buffer>,
  options: BodyOptions,
  sentAlgorithm: ChecksumAlgorithm | undefined,
): ReadBody {
  const checksums = new Map<ChecksumAlgorithm, string>();
  for (const algorithm of CHECKSUM_ALGORITHMS) {
    if (algorithm !== sentAlgorithm && algorithm !== options.wanted) continue;
    const digest = digests.get(algorithm);
    if (digest) checksums.set(algorithm, digest.toString('base64'));
  }
  const etag = etagOf(options.etag, digests, bytes.sizeBytes);
  return { bytes, etag, checksums, ...(sentAlgorithm && { sentAlgorithm }) };
}

function etagOf(
  kind: BodyOptions['etag'],
  digests: ReadonlyMap<string, Buffer>,
  sizeBytes: number,
): string {
  if (kind === 'md5') return digests.get('MD5')?.toString('hex') ?? '';
  if (kind === 'none') return '';
  return fastEtag(digests.get('CRC32') ?? Buffer.alloc(4), sizeBytes);
}

/** An ETag that costs a CRC32 instead of an MD5 (six times less): shaped the same, equal for equal content. */
export function fastEtag(crc32: Buffer, sizeBytes: number): string {
  const size = Buffer.alloc(12);
  size.writeBigUInt64BE(BigInt(sizeBytes), 4);
  return Buffer.concat([size, crc32]).toString('hex');
}
