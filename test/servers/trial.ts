/**
 * What a check is given: two clients, buckets, content, and a notebook of answers.
 *
 * A check asks a server questions and writes down each answer as `label: status code`. The notes are compared with
 * those of Ceph RGW 20, which are kept in `answers/`. What must be so on every server (content read back is content
 * written) is asserted, and a failed assertion is a note as well: `not so: …`.
 */
import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { Agent as HttpAgent } from 'node:http';
import { Agent as HttpsAgent } from 'node:https';
import {
  type CompleteMultipartUploadCommandOutput,
  type CreateMultipartUploadCommandInput,
  S3,
  type S3ClientConfig,
} from '@aws-sdk/client-s3';
import { NodeHttpHandler } from '@smithy/node-http-handler';
import type { S3Server } from './server.ts';

export const MIB = 1024 * 1024;
/** A server that does not answer within this time did not answer. */
const REQUEST_TIMEOUT_MS = 30_000;

/** Content for all checks: random, of an odd size, cut into uneven parts of 5 MiB, 6 MiB and a bit, and the rest. */
export const CONTENT = randomBytes(13 * MIB + 777);
export const FIVE_MIB = CONTENT.subarray(0, 5 * MIB);
export const SIX_MIB = CONTENT.subarray(5 * MIB, 11 * MIB + 1);
export const REST = CONTENT.subarray(11 * MIB + 1);
export const NO_SUCH_ETAG = '"00000000000000000000000000000000"';

export interface Check {
  name: string;
  run: (trial: Trial) => Promise<void>;
}

/** A part is bytes to send, or a range of an object to copy. */
export type PartInput = Buffer | { copy: string; range?: string; ifMatch?: string };

export interface Trial {
  server: S3Server;
  /** Checksums only where a call needs them: how xvault itself is set. */
  s3: S3;
  /** The SDK's defaults: CRC32 on everything, streams as aws-chunked. */
  s3Default: S3;
  bucket: string;
  other: string;
  /** A bucket with versioning, where the server has it. */
  versioned(): Promise<string>;
  /** A bucket with object lock, where the server has it. */
  locked(): Promise<string>;
  /** A key of this check only. */
  key(name: string): string;
  client(config: S3ClientConfig): S3;
  /** Writes the answer down and returns it; undefined when it was an error. */
  answer<T>(label: string, call: Promise<T>): Promise<T | undefined>;
  note(label: string, value: unknown): void;
  read(
    key: string,
    more?: { Bucket?: string; Range?: string; VersionId?: string },
  ): Promise<Buffer>;
  /** A whole multipart upload, aborted when any step fails. */
  upload(
    key: string,
    parts: readonly PartInput[],
    more?: UploadMore,
  ): Promise<CompleteMultipartUploadCommandOutput>;
  /** Lets days pass (or waits for them) until `state` gives `wanted`; returns the last state. */
  afterDays(days: number, state: () => Promise<string>, wanted: string): Promise<string>;
}

export interface UploadMore {
  bucket?: string;
  create?: Partial<CreateMultipartUploadCommandInput>;
  complete?: { IfMatch?: string; IfNoneMatch?: string };
  via?: S3;
}

/** Everything a run shares between its checks. */
export interface Run {
  server: S3Server;
  afterDays: Trial['afterDays'];
  close(): void;
  trial(check: Check): { trial: Trial; notes: string[] };
}

/** Makes buckets and clients for one server. */
export async function startRun(server: S3Server, afterDays: Trial['afterDays']): Promise<Run> {
  const clients: S3[] = [];
  const client = (config: S3ClientConfig) => {
    const made = createClient(server, config);
    clients.push(made);
    return made;
  };
  const s3 = client({
    requestChecksumCalculation: 'WHEN_REQUIRED',
    responseChecksumValidation: 'WHEN_REQUIRED',
  });
  const s3Default = client({});
  const stamp = `${Date.now().toString(36)}-${process.pid}`;
  const bucket = await server.createBucket(`checks-a-${stamp}`);
  const other = await server.createBucket(`checks-b-${stamp}`);
  const versioned = once(async () => {
    const name = await server.createBucket(`checks-v-${stamp}`);
    const VersioningConfiguration = { Status: 'Enabled' as const };
    await s3.putBucketVersioning({ Bucket: name, VersioningConfiguration }).catch(() => {});
    return name;
  });
  const locked = once(() => server.createBucket(`checks-l-${stamp}`, { objectLock: true }));
  let number = 0;
  const shared = { server, s3, s3Default, bucket, other, versioned, locked, client, afterDays };
  return {
    server,
    afterDays,
    close: () => {
      for (const each of clients) each.destroy();
    },
    trial: () => {
      number += 1;
      return createTrial(shared, `c${number}`);
    },
  };
}

