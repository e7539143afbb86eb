/**
 * S3 servers to test against: the embedded one, a real Ceph RADOS gateway, and the local R2 of Cloudflare's wrangler.
 *
 * The embedded one is always there. The others are fetched or found at first use; where that is not possible the
 * answer is a reason to skip, never a failure. `XVAULT_TEST_SERVERS=embedded,ceph` leaves the others out.
 */
import { type SimS3Options, startSimS3 } from '../sim/s3/index.ts';
import { bucketMaker, type S3Server } from './server.ts';

export { startCeph } from './ceph.ts';
export { startR2 } from './r2.ts';
export type { S3Server, Skipped } from './server.ts';

/** The server inside this process. */
export async function startEmbedded(options: SimS3Options = {}): Promise<S3Server> {
  const server = await startSimS3({ tls: 'both', ...options });
  const { endpoint, endpointTls, caPem, accessKeyId, secretAccessKey, region } = server;
  const facts = { endpoint, accessKeyId, secretAccessKey, region };
  return {
    name: 'embedded',
    ...facts,
    ...(endpointTls !== undefined && { endpointTls }),
    ...(caPem !== undefined && { caPem }),
    createBucket: bucketMaker(facts),
    stop: () => server.close(),
  };
}
