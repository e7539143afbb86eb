/**
 * One request as the operations see it, and the answer they give: no sockets here.
 */
import type { IncomingMessage } from 'node:http';
import { type BodyOptions, type ReadBody, readBody } from './body.ts';
import { type Bytes, toBuffer } from './bytes.ts';
import { S3Error } from './errors.ts';
import type { Proof } from './signature.ts';
import type { Bucket, Upload } from './state.ts';
import { parseXml, type XmlNode } from './xml.ts';

/** XML bodies are small; 10,000 parts with checksums fit. */
const MAX_XML_BYTES = 4 * 1024 * 1024;

/** The server's memory and the settings its operations look at. */
export interface World {
  buckets: Map<string, Bucket>;
  now(): number;
  region: string;
  etag: 'md5' | 'fast';
  /** Play Cloudflare R2: equal parts, and its refusals. */
  equalParts: boolean;
  /** Of the key service; undefined: it knows every key. */
  kmsKeys?: readonly string[] | undefined;
  count: (name: 'copiedBytes', value: number) => void;
}

export interface Call {
  world: World;
  /** '' for the service itself. */
  bucketName: string;
  /** '' for the bucket itself. */
  key: string;
  query: ReadonlyMap<string, string>;
  headers: Readonly<Record<string, string>>;
  host: string;
  request: IncomingMessage;
  proof: Proof;
  /** Asks the policy for one more right, without refusing. */
  allows(action: string, key?: string): boolean;
  onWire: (sizeBytes: number) => void;
  /** A fault's hand in the data on its way. */
  onData?: ((data: Uint8Array) => Uint8Array) | undefined;
}

export interface Answer {
  status: number;
  headers?: Record<string, string>;
  /** A string is an XML document. */
  body?: string | Bytes;
}

/** The bucket of the call. Errors: `NoSuchBucket`. */
export function needBucket(call: Call, name = call.bucketName): Bucket {
  const bucket = call.world.buckets.get(name);
  if (!bucket) throw new S3Error(404, 'NoSuchBucket', 'there is no such bucket');
  return bucket;
}

/** The open upload the query names. Errors: `NoSuchUpload`. */
export function needUpload(call: Call, bucket: Bucket): Upload {
  const upload = bucket.uploads.get(call.query.get('uploadId') ?? '');
  if (!upload || upload.key !== call.key) {
    throw new S3Error(
      404,
      'NoSuchUpload',
      'there is no such upload; it may be completed or aborted',
    );
  }
  return upload;
}

/** Reads the body as content of an object. */
export function readContent(
  call: Call,
  wanted?: BodyOptions['wanted'],
  etag: BodyOptions['etag'] = call.world.etag,
): Promise<ReadBody> {
  const { request, headers, proof, onWire, onData } = call;
  return readBody(request, { headers, proof, onWire, onData, etag, wanted });
}

/** Reads the body as XML with this root. Errors: `MalformedXML`. */
export async function readXml(call: Call, root: string): Promise<XmlNode> {
  const isComplete = root === 'CompleteMultipartUpload';
  if (Number(call.headers['content-length'] ?? 0) > MAX_XML_BYTES) {
    throw new S3Error(400, 'MaxMessageLengthExceeded', 'the request is too big');
  }
  // A checksum header of Complete is of the object, not of the list of parts.
  const headers = Object.fromEntries(
    Object.entries(call.headers).filter(
      ([name]) => !(isComplete && name.startsWith('x-amz-checksum-')),
    ),
  );
  const { bytes } = await readContent({ ...call, headers }, undefined, 'none');
  const node = parseXml(toBuffer(bytes).toString('utf8'));
  if (node.name !== root) throw new S3Error(400, 'MalformedXML', `expected ${root}`);
  return node;
}

/** A whole number from the query, within limits. Errors: `InvalidArgument`. */
export function queryNumber(
  call: Call,
  name: string,
  limits: { min: number; max: number; fallback: number },
): number {
  const text = call.query.get(name);
  if (text === undefined || text === '') return limits.fallback;
  const value = /^\d{1,9}$/.test(text) ? Number(text) : Number.NaN;
  if (!(value >= limits.min)) {
    throw new S3Error(400, 'InvalidArgument', `${name} is not a number from ${limits.min}`);
  }
  return Math.min(value, limits.max);
}

/** An entity tag as headers write it. */
export function quoted(etag: string): string {
  return `"${etag}"`;
}

/** Time as listings write it. */
export function isoTime(time: number): string {
  return new Date(time).toISOString();
}