function once<T>(make: () => Promise<T>): () => Promise<T> {
  let made: Promise<T> | undefined;
  return () => {
    made ??= make();
    return made;
  };
}

function createClient(server: S3Server, config: S3ClientConfig): S3 {
  const { endpoint, region, accessKeyId, secretAccessKey, caPem } = server;
  const agent = { keepAlive: true, maxSockets: 64 };
  return new S3({
    endpoint,
    region,
    credentials: { accessKeyId, secretAccessKey },
    forcePathStyle: true,
    maxAttempts: 1,
    requestHandler: new NodeHttpHandler({
      httpAgent: new HttpAgent(agent),
      httpsAgent: new HttpsAgent({ ...agent, ...(caPem !== undefined && { ca: caPem }) }),
      requestTimeout: REQUEST_TIMEOUT_MS,
      throwOnRequestTimeout: true,
    }),
    ...config,
  });
}

type Shared = Omit<Trial, 'key' | 'answer' | 'note' | 'read' | 'upload'>;

function createTrial(shared: Shared, prefix: string): { trial: Trial; notes: string[] } {
  const notes: string[] = [];
  const { s3, bucket } = shared;
  const trial: Trial = {
    ...shared,
    key: (name) => `${prefix}/${name}`,
    answer: async (label, call) => {
      try {
        const output = await call;
        notes.push(`${label}: ${statusOf(output)}`);
        return output;
      } catch (error) {
        notes.push(`${label}: ${describeError(error)}`);
        return undefined;
      }
    },
    note: (label, value) => {
      notes.push(`${label}: ${value}`);
    },
    read: async (key, more = {}) => {
      const output = await s3.getObject({ Bucket: bucket, Key: key, ...more });
      return Buffer.from((await output.Body?.transformToByteArray()) ?? []);
    },
    upload: (key, parts, more = {}) => upload(shared, key, parts, more),
  };
  return { trial, notes };
}

function statusOf(output: unknown): number | string {
  return (output as { $metadata?: { httpStatusCode?: number } })?.$metadata?.httpStatusCode ?? 'ok';
}

/** Status and code of a refusal. */
export function describeError(error: unknown): string {
  const failure = error as {
    name?: string;
    Code?: string;
    $metadata?: { httpStatusCode?: number };
  };
  const status = failure.$metadata?.httpStatusCode;
  // Which way a connection ends depends on the moment.
  if (status === undefined) return 'no answer';
  return `${status} ${failure.Code ?? failure.name}`;
}

async function upload(
  shared: Shared,
  key: string,
  parts: readonly PartInput[],
  more: UploadMore,
): Promise<CompleteMultipartUploadCommandOutput> {
  const { bucket: Bucket = shared.bucket, via = shared.s3 } = more;
  const target = { Bucket, Key: key };
  const { UploadId } = await via.createMultipartUpload({ ...more.create, ...target });
  const Parts: { PartNumber: number; ETag: string | undefined }[] = [];
  try {
    for (const part of parts) {
      const PartNumber = Parts.length + 1;
      const where = { ...target, UploadId, PartNumber };
      if (Buffer.isBuffer(part)) {
        const { ETag } = await via.uploadPart({ ...where, Body: part });
        Parts.push({ PartNumber, ETag });
      } else {
        const { CopyPartResult } = await via.uploadPartCopy({
          ...where,
          CopySource: part.copy,
          CopySourceRange: part.range,
          CopySourceIfMatch: part.ifMatch,
        });
        Parts.push({ PartNumber, ETag: CopyPartResult?.ETag });
      }
    }
    const MultipartUpload = { Parts };
    return await via.completeMultipartUpload({
      ...target,
      UploadId,
      MultipartUpload,
      ...more.complete,
    });
  } catch (error) {
    // The refusal is what the check is about; an upload that cannot be aborted changes nothing in it.
    await via.abortMultipartUpload({ ...target, UploadId }).catch(() => {});
    throw error;
  }
}

/** Compares by hash: a failed comparison of megabytes must not print them. */
export function assertSame(actual: Buffer, expected: Buffer, what = 'content'): void {
  const digest = (bytes: Buffer) => createHash('sha256').update(bytes).digest('hex');
  assert.ok(
    digest(actual) === digest(expected),
    `${what} differs: ${actual.length} bytes, expected ${expected.length}`,
  );
}

/** Runs a check and returns its notes. */
export async function observe(run: Run, check: Check): Promise<string[]> {
  const { trial, notes } = run.trial(check);
  try {
    await check.run(trial);
  } catch (error) {
    const isRefusal = (error as { $metadata?: unknown }).$metadata !== undefined;
    notes.push(
      isRefusal ? `stopped by ${describeError(error)}` : `not so: ${(error as Error).message}`,
    );
  }
  return notes;
}
