/**
 * A collector for tests: takes OTLP over HTTP (POST /v1/traces, protobuf) and keeps the spans.
 *
 * The packages that write this format have no reader, so there is one here for the few fields tests look at. Field numbers:
 * opentelemetry-proto v1.7, trace/v1/trace.proto and common/v1/common.proto.
 */
import { createServer, type IncomingHttpHeaders } from 'node:http';
import type { AddressInfo } from 'node:net';
import { gunzipSync } from 'node:zlib';

export interface SeenSpan {
  traceId: string;
  spanId: string;
  /** '' of a root. */
  parentId: string;
  name: string;
  kind: number;
  startNs: bigint;
  endNs: bigint;
  attributes: Record<string, unknown>;
  links: { traceId: string; spanId: string }[];
  /** 2: failed. */
  status: number;
  statusMessage: string;
  /** Attributes of who sent it. */
  resource: Record<string, unknown>;
}

export interface Collector extends AsyncDisposable {
  /** For OTEL_EXPORTER_OTLP_ENDPOINT. */
  url: string;
  spans: SeenSpan[];
  /** Of every request. */
  requests: { path: string; headers: IncomingHttpHeaders; body: Buffer }[];
}

/** Listens on a free loopback port. */
export async function startCollector(): Promise<Collector> {
  const spans: SeenSpan[] = [];
  const requests: Collector['requests'] = [];
  const server = createServer((request, response) => {
    const pieces: Buffer[] = [];
    request.on('data', (piece) => pieces.push(piece));
    request.on('end', () => {
      const sent = Buffer.concat(pieces);
      const body = request.headers['content-encoding'] === 'gzip' ? gunzipSync(sent) : sent;
      requests.push({ path: request.url ?? '', headers: request.headers, body });
      spans.push(...readSpans(body));
      response.writeHead(200, { 'content-type': 'application/x-protobuf' }).end();
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${port}`,
    spans,
    requests,
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

type Field = { number: number; value: bigint; bytes: Buffer };

/** The fields of one message in their order. */
function fields(message: Buffer): Field[] {
  const found: Field[] = [];
  let at = 0;
  const varint = (): bigint => {
    let value = 0n;
    for (let shift = 0n; ; shift += 7n) {
      const byte = message.readUInt8(at);
      at += 1;
      value |= BigInt(byte & 0x7f) << shift;
      if (byte < 0x80) return value;
    }
  };
  const take = (length: number): Buffer => {
    at += length;
    return message.subarray(at - length, at);
  };
  while (at < message.length) {
    const tag = varint();
    const number = Number(tag >> 3n);
    const type = Number(tag & 7n);
    const none = Buffer.alloc(0);
    if (type === 0) found.push({ number, value: varint(), bytes: none });
    else if (type === 2) found.push({ number, value: 0n, bytes: take(Number(varint())) });
    else if (type === 1) found.push({ number, value: take(8).readBigUInt64LE(), bytes: none });
    else if (type === 5) found.push({ number, value: BigInt(take(4).readUInt32LE()), bytes: none });
    else throw new Error(`wire type ${type}`);
  }
  return found;
}

const all = (message: Buffer, number: number) =>
  fields(message).flatMap((field) => (field.number === number ? [field] : []));
const bytesOf = (message: Buffer, number: number) => all(message, number)[0]?.bytes ?? Buffer.of();
const numberOf = (message: Buffer, number: number) => all(message, number)[0]?.value ?? 0n;

function attributesOf(message: Buffer, number: number): Record<string, unknown> {
  return Object.fromEntries(
    all(message, number).map(({ bytes }) => {
      const [any] = fields(bytesOf(bytes, 2));
      const value = any?.number === 1 ? any.bytes.toString() : any?.value;
      return [bytesOf(bytes, 1).toString(), any?.number === 3 ? Number(value) : value];
    }),
  );
}

function readSpans(request: Buffer): SeenSpan[] {
  return all(request, 1).flatMap(({ bytes: one }) => {
    const resource = attributesOf(bytesOf(one, 1), 1);
    const scopes = all(one, 2).flatMap(({ bytes }) => all(bytes, 2));
    return scopes.map(({ bytes: span }): SeenSpan => {
      const status = bytesOf(span, 15);
      return {
        traceId: bytesOf(span, 1).toString('hex'),
        spanId: bytesOf(span, 2).toString('hex'),
        parentId: bytesOf(span, 4).toString('hex'),
        name: bytesOf(span, 5).toString(),
        kind: Number(numberOf(span, 6)),
        startNs: numberOf(span, 7),
        endNs: numberOf(span, 8),
        attributes: attributesOf(span, 9),
        links: all(span, 13).map(({ bytes }) => ({
          traceId: bytesOf(bytes, 1).toString('hex'),
          spanId: bytesOf(bytes, 2).toString('hex'),
        })),
        status: Number(numberOf(status, 3)),
        statusMessage: bytesOf(status, 2).toString(),
        resource,
      };
    });
  });
}
