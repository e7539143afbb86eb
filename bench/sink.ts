/**
 * An S3 server that throws bodies away: a process of its own, so that its CPU is not counted as the uploader's.
 *
 * It speaks just what an upload needs (create, part, complete, head) and keeps only sizes and, when asked to at
 * creation, the CRC of whole objects as the client claims it. No signatures, no data.
 */
import { createServer, type IncomingMessage } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { AddressInfo } from 'node:net';

interface Upload {
  partBytes: Map<number, number>;
  crc: boolean;
}

const uploads = new Map<string, Upload>();
const objects = new Map<string, { sizeBytes: number; crc: string | undefined }>();
let counter = 0;

const tls = process.env.SINK_TLS ? JSON.parse(process.env.SINK_TLS) : undefined;
const listener = async (request: IncomingMessage, response: import('node:http').ServerResponse) => {
  const { pathname, searchParams: query } = new URL(request.url ?? '/', 'http://x');
  let sizeBytes = 0;
  for await (const chunk of request) sizeBytes += (chunk as Buffer).length;
  const id = query.get('uploadId') ?? '';
  const upload = uploads.get(id);
  const crcHeader = request.headers['x-amz-checksum-crc32'];
  if (request.method === 'POST' && query.has('uploads')) {
    const crc = request.headers['x-amz-checksum-algorithm'] === 'CRC32';
    uploads.set(String(++counter), { partBytes: new Map(), crc });
    if (crc) response.setHeader('x-amz-checksum-algorithm', 'CRC32');
    response.end(
      `<InitiateMultipartUploadResult><UploadId>${counter}</UploadId></InitiateMultipartUploadResult>`,
    );
  } else if (request.method === 'PUT' && upload) {
    upload.partBytes.set(Number(query.get('partNumber')), sizeBytes);
    response.setHeader('etag', '"00000000000000000000000000000000"').end();
  } else if (request.method === 'POST' && upload) {
    const total = [...upload.partBytes.values()].reduce((sum, bytes) => sum + bytes, 0);
    objects.set(pathname, { sizeBytes: total, crc: upload.crc ? String(crcHeader) : undefined });
    uploads.delete(id);
    response.end(
      '<CompleteMultipartUploadResult><ETag>"0-1"</ETag></CompleteMultipartUploadResult>',
    );
  } else if (request.method === 'HEAD' && objects.has(pathname)) {
    const object = objects.get(pathname);
    response.setHeader('content-length', String(object?.sizeBytes)).setHeader('etag', '"0"');
    if (object?.crc) response.setHeader('x-amz-checksum-crc32', object.crc);
    response.end();
  } else {
    response.statusCode = request.method === 'GET' || request.method === 'HEAD' ? 404 : 200;
    response.setHeader('etag', '"0"').end();
  }
};

const settings = { noDelay: true, highWaterMark: 1024 * 1024, requestTimeout: 0 };
const server = tls
  ? createTlsServer({ ...settings, ...tls }, listener)
  : createServer(settings, listener);
server.listen(0, '127.0.0.1', () => process.send?.((server.address() as AddressInfo).port));
process.on('disconnect', () => process.exit(0));
