/**
 * A small S3 server inside the process: for `xvault demo` and for tests, never for data anybody wants to keep.
 *
 * It speaks path style and virtual-hosted style (`bucket.localhost`), verifies every signature, keeps everything in
 * memory and answers as Ceph RGW 20 does; where AWS is stricter and a client should learn it here, it is as strict.
 * The differences are listed, each with its reason, beside the checks in test/servers/. No package outside Node is
 * used. Not played: ACLs, policies as documents, replication, storage classes.
 */
import { randomInt, randomUUID } from 'node:crypto';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { createCertificate } from '../xapi/certificate.ts';
import { errorAnswer, sendAnswer } from './answer.ts';
import {
  beforeOperation,
  ConnectionCut,
  cut,
  damageStored,
  dataFilter,
  onAnswer,
  wireCounter,
} from './apply-fault.ts';
import { bytesOf, slice, toBuffer } from './bytes.ts';
import type { Answer, Call, World } from './call.ts';
import { encryptionHeaders } from './encryption.ts';
import { S3Error } from './errors.ts';
import { createFaults, type Faults, type Watch } from './faults.ts';
import { applyLifecycle } from './lifecycle.ts';
import { type Operation, refuseAsR2, route } from './route.ts';
import { verifySignature } from './signature.ts';
import { createBucket, currentVersion } from './state.ts';

export type { Fault, FaultEffect, Faults, Watch } from './faults.ts';

/** Bigger reads from the socket: fewer chunks per part. */
const SOCKET_BUFFER_BYTES = 1024 * 1024;
/** Longer than any client keeps a connection idle: a reset by accident would look like a fault. */
const KEEP_ALIVE_MS = 120_000;

export interface SimS3Options {
  /** 0 or absent: any free one. */
  port?: number;
  /** `true`: https with a certificate made now (see `caPem`); `both`: http, and https on a second port. */
  tls?: boolean | 'both' | { key: string; cert: string };
  accessKeyId?: string;
  secretAccessKey?: string;
  region?: string;
  /** Buckets that are there from the start. */
  buckets?: readonly string[];
  /** Play Cloudflare R2: all parts but the last equal, no tags, versions or locks. */
  equalParts?: boolean;
  /** `md5` as S3 has it (1.3 s of CPU per GiB), or `fast`: a CRC32 in the same shape. */
  etag?: 'md5' | 'fast';
  /** Time of objects and lifecycle rules. */
  clock?: { now(): number };
  /** Time that signatures are compared with; the real one when absent. */
  signatureClock?: { now(): number };
  /** Seed of the faults' draws. */
  seed?: number;
  /** Asked for every right (`s3:PutObject`, bucket, key, what the request says); false is AccessDenied. */
  policy?: (
    action: string,
    bucket: string,
    key: string,
    headers: Readonly<Record<string, string>>,
  ) => boolean;
  /** Keys of the key service; absent: it knows every key. */
  kmsKeys?: readonly string[];
}

export interface SimS3Stats {
  /** Requests by operation. */
  requests: Record<string, number>;
  /** Answers by `operation status code`, such as `PutObject 412 PreconditionFailed`. */
  answers: Record<string, number>;
  /** The most requests of an operation that ran at the same time. */
  peaks: Record<string, number>;
  receivedBytes: number;
  sentBytes: number;
  copiedBytes: number;
  /** Bugs of this server: a test that finds one here should fail. */
  internalErrors: unknown[];
}

export interface SimS3 extends AsyncDisposable {
  endpoint: string;
  /** With `tls: 'both'`. */
  endpointTls?: string;
  caPem?: string;
  accessKeyId: string;
  secretAccessKey: string;
  region: string;
  faults: Faults;
  stats: SimS3Stats;
  /** Looks into the memory, past signatures and policies. */
  inspect: {
    createBucket(name: string): void;
    /** Forgets all that is in it. */
    emptyBucket(name: string): void;
    keys(bucket: string): string[];
    read(bucket: string, key: string): Buffer | undefined;
    /** Changes the byte at `offset` as a failing disk would: ETag and checksums stay those of what was stored. */
    damage(bucket: string, key: string, offset: number): void;
    uploads(bucket: string): { key: string; uploadId: string; parts: number }[];
    /** Bytes of all current objects. */
    storedBytes(bucket: string): number;
  };
  close(): Promise<void>;
}

interface Running {
  world: World;
  stats: SimS3Stats;
  options: SimS3Options;
  credentials: { accessKeyId: string; secretAccessKey: string };
  faults: ReturnType<typeof createFaults>;
  active: Map<string, number>;
  closing: AbortController;
}

