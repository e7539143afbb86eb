/**
 * The pump one writes first: fetch → `@aws-sdk/lib-storage`, 16 MiB parts, four on their way; nothing is checked.
 *
 * `node bench/lib-storage-pump.ts <source> <endpoint> <key>`; defaults of SDK and library where they have any.
 */
import { Readable } from 'node:stream';
import type { ReadableStream } from 'node:stream/web';
import { S3Client } from '@aws-sdk/client-s3';
import { Upload } from '@aws-sdk/lib-storage';

const [source = '', endpoint = '', key = ''] = process.argv.slice(2);
const client = new S3Client({
  endpoint,
  region: 'us-east-1',
  forcePathStyle: true,
  credentials: { accessKeyId: 'bench', secretAccessKey: 'bench' },
});
const { body } = await fetch(source);
const upload = new Upload({
  client,
  params: { Bucket: 'bench', Key: key, Body: Readable.fromWeb(body as ReadableStream) },
  partSize: 16 * 1024 ** 2,
  queueSize: 4,
});
await upload.done();
client.destroy();
