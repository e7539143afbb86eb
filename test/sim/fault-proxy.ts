/**
 * An HTTP proxy that stands before any S3 server and makes single requests go wrong.
 *
 * The embedded server has a fault port of its own; this one gives real servers the same troubles: a connection reset
 * in the middle of a part, refusals, delays, and requests that were carried out while their answer was lost. The Host
 * header is passed on as the client signed it, so signatures stay valid. Plain HTTP only.
 */
import {
  Agent,
  createServer,
  type IncomingMessage,
  type ServerResponse,
  request as send,
} from 'node:http';
import type { AddressInfo } from 'node:net';

export type ProxyEffect =
  /** Answers with this error; the body is read, nothing is passed on. */
  | { kind: 'status'; status: number; code: string; retryAfterSeconds?: number }
  /** Cuts the client's connection after so many bytes of the body; the server sees a cut request. */
  | { kind: 'reset'; afterBytes: number }
  /** Passes the request on, waits for the answer and cuts the connection instead of giving it. */
  | { kind: 'lose-answer' }
  /** Holds the request back until `release` is called. */
  | { kind: 'hold' };

export interface ProxyFault {
  effect: ProxyEffect;
  /** Absent: every request. */
  operation?: string;
  /** Fitting requests that pass first; default 0. */
  skip?: number;
  /** How often it acts; default once. */
  times?: number;
}

export interface FaultProxy {
  endpoint: string;
  plan(fault: ProxyFault): void;
  clear(): void;
  /** Lets all held requests go on. */
  release(): void;
  /** Faults that acted, and requests by operation. */
  readonly struck: number;
  readonly requests: Readonly<Record<string, number>>;
  close(): Promise<void>;
}

interface Planned {
  fault: ProxyFault;
  skip: number;
  left: number;
}

/** Starts a proxy before `target` on a free port of the loopback. */
export async function startFaultProxy(target: string): Promise<FaultProxy> {
  const { hostname, port, pathname } = new URL(target);
  const base = pathname === '/' ? '' : pathname;
  const agent = new Agent({ keepAlive: true });
  const planned: Planned[] = [];
  const requests: Record<string, number> = {};
  let struck = 0;
  let held: (() => void)[] = [];

  function strike(operation: string): ProxyEffect | undefined {
    for (const [i, plan] of planned.entries()) {
      if (plan.fault.operation !== undefined && plan.fault.operation !== operation) continue;
      if (plan.skip > 0) {
        plan.skip -= 1;
        continue;
      }
      plan.left -= 1;
      if (plan.left === 0) planned.splice(i, 1);
      struck += 1;
      return plan.fault.effect;
    }
    return undefined;
  }

  const server = createServer(async (from, to) => {
    const operation = operationOf(from);
    requests[operation] = (requests[operation] ?? 0) + 1;
    const effect = strike(operation);
    if (effect?.kind === 'status') return refuse(from, to, effect);
    if (effect?.kind === 'hold') await new Promise<void>((resolve) => held.push(resolve));
    const { method, headers, url: path } = from;
    const upstream = send({ hostname, port, path, method, headers, agent }, (answer) => {
      if (effect?.kind === 'lose-answer') {
        answer.resume().on('end', () => from.socket.destroy());
        return;
      }
      to.writeHead(answer.statusCode ?? 502, answer.rawHeaders);
      answer.pipe(to);
      answer.on('error', () => to.destroy());
    });
    upstream.on('error', () => from.socket.destroy());
    to.on('close', () => upstream.destroy());
    if (effect?.kind === 'reset') cutAfter(from, upstream, effect.afterBytes);
    else from.pipe(upstream);
  });
  server.requestTimeout = 0;
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));

  return {
    endpoint: `http://127.0.0.1:${(server.address() as AddressInfo).port}${base}`,
    plan: (fault) => planned.push({ fault, skip: fault.skip ?? 0, left: fault.times ?? 1 }),
    clear: () => {
      planned.length = 0;
    },
    release: () => {
      for (const go of held) go();
      held = [];
    },
    get struck() {
      return struck;
    },
    requests,
    close: async () => {
      agent.destroy();
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

/** S3's name of what a request asks for. */
export function operationOf({ method, url, headers }: IncomingMessage): string {
  const { searchParams: query, pathname } = new URL(url ?? '/', 'http://x');
  const isBucket = pathname.split('/').filter(Boolean).length < 2;
  if (method === 'PUT' && query.has('partNumber')) {
    return headers['x-amz-copy-source'] === undefined ? 'UploadPart' : 'UploadPartCopy';
  }
  if (method === 'PUT') return isBucket ? 'CreateBucket' : 'PutObject';
  if (method === 'POST') {
    return query.has('uploads') ? 'CreateMultipartUpload' : 'CompleteMultipartUpload';
  }
  if (method === 'DELETE') return query.has('uploadId') ? 'AbortMultipartUpload' : 'DeleteObject';
  if (method === 'HEAD') return 'HeadObject';
  if (query.has('uploads')) return 'ListMultipartUploads';
  if (query.has('uploadId')) return 'ListParts';
  return query.has('list-type') ? 'ListObjectsV2' : 'GetObject';
}

function refuse(
  from: IncomingMessage,
  to: ServerResponse,
  effect: Extract<ProxyEffect, { kind: 'status' }>,
): void {
  from.resume().on('end', () => {
    to.statusCode = effect.status;
    to.setHeader('content-type', 'application/xml');
    if (effect.retryAfterSeconds !== undefined) {
      to.setHeader('retry-after', String(effect.retryAfterSeconds));
    }
    to.end(
      `<?xml version="1.0"?><Error><Code>${effect.code}</Code><Message>injected</Message></Error>`,
    );
  });
}

function cutAfter(
  from: IncomingMessage,
  upstream: ReturnType<typeof send>,
  afterBytes: number,
): void {
  let seen = 0;
  from.on('data', (chunk: Buffer) => {
    seen += chunk.length;
    if (seen < afterBytes) {
      upstream.write(chunk);
      return;
    }
    upstream.destroy();
    from.socket.destroy();
  });
}