/** Starts the server on the loopback interface. */
export async function startSimS3(options: SimS3Options = {}): Promise<SimS3> {
  const running = createRunning(options);
  const { world, stats, credentials, faults, closing } = running;
  for (const name of options.buckets ?? []) {
    world.buckets.set(name, createBucket(name, world.now()));
  }
  const listener = (request: IncomingMessage, response: ServerResponse) => {
    void serve(running, request, response);
  };
  const settings = {
    noDelay: true,
    highWaterMark: SOCKET_BUFFER_BYTES,
    requestTimeout: 0,
    keepAliveTimeout: KEEP_ALIVE_MS,
  };
  const certificate = readCertificate(options.tls);
  const servers: { server: Server; scheme: string }[] = [];
  if (certificate) {
    const server = createTlsServer({ ...settings, ...certificate }, listener);
    servers.push({ server, scheme: 'https' });
  }
  if (!certificate || options.tls === 'both') {
    servers.unshift({ server: createServer(settings, listener), scheme: 'http' });
  }
  const [endpoint = '', endpointTls] = await Promise.all(
    servers.map(({ server, scheme }, index) =>
      listen(server, scheme, index === 0 ? (options.port ?? 0) : 0),
    ),
  );
  const close = async () => {
    closing.abort();
    await Promise.all(servers.map(({ server }) => stop(server)));
  };
  return {
    endpoint,
    ...(endpointTls !== undefined && { endpointTls }),
    ...(certificate && { caPem: certificate.cert }),
    ...credentials,
    region: world.region,
    faults,
    stats,
    inspect: createInspector(world),
    close,
    [Symbol.asyncDispose]: close,
  };
}

function createRunning(options: SimS3Options): Running {
  const stats: SimS3Stats = {
    requests: {},
    answers: {},
    peaks: {},
    receivedBytes: 0,
    sentBytes: 0,
    copiedBytes: 0,
    internalErrors: [],
  };
  const world: World = {
    buckets: new Map(),
    now: () => (options.clock ?? Date).now(),
    region: options.region ?? 'us-east-1',
    etag: options.etag ?? 'md5',
    equalParts: options.equalParts ?? false,
    kmsKeys: options.kmsKeys,
    count: (name, value) => {
      stats[name] += value;
    },
  };
  const credentials = {
    accessKeyId: options.accessKeyId ?? 'simulated-key',
    secretAccessKey: options.secretAccessKey ?? 'simulated-secret',
  };
  const faults = createFaults(options.seed);
  const active = new Map<string, number>();
  return { world, stats, options, credentials, faults, active, closing: new AbortController() };
}

function readCertificate(tls: SimS3Options['tls']): { key: string; cert: string } | undefined {
  if (tls === undefined || tls === false) return undefined;
  if (typeof tls === 'object') return tls;
  const serial = randomInt(2 ** 31);
  const { keyPem, certPem } = createCertificate({
    address: '127.0.0.1',
    serial,
    nowMs: Date.now(),
  });
  return { key: keyPem, cert: certPem };
}

