/**
 * Is what a delta stores the whole, right archive? Looked at once a run, outside the measuring, on the embedded S3 server.
 *
 * A machine of two disks, which come in another order than they lie in the archive, is backed up; then, changed, once as a
 * delta and once as a full. Both objects must be the same to the last byte, and readable by the tests' own importer.
 */
import { importXva } from '../test/importer.ts';
import { startSimS3 } from '../test/sim/s3/index.ts';
import { clustered, type Machine, makeDisk } from './changes.ts';
import { startGeneratedSource } from './generated-source.ts';
import { commandOf, MEMORY_MIB } from './lanes.ts';
import { measureCommand } from './measure.ts';
import type { PumpInput, PumpOutput } from './pump.ts';

const BUCKET = 'check';
const VERSION = 'next';
const MIB = 1024 ** 2;

/** Throws unless the two are equal; else a sentence saying what was compared. */
export async function checkDelta(): Promise<string> {
  const machine = checkMachine();
  await using s3 = await startSimS3({ buckets: [BUCKET], etag: 'fast' });
  const source = await startGeneratedSource([machine]);
  try {
    const run = async (version: string, rest: Pick<PumpInput, 'key' | 'base' | 'index'>) => {
      const input: PumpInput = {
        source: `${source.origin}/export/${machine.name}/${version}`,
        fingerprint: '',
        store: {
          bucket: BUCKET,
          prefix: '',
          endpoint: s3.endpoint,
          region: s3.region,
          credentials: { accessKeyId: s3.accessKeyId, secretAccessKey: s3.secretAccessKey },
        },
        memoryMib: MEMORY_MIB,
        streams: 1,
        times: 1,
        byDevice: true,
        ...rest,
      };
      const { stdout } = await measureCommand(commandOf(input), process.env);
      return JSON.parse(stdout) as PumpOutput;
    };
    await run('base', { key: 'base.xva', index: { key: 'base.idx' } });
    const base = { key: 'base.xva', indexKey: 'base.idx' };
    const { sentBytes, copiedBytes } = await run(VERSION, { key: 'delta.xva', base });
    await run(VERSION, { key: 'full.xva' });
    const [delta, full] = ['delta.xva', 'full.xva'].map((key) => s3.inspect.read(BUCKET, key));
    if (!delta || !full || !delta.equals(full)) throw new Error('delta and full differ');
    if (copiedBytes < delta.length / 2) throw new Error(`only ${copiedBytes} bytes were copied`);
    await importXva(slices(delta));
    const [size, sent] = [delta.length, sentBytes].map((bytes) => Math.round(bytes / MIB));
    return `A delta of ${size} MiB that sent ${sent} MiB was compared with a full of the same export: no byte differs, and an independent importer takes it.`;
  } finally {
    await source.stop();
  }
}

function checkMachine(): Machine {
  const disks = [1, 0].map((device) => {
    const storedBlocks = 96 - 32 * device;
    const disk = makeDisk({ device, blocks: 2 * storedBlocks, storedBlocks, seed: device });
    const change = { changedBlocks: 6, clusters: 3, seed: device };
    return { ...disk, changed: { [VERSION]: clustered(storedBlocks, change) } };
  });
  return { name: 'two-disks', disks };
}

async function* slices(bytes: Buffer): AsyncGenerator<Buffer> {
  for (let at = 0; at < bytes.length; at += MIB) yield bytes.subarray(at, at + MIB);
}
