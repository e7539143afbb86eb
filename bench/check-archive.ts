/**
 * Is what the measured path sends a whole, right archive? Looked at once a run, outside the measuring.
 *
 * The pump sends the same source into the embedded S3 server; the object is read by the tests' own importer, which shares
 * no code with the codec, and its disk compared with the source's.
 */
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { importXva } from '../test/importer.ts';
import { digestDisk } from '../test/sim/disk.ts';
import { startSimS3 } from '../test/sim/s3/index.ts';
import { MEMORY_MIB } from './lanes.ts';
import { measureCommand, nodeCommand } from './measure.ts';
import type { Ends } from './nginx.ts';
import type { PumpInput, PumpOutput } from './pump.ts';
import type { Source } from './source.ts';

const BUCKET = 'check';

/** Throws unless the stored object is the source's archive, normalised; else a sentence saying what was compared. */
export async function checkArchive(input: {
  url: string;
  source: Source;
  ends: Ends;
}): Promise<string> {
  const { url, source, ends } = input;
  await using s3 = await startSimS3({ buckets: [BUCKET], etag: 'fast' });
  const pump: PumpInput = {
    source: url,
    fingerprint: ends.fingerprint,
    store: {
      bucket: BUCKET,
      prefix: '',
      endpoint: s3.endpoint,
      region: s3.region,
      credentials: { accessKeyId: s3.accessKeyId, secretAccessKey: s3.secretAccessKey },
    },
    key: 'checked.xva',
    memoryMib: MEMORY_MIB,
    streams: 1,
    times: 1,
  };
  const file = `${import.meta.dirname}/pump.ts`;
  const { stdout } = await measureCommand(
    `${nodeCommand(file)} '${JSON.stringify(pump)}'`,
    process.env,
  );
  const said = JSON.parse(stdout) as PumpOutput;
  const stored = s3.inspect.read(BUCKET, pump.key);
  if (stored?.length !== source.normalisedBytes) throw new Error(`stored ${stored?.length} bytes`);
  if (said.digests[0] !== source.contentDigest) throw new Error('the digests differ');
  const [ours, theirs] = await Promise.all([
    importXva(slices(stored)),
    importXva(createReadStream(source.path)),
  ]);
  const [one, other] = [ours, theirs].map(({ disks }) => disks.map((d) => digestDisk(d.image)));
  if (one?.join() !== other?.join()) throw new Error('the disks differ');
  const sha256 = createHash('sha256').update(stored).digest('hex').slice(0, 16);
  return `The stored archive was read back by an independent importer, its disk equal to the source's (SHA-256 ${sha256}…).`;
}

async function* slices(bytes: Buffer): AsyncGenerator<Buffer> {
  const STEP = 1024 * 1024;
  for (let at = 0; at < bytes.length; at += STEP) yield bytes.subarray(at, at + STEP);
}
