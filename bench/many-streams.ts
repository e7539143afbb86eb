/**
 * 1, 4 and 16 exports at the same time in one process: does throughput hold, does memory stay within its budget?
 *
 * The same bytes in all: 16 exports one after the other, in 4 rows of 4, all at once. As in one-stream.ts, what the start
 * costs is taken off. Source and sink are on the far side of a link, where there can be one: what is compared is one
 * process with itself, and over loopback it is billed more of the source's work the more it reads at once.
 */
import { join } from 'node:path';
import { laneEnv, MEMORY_MIB, pumpCommand, type Scheme } from './lanes.ts';
import { FAR_BUFFER_BYTES, type Link, openLink } from './link.ts';
import { type Cost, measureCommand, median } from './measure.ts';
import { type Ends, missingNginx, startEnds } from './nginx.ts';
import type { PumpOutput } from './pump.ts';
import type { Bench, BenchInput, Section } from './report.ts';
import { type Source, writeSource } from './source.ts';

const GIB = 1024 ** 3;
const EXPORTS = 16;
const STREAMS = [1, 4, 16] as const;
const BLOCKS = 512;
const QUICK_BLOCKS = 48;
/** What a process may take beside the budget. */
const BESIDE_MIB = 150;
const THROUGHPUT_LEAST = 0.9;
const CPU_MOST = 1.2;

interface Figures {
  cpuPerGib: number;
  /** Of the whole machine. */
  machinePerGib: number;
  gibPerSecond: number;
  peakMib: number;
}

/** Measures over http and over https, in more rounds than others: what is judged is a tenth, and machines are noisy. */
export const measureManyStreams: Bench = async (input) => {
  const section: Section = { name: 'many-streams', tables: [], targets: [], notes: [] };
  const missing = missingNginx();
  if (missing) return { ...section, notes: [missing] };
  const link = openLink();
  if (typeof link === 'string') input.log(`source and sink are on loopback: ${link}`);
  const far = typeof link === 'string' ? undefined : link;
  try {
    return await measureAll(input, section, far);
  } finally {
    far?.close();
  }
};

async function measureAll(
  { quick, rounds: usual, folder, log }: BenchInput,
  section: Section,
  link: Link | undefined,
): Promise<Section> {
  const rounds = 2 * usual - 1;
  const ends = await startEnds(folder, { link });
  try {
    const source = await writeSource(join(folder, 'export/big'), quick ? QUICK_BLOCKS : BLOCKS);
    const tiny = await writeSource(join(folder, 'export/tiny'), 1);
    for (const scheme of ['http', 'https'] as const) {
      const figures = await measureScheme({ scheme, ends, source, tiny, rounds, log });
      report(section, scheme, figures);
    }
  } finally {
    await ends.stop();
  }
  const place = link
    ? `in a network of their own, with ${FAR_BUFFER_BYTES / 1024} KiB at most in each of their socket buffers`
    : 'on loopback, as there can be no link';
  section.notes.push(
    `${EXPORTS} exports of ${quick ? QUICK_BLOCKS : BLOCKS} MiB, ${rounds} interleaved rounds, medians; source and sink are ${place}.`,
  );
  return section;
}

async function measureScheme(input: {
  scheme: Scheme;
  ends: Ends;
  source: Source;
  tiny: Source;
  rounds: number;
  log(line: string): void;
}): Promise<Map<number, Figures>> {
  const { scheme, ends, source, tiny, rounds, log } = input;
  const env = laneEnv(ends);
  const costs = new Map<number, Cost[]>();
  const starts: Cost[] = [];
  const run = async (way: { source: Source; file: string }, streams: number, times: number) => {
    const options = { checksum: 'crc32', streams, times } as const;
    const cost = await measureCommand(pumpCommand({ ...way, scheme, ends }, options), env);
    const { digests } = JSON.parse(cost.stdout) as PumpOutput;
    if (digests.join() !== way.source.contentDigest) throw new Error('the digests differ');
    return cost;
  };
  for (let round = 0; round < rounds; round += 1) {
    starts.push(await run({ source: tiny, file: 'tiny' }, 1, 1));
    for (const streams of STREAMS) {
      const cost = await run({ source, file: 'big' }, streams, EXPORTS / streams);
      costs.set(streams, [...(costs.get(streams) ?? []), cost]);
      log(`${scheme} round ${round + 1}: ${streams} at once`);
    }
  }
  const gib = (source.sizeBytes * EXPORTS) / GIB;
  const of = (some: Cost[], field: Exclude<keyof Cost, 'stdout'>) =>
    median(some.map((cost) => cost[field]));
  const spent = (some: Cost[], field: 'cpuSeconds' | 'machineSeconds' | 'wallSeconds') =>
    of(some, field) - of(starts, field);
  return new Map(
    [...costs].map(([streams, some]) => [
      streams,
      {
        cpuPerGib: spent(some, 'cpuSeconds') / gib,
        machinePerGib: spent(some, 'machineSeconds') / gib,
        gibPerSecond: gib / spent(some, 'wallSeconds'),
        peakMib: of(some, 'peakBytes') / 1024 ** 2,
      },
    ]),
  );
}

function report(section: Section, scheme: Scheme, figures: Map<number, Figures>): void {
  section.tables.push({
    title: `Exports at once in one process, XVAULT_MEMORY_MIB=${MEMORY_MIB}, ${scheme} on both ends`,
    columns: ['exports at once', 'CPU s/GiB', 'source and sink too', 'GiB/s in all', 'peak MiB'],
    rows: [...figures].map(([streams, row]) => [
      String(streams),
      row.cpuPerGib,
      row.machinePerGib,
      row.gibPerSecond,
      row.peakMib,
    ]),
  });
  const [one, , all] = STREAMS.map((streams) => figures.get(streams));
  if (!one || !all) return;
  const name = `${scheme}: ${EXPORTS} at once`;
  const throughput = all.gibPerSecond / one.gibPerSecond;
  const cpu = all.cpuPerGib / one.cpuPerGib;
  const memory = MEMORY_MIB + BESIDE_MIB;
  section.targets.push(
    {
      name: `${name}: throughput by that of one`,
      value: throughput,
      limit: THROUGHPUT_LEAST,
      kind: 'least',
    },
    { name: `${name}: CPU per GiB by that of one`, value: cpu, limit: CPU_MOST, kind: 'most' },
    { name: `${name}: peak MiB`, value: all.peakMib, limit: memory, kind: 'most' },
  );
}
