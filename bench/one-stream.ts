/**
 * One export into one object: xvault beside the pipes and pumps others use, same source, same sink.
 *
 * CPU counted is that of the whole pump, user and system, all its processes; not that of the two ends. Each way also
 * moves a tiny export, and what that costs (start of interpreters, loading of libraries) is taken off: the figures are
 * those of the bytes. Rounds are interleaved; believe ratios of one run, not absolute figures of two.
 */
import { join } from 'node:path';
import { checkArchive } from './check-archive.ts';
import { LANES, type Lane, laneEnv, type Scheme, type Way } from './lanes.ts';
import { type Cost, measureCommand, median } from './measure.ts';
import { missingNginx, startEnds } from './nginx.ts';
import type { Bench, Table, Target } from './report.ts';
import { writeSource } from './source.ts';

const GIB = 1024 ** 3;
const BLOCKS = 2048;
const QUICK_BLOCKS = 192;
/** What xvault does by itself against a sink that keeps no checksums, as this one: it asks, and sends none. */
const OURS = LANES[1]?.name ?? '';

interface Figures {
  cpuPerGib: number;
  secondsPerGib: number;
  peakMib: number;
  startSeconds: number;
}

/** Measures every way over http and over https. */
export const measureOneStream: Bench = async ({ quick, rounds, folder, log }) => {
  const missing = missingNginx();
  if (missing) return { name: 'one-stream', tables: [], targets: [], notes: [missing] };
  const ends = await startEnds(folder);
  try {
    const big = await writeSource(join(folder, 'export/big'), quick ? QUICK_BLOCKS : BLOCKS);
    const tiny = await writeSource(join(folder, 'export/tiny'), 1);
    const checked = await checkArchive({ url: `${ends.http}/export/big`, source: big, ends });
    log(checked);
    const env = laneEnv(ends);
    const tables: Table[] = [];
    const targets: Target[] = [];
    for (const scheme of ['http', 'https'] as const) {
      const results = new Map<Lane, { big: Cost[]; tiny: Cost[] }>();
      for (let round = 0; round < rounds; round += 1) {
        for (const lane of LANES.filter((one) => one.missing === undefined)) {
          const result = results.get(lane) ?? { big: [], tiny: [] };
          results.set(lane, result);
          const way = (source: typeof big, file: string): Way => ({ source, file, scheme, ends });
          result.tiny.push(await measureCommand(lane.command(way(tiny, 'tiny')), env));
          result.big.push(await measureCommand(lane.command(way(big, 'big')), env));
          log(`${scheme} round ${round + 1}: ${lane.name}`);
        }
      }
      const figures = new Map(
        [...results].map(([lane, costs]) => [
          lane.name,
          toFigures(costs, (big.sizeBytes - tiny.sizeBytes) / GIB),
        ]),
      );
      tables.push(toTable(scheme, figures));
      targets.push(...toTargets(scheme, figures));
    }
    const size = (big.sizeBytes / GIB).toFixed(2);
    return {
      name: 'one-stream',
      tables,
      targets,
      notes: [
        `Export of ${size} GiB, ${rounds} interleaved rounds, medians. ${checked}`,
        `What was to be reached is compared with "${OURS}": the sink keeps none.`,
      ],
    };
  } finally {
    await ends.stop();
  }
};

function toFigures({ big, tiny }: { big: Cost[]; tiny: Cost[] }, gib: number): Figures {
  const of = (costs: Cost[], field: 'cpuSeconds' | 'wallSeconds' | 'peakBytes') =>
    median(costs.map((cost) => cost[field]));
  return {
    cpuPerGib: (of(big, 'cpuSeconds') - of(tiny, 'cpuSeconds')) / gib,
    secondsPerGib: positive(of(big, 'wallSeconds') - of(tiny, 'wallSeconds')) / gib,
    peakMib: of(big, 'peakBytes') / 1024 ** 2,
    startSeconds: of(tiny, 'wallSeconds'),
  };
}

/** On a busy machine a small export can take longer than a large one: then nothing is known. */
function positive(seconds: number): number {
  return seconds > 0 ? seconds : Number.NaN;
}

function toTable(scheme: Scheme, figures: Map<string, Figures>): Table {
  const ours = figures.get(OURS)?.cpuPerGib ?? Number.NaN;
  return {
    title: `One export, ${scheme} on both ends`,
    columns: ['way', 'CPU s/GiB', 'xvault = 1', 's/GiB', 'GiB/s', 'peak MiB', 'start s'],
    rows: LANES.map(({ name, missing }) => {
      const row = figures.get(name);
      if (row === undefined) return [name, missing ?? '', '', '', '', '', ''];
      const { cpuPerGib, secondsPerGib, peakMib, startSeconds } = row;
      const ratio = cpuPerGib / ours;
      return [name, cpuPerGib, ratio, secondsPerGib, 1 / secondsPerGib, peakMib, startSeconds];
    }),
  };
}

/** Ours by each of the others. */
function toTargets(scheme: Scheme, figures: Map<string, Figures>): Target[] {
  const ours = figures.get(OURS);
  const limits: [string, number][] = [
    ['curl | curl -T -', scheme === 'http' ? 0.75 : 0.9],
    ['lib-storage pump', 0.3],
    ['curl | aws s3 cp -', 0.2],
    ['curl | rclone rcat', 0.2],
  ];
  const targets: Target[] = [];
  for (const [name, limit] of limits) {
    const other = figures.get(name);
    if (!ours || !other) continue;
    const value = ours.cpuPerGib / other.cpuPerGib;
    targets.push({ name: `${scheme}: CPU by that of ${name}`, value, limit, kind: 'most' });
  }
  const curl = figures.get('curl | curl -T -');
  if (ours && curl) {
    const value = ours.secondsPerGib / curl.secondsPerGib;
    targets.push({
      name: `${scheme}: wall time by that of curl | curl -T -`,
      value,
      limit: 1,
      kind: 'most',
    });
  }
  return targets;
}