async function listen(server: Server, scheme: string, port: number): Promise<string> {
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, '127.0.0.1', resolve);
  });
  return `${scheme}://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

async function stop(server: Server): Promise<void> {
  const closed = new Promise((resolve) => server.close(resolve));
  server.closeAllConnections();
  await closed;
}

function createInspector(world: World): SimS3['inspect'] {
  const find = (name: string) => world.buckets.get(name) ?? createBucket(name, 0);
  return {
    createBucket: (name) => {
      world.buckets.set(name, world.buckets.get(name) ?? createBucket(name, world.now()));
    },
    emptyBucket: (name) => {
      world.buckets.set(name, createBucket(name, world.now()));
    },
    keys: (name) => find(name).keys.filter((key) => currentVersion(find(name), key)),
    read: (name, key) => {
      const version = currentVersion(find(name), key);
      return version && toBuffer(version.bytes);
    },
    damage: (name, key, offset) => {
      const version = currentVersion(find(name), key);
      if (version === undefined) throw new Error(`no object ${key}`);
      const { bytes } = version;
      const [at] = slice(bytes, offset, 1).chunks;
      const behind = slice(bytes, offset + 1, bytes.sizeBytes - offset - 1);
      version.bytes = bytesOf(
        ...slice(bytes, 0, offset).chunks,
        Uint8Array.of((at?.[0] ?? 0) ^ 1),
        ...behind.chunks,
      );
    },
    uploads: (name) =>
      [...find(name).uploads.values()].map(({ key, uploadId, parts }) => ({
        key,
        uploadId,
        parts: parts.size,
      })),
    storedBytes: (name) =>
      find(name).keys.reduce(
        (sum, key) => sum + (currentVersion(find(name), key)?.bytes.sizeBytes ?? 0),
        0,
      ),
  };
}

/** One request, from its first line to the end of its answer. */
async function serve(
  running: Running,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const { stats, options } = running;
  const requestId = randomUUID();
  const clock = options.signatureClock ?? Date;
  response.setHeader('x-amz-request-id', requestId);
  response.setHeader('date', new Date(clock.now()).toUTCString());
  let operationName = 'unknown';
  let cutAfterBytes: number | undefined;
  let answer: Answer;
  let code = '';
  try {
    const call = readCall(running, request);
    const operation = route({ ...call, method: request.method ?? '' });
    operationName = operation.name;
    const result = await perform(running, call, operation);
    answer = result.answer;
    cutAfterBytes = result.cutAfterBytes;
  } catch (error) {
    if (error instanceof ConnectionCut || request.socket.destroyed) return;
    if (!(error instanceof S3Error)) stats.internalErrors.push(error);
    const shown = error instanceof S3Error ? error : new S3Error(500, 'InternalError');
    code = ` ${shown.code}`;
    answer = errorAnswer(shown, request.url ?? '', requestId);
  }
  const label = `${operationName} ${answer.status}${code}`;
  stats.answers[label] = (stats.answers[label] ?? 0) + 1;
  const onSent = (sizeBytes: number) => {
    stats.sentBytes += sizeBytes;
  };
  await sendAnswer(request, response, answer, { onSent, cutAfterBytes }).catch((error) => {
    if (!(error instanceof ConnectionCut)) stats.internalErrors.push(error);
  });
}

function readCall(running: Running, request: IncomingMessage): Call {
  const { world, options, credentials, stats } = running;
  const [rawPath = '/', rawQuery = ''] = splitOnce(request.url ?? '/', '?');
  const headers: Record<string, string> = {};
  for (const [name, values] of Object.entries(request.headersDistinct)) {
    if (values) headers[name] = values.join(',');
  }
  let query: [string, string][];
  let path: string;
  try {
    query = readQuery(rawQuery);
    path = decodeURIComponent(rawPath);
  } catch (error) {
    throw new S3Error(400, 'InvalidURI', String(error));
  }
  const proof = verifySignature(
    { method: request.method ?? '', rawPath, query, headers },
    credentials,
    (options.signatureClock ?? Date).now(),
  );
  const [, virtual] = /^(.+)\.localhost(?::\d+)?$/.exec(headers.host ?? '') ?? [];
  const [bucketName = '', key = ''] =
    virtual === undefined ? splitOnce(path.slice(1), '/') : [virtual, path.slice(1)];
  const { policy } = options;
  // A part is encrypted as its upload is: a policy judges it by that.
  const upload = world.buckets.get(bucketName)?.uploads.get(new Map(query).get('uploadId') ?? '');
  const said = { ...headers, ...(upload && encryptionHeaders(upload.attributes)) };
  return {
    world,
    bucketName,
    key,
    query: new Map(query),
    headers,
    host: headers.host ?? '',
    request,
    proof,
    allows: (action, other = key) => policy?.(action, bucketName, other, said) ?? true,
    onWire: (sizeBytes) => {
      stats.receivedBytes += sizeBytes;
    },
  };
}

function splitOnce(text: string, separator: string): [string, string | undefined] {
  const at = text.indexOf(separator);
  return at < 0 ? [text, undefined] : [text.slice(0, at), text.slice(at + 1)];
}

function readQuery(raw: string): [string, string][] {
  return raw
    .split('&')
    .filter((each) => each !== '')
    .map((each) => {
      const [name, value = ''] = splitOnce(each.replaceAll('+', ' '), '=');
      return [decodeURIComponent(name), decodeURIComponent(value)];
    });
}

async function look({ faults }: Running, call: Call, request: Parameters<Watch>[0]): Promise<void> {
  if ((await faults.watch?.(request)) === 'cut') throw cut(call.request);
}

async function perform(
  running: Running,
  call: Call,
  operation: Operation,
): Promise<{ answer: Answer; cutAfterBytes: number | undefined }> {
  const { stats, faults, active, world, closing } = running;
  const { name } = operation;
  stats.requests[name] = (stats.requests[name] ?? 0) + 1;
  active.set(name, (active.get(name) ?? 0) + 1);
  stats.peaks[name] = Math.max(stats.peaks[name] ?? 0, active.get(name) ?? 0);
  try {
    if (operation.action !== '' && !call.allows(operation.action)) {
      throw new S3Error(403, 'AccessDenied', `no right to ${operation.action}`);
    }
    if (world.equalParts) refuseAsR2(operation, call.headers);
    const partNumber = call.query.has('partNumber')
      ? Number(call.query.get('partNumber'))
      : undefined;
    const target = { operation: name, bucket: call.bucketName, key: call.key, partNumber };
    await look(running, call, { ...target, done: false });
    const effect = faults.strike(target);
    await beforeOperation(effect, call.request, closing.signal);
    if (effect?.kind === 'error-in-200') throw new S3Error(200, effect.code, 'planned fault');
    const bucket = world.buckets.get(call.bucketName);
    if (bucket) applyLifecycle(bucket, world.now());
    const onWire = wireCounter(effect, call.request, call.onWire);
    const answer = await operation.handle({ ...call, onWire, onData: dataFilter(effect) });
    damageStored(effect, call);
    await look(running, call, { ...target, done: true });
    const cutAfterBytes = effect?.kind === 'cut-answer' ? effect.afterBytes : undefined;
    return { answer: onAnswer(effect, call.request, answer), cutAfterBytes };
  } finally {
    active.set(name, (active.get(name) ?? 1) - 1);
  }
}
