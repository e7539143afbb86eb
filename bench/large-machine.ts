/**
 * A machine of 8 TB virtual size with little data: the whole program, `xvault run`, against a simulated pool over https and
 * the embedded S3 server, both in another process. Time and memory must follow the data, not the size.
 */
import { measureCommand, nodeCommand } from './measure.ts';
import type { Bench } from './report.ts';
import { MAIN } from './serve.ts';
import { startWorld } from './world.ts';

const SIZE_BYTES = 8 * 10 ** 12;
/** Touches about three times as many bytes of blocks: data come in runs that do not begin with a block. */
const DATA_BYTES = 256 * 1024 ** 2;
const QUICK_SIZE_BYTES = 10 ** 12;
const PEAK_MIB = 256 + 150;

/** One backup, from the command line to its record. */
export const measureLargeMachine: Bench = async ({ quick, log }) => {
  const sizeBytes = quick ? QUICK_SIZE_BYTES : SIZE_BYTES;
  const large = { sizeBytes, density: DATA_BYTES / sizeBytes };
  await using world = await startWorld({ machines: 1, backups: 1, large });
  log('the pool is there');
  const command = `${nodeCommand(MAIN)} run --vm large --json`;
  const cost = await measureCommand(command, world.env);
  const { status, result } = JSON.parse(cost.stdout.slice(cost.stdout.indexOf('{'))) as {
    status: string;
    result: { read_bytes: number; sent_bytes: number };
  };
  if (status !== 'succeeded') throw new Error(`the backup is ${status}`);
  const peakMib = cost.peakBytes / 1024 ** 2;
  const mib = (bytes: number) => Math.round(bytes / 1024 ** 2);
  return {
    name: 'large-machine',
    tables: [
      {
        title: `A machine of ${sizeBytes / 10 ** 12} TB virtual size with little data: \`xvault run\``,
        columns: ['read MiB', 'sent MiB', 'seconds', 'CPU s', 'peak MiB'],
        rows: [
          [
            mib(result.read_bytes),
            mib(result.sent_bytes),
            cost.wallSeconds,
            cost.cpuSeconds,
            peakMib,
          ],
        ],
      },
    ],
    targets: [
      {
        name: `${sizeBytes / 10 ** 12} TB: peak MiB`,
        value: peakMib,
        limit: PEAK_MIB,
        kind: 'most',
      },
    ],
    notes: ['Start, XenAPI calls, snapshot and its removal are in it; one run.'],
  };
};
