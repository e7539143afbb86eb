/**
 * Deltas: bytes sent for the bytes that changed, and what comparing costs beside a full.
 *
 * Same sink as the others, which agrees to copies and counts itself what reaches it. The exports are made as they are read
 * (generated-source.ts), since a second version of each is needed and the largest would not fit into memory. Bytes come
 * out the same in every run, so each case is run once; CPU and memory are medians of interleaved rounds.
 *
 * The seed case has 269 GB. As a whole it is only planned: production's planner, the blocks' real sizes, no bytes moved.
 * A fortieth of it is really run, and must send to the byte what the planner says of it.
 */
import { join } from 'node:path';
import { BLOCK_MEMBER_BYTES } from '../src/xva/types.ts';
import {
  clustered,
  everything,
  HABITS,
  type Habits,
  type Machine,
  makeDisk,
  SEED_ARCHIVE_BYTES,
  SEED_CHANGED_BYTES,
  scattered,
  seedMachines,
} from './changes.ts';
import { checkDelta } from './check-delta.ts';
import { ovaMemberBytes, startGeneratedSource } from './generated-source.ts';
import { commandOf, laneEnv, MEMORY_MIB, sinkSettings } from './lanes.ts';
import { type Cost, measureCommand, median } from './measure.ts';
import { type Ends, missingNginx, startEnds, type Tally } from './nginx.ts';
import { limitsFor, type Planned, planBackup, sumPlanned } from './planned.ts';
import type { PumpInput, PumpOutput } from './pump.ts';
import type { Bench, Section, Table } from './report.ts';

const MIB = 1024 ** 2;
const GIB = 1024 ** 3;
const GB = 1e9;
const SMALLEST_PART_BYTES = 5 * MIB;
const CLUSTERS_MOST = 1.35;
const SCATTERED_MOST = 5.1;
const SEED_MOST = 1.15;
const CPU_MOST = 1.5;
/** What a process may take beside the budget, as in many-streams.ts. */
const BESIDE_MIB = 150;
const AT_ONCE = 16;

interface Sizes {
  storedBlocks: number;
  clusters: number;
  comparedBlocks: number;
  seedScale: number;
}

/** 20 GiB stored of 100 virtual. */
const FULL: Sizes = { storedBlocks: 20_480, clusters: 50, comparedBlocks: 4096, seedScale: 40 };
const QUICK: Sizes = { storedBlocks: 2048, clusters: 5, comparedBlocks: 384, seedScale: 400 };
const VIRTUAL = 5;

interface Ran {
  cost: Cost;
  said: PumpOutput;
  tally: Tally;
}

interface Running {
  ends: Ends;
  origin: string;
  folder: string;
}

/** Bytes, then what it costs. */
export const measureDelta: Bench = async ({ quick, rounds, folder, log }) => {
  const section: Section = { name: 'delta', tables: [], targets: [], notes: [] };
  const missing = missingNginx();
  if (missing) return { ...section, notes: [missing] };
  const sizes = quick ? QUICK : FULL;
  const seed = seedOf(sizes.seedScale, HABITS);
  const [large, compared, tiny] = [
    largeMachine(sizes),
    comparedMachine('compared', sizes.comparedBlocks),
    comparedMachine('tiny', 1),
  ];
  const many = comparedMachine('many', Math.ceil(sizes.comparedBlocks / AT_ONCE));
  const ends = await startEnds(folder, { log: true });
  const source = await startGeneratedSource([large, compared, tiny, many, ...seed]);
  const running = { ends, origin: source.origin, folder };
  try {
    section.notes.push(await checkDelta());
    log(section.notes[0] as string);
    await measureBytes(section, running, { sizes, large, seed, log });
    await measureCost(section, running, { compared, tiny, many, rounds, log });
  } finally {
    await source.stop();
    await ends.stop();
  }
  return section;
};

// ------------------------------------------------------------------------------------------------ machines

function largeMachine({ storedBlocks, clusters }: Sizes): Machine {
  const blocks = storedBlocks * VIRTUAL;
  const changedBlocks = Math.round(storedBlocks / 100);
  const disk = makeDisk({ device: 0, blocks, storedBlocks, seed: 1 });
  const changed = {
    clusters: clustered(storedBlocks, { changedBlocks, clusters, seed: 2 }),
    scattered: scattered(storedBlocks, changedBlocks),
  };
  return { name: 'large', disks: [{ ...disk, changed }] };
}

function comparedMachine(name: string, storedBlocks: number): Machine {
  const disk = makeDisk({ device: 0, blocks: storedBlocks, storedBlocks, seed: 3 });
  const changedBlocks = Math.ceil(storedBlocks / 100);
  const clusters = Math.ceil(changedBlocks / 4);
  const changed = {
    some: clustered(storedBlocks, { changedBlocks, clusters, seed: 4 }),
    all: everything(storedBlocks),
  };
  return { name, disks: [{ ...disk, changed }] };
}

const seedOf = (scale: number, habits: Habits) =>
  seedMachines({ scale, memberBytes: BLOCK_MEMBER_BYTES, habits, version: 'next' });

// ------------------------------------------------------------------------------------------------ runs

/** One run of the pump, what it said compared with what the sink saw. `version` other than `base`: a delta. */
async function run(
  { ends, origin, folder }: Running,
  machine: Machine,
  { version, streams = 1 }: { version: string; streams?: number },
): Promise<Ran> {
  const { name } = machine;
  const stored = machine.disks.reduce((sum, { numbers }) => sum + numbers.length, 0);
  const head = await ovaMemberBytes(machine);
  const key = (round: string) =>
    `${name}/${round}/${head + stored * BLOCK_MEMBER_BYTES + 1024}.xva`;
  const input: PumpInput = {
    source: `${origin}/export/${name}/${version}`,
    fingerprint: ends.fingerprint,
    store: sinkSettings(ends, 'http', 'crc32'),
    key: key(`${version}-*`),
    memoryMib: MEMORY_MIB,
    streams,
    times: 1,
    byDevice: true,
    ...(version === 'base'
      ? { index: { key: `put/${name}.idx`, file: join(folder, `index/${name}.idx`) } }
      : {
          index: { key: `put/${name}.idx` },
          base: { key: key('base-0-0'), indexKey: `index/${name}.idx` },
        }),
  };
  const cost = await measureCommand(commandOf(input), laneEnv(ends));
  const said = JSON.parse(cost.stdout) as PumpOutput;
  const tally = ends.tally();
  if (tally.sentBytes !== said.sentBytes) {
    throw new Error(`the sink saw ${tally.sentBytes} bytes, the pump sent ${said.sentBytes}`);
  }
  return { cost, said, tally };
}

// ------------------------------------------------------------------------------------------------ bytes

interface Row {
  name: string;
  archiveBytes: number;
  changedBytes: number;
  sentBytes: number;
  /** Of what was only planned: parts. */
  requests: number;
}

async function measureBytes(
  section: Section,
  running: Running,
  input: { sizes: Sizes; large: Machine; seed: Machine[]; log(line: string): void },
): Promise<void> {
  const { sizes, large, seed, log } = input;
  const rows = new Map<string, Row>();
  const add = (row: Row) => {
    rows.set(row.name, row);
    log(`${row.name}: ${Math.round(row.sentBytes / MIB)} MiB`);
    return row;
  };
  const both = async (machine: Machine, version: string): Promise<Row> => {
    const ran = await run(running, machine, { version });
    const planned = await planMachine(machine, version);
    if (ran.said.sentBytes !== planned.sentBytes) {
      throw new Error(`${ran.said.sentBytes} bytes sent, ${planned.sentBytes} planned`);
    }
    return { ...planned, name: version, requests: ran.tally.requests };
  };
  const full = await run(running, large, { version: 'base' });
  const archiveBytes = full.said.sentBytes;
  const stored = `${Math.round(archiveBytes / GIB)} GiB of ${Math.round((VIRTUAL * archiveBytes) / GIB)}`;
  const { requests } = full.tally;
  add({
    name: `${stored}: full`,
    archiveBytes,
    changedBytes: 0,
    sentBytes: archiveBytes,
    requests,
  });
  const inClusters = await both(large, 'clusters');
  add({ ...inClusters, name: `${stored}: 1 % changed, ${sizes.clusters} clusters` });
  const lone = await both(large, 'scattered');
  add({ ...lone, name: `${stored}: 1 % changed, lone blocks` });
  const parts: Row[] = [];
  for (const machine of seed) {
    await run(running, machine, { version: 'base' });
    parts.push(await both(machine, 'next'));
  }
  add({ ...sumRows(parts), name: `seed case, 1/${sizes.seedScale} of it, run` });
  const whole = await planSeed(HABITS);
  const parted = whole.sends + whole.copies;
  add({ ...whole, name: 'seed case, whole, planned only', requests: parted });
  section.tables.push(toTable([...rows.values()]), await suppositions(whole));
  const limit = CLUSTERS_MOST * inClusters.changedBytes + sizes.clusters * SMALLEST_PART_BYTES;
  const most = 'most' as const;
  section.targets.push(
    {
      name: `delta, ${sizes.clusters} clusters: MiB sent`,
      value: inClusters.sentBytes / MIB,
      limit: limit / MIB,
      kind: most,
    },
    {
      name: 'delta, lone blocks: sent by changed',
      value: lone.sentBytes / lone.changedBytes,
      limit: SCATTERED_MOST,
      kind: most,
    },
    {
      name: 'delta, seed case, planned: sent by changed',
      value: whole.sentBytes / whole.changedBytes,
      limit: SEED_MOST,
      kind: most,
    },
  );
  section.notes.push(
    `What is run sent to the byte what the planner says of the same blocks, and the sink saw the same. Known of the seed case: ${SEED_ARCHIVE_BYTES / GB} GB of archives, of which ${SEED_CHANGED_BYTES / GB} GB were new. Its machines, and how their changes lie, are supposed from what file systems and databases document (bench/changes.ts); the second table says what hangs on it. Each archive's first part is sent whatever changed (ova.xml), which weighs more in the small one.`,
  );
}

/** One machine, as far as planning goes. */
async function planMachine(machine: Machine, version: string): Promise<Planned> {
  const head = await ovaMemberBytes(machine);
  return planBackup(machine, { version, ovaMemberBytes: head, limits: limitsFor(MEMORY_MIB) });
}

async function planSeed(habits: Habits): Promise<Planned> {
  const machines = seedOf(1, habits);
  return sumPlanned(await Promise.all(machines.map((machine) => planMachine(machine, 'next'))));
}

function sumRows(rows: readonly Row[]): Row {
  const sum = (field: 'archiveBytes' | 'changedBytes' | 'sentBytes' | 'requests') =>
    rows.reduce((total, row) => total + row[field], 0);
  return {
    name: '',
    archiveBytes: sum('archiveBytes'),
    changedBytes: sum('changedBytes'),
    sentBytes: sum('sentBytes'),
    requests: sum('requests'),
  };
}

function toTable(rows: readonly Row[]): Table {
  return {
    title: 'Deltas: bytes sent',
    columns: ['case', 'archive GB', 'changed MB', 'sent MB', 'sent by changed', 'requests/GiB'],
    rows: rows.map(({ name, archiveBytes, changedBytes, sentBytes, requests }) => [
      name,
      archiveBytes / GB,
      changedBytes / 1e6,
      sentBytes / 1e6,
      sentBytes / changedBytes,
      requests / (archiveBytes / GIB),
    ]),
  };
}

async function suppositions(whole: Planned): Promise<Table> {
  const others: [string, Habits][] = [
    ['tables in use: 2 % of the pages written', { ...HABITS, writtenPages: 0.02 }],
    ['tables in use: 1 % of the pages written', { ...HABITS, writtenPages: 0.01 }],
    ['2 % of the changed blocks lie alone', { ...HABITS, loneBlocks: 0.02 }],
    ['10 % of the changed blocks lie alone', { ...HABITS, loneBlocks: 0.1 }],
  ];
  const rows: [string, number, number][] = [];
  const add = (name: string, { sentBytes, changedBytes }: Planned) =>
    rows.push([name, sentBytes / GB, sentBytes / changedBytes]);
  add('as above: 5 % of the pages, none alone', whole);
  for (const [name, habits] of others) add(name, await planSeed(habits));
  return {
    title: 'The seed case under other suppositions, planned only',
    columns: ['supposed', 'sent GB', 'sent by changed'],
    rows,
  };
}

// ------------------------------------------------------------------------------------------------ cost

const WAYS = [
  { name: 'full', version: 'base' },
  { name: 'delta, 1 % changed', version: 'some' },
  { name: 'delta, all changed', version: 'all' },
] as const;

async function measureCost(
  section: Section,
  running: Running,
  input: {
    compared: Machine;
    tiny: Machine;
    many: Machine;
    rounds: number;
    log(line: string): void;
  },
): Promise<void> {
  const { compared, tiny, many, rounds, log } = input;
  const results = new Map<string, { big: Ran[]; tiny: Ran[] }>(
    WAYS.map(({ name }) => [name, { big: [], tiny: [] }]),
  );
  for (let round = 0; round < rounds; round += 1) {
    for (const { name, version } of WAYS) {
      const result = results.get(name);
      result?.tiny.push(await run(running, tiny, { version }));
      result?.big.push(await run(running, compared, { version }));
      log(`round ${round + 1}: ${name}`);
    }
  }
  await run(running, many, { version: 'base' });
  const atOnce = await run(running, many, { version: 'some', streams: AT_ONCE });
  const rows = [...results].map(([name, result]) => toCost(name, result));
  const fullCpu = rows[0]?.cpuPerGib ?? Number.NaN;
  const size = (rows[0]?.gib ?? 0).toFixed(2);
  section.tables.push({
    title: 'Comparing beside sending everything, http on both ends',
    columns: ['way', 'CPU s/GiB read', 'full = 1', 's/GiB', 'peak MiB', 'requests/GiB'],
    rows: rows.map((row) => [
      row.name,
      row.cpuPerGib,
      row.cpuPerGib / fullCpu,
      row.secondsPerGib,
      row.peakMib,
      row.requestsPerGib,
    ]),
  });
  const atOnceMib = atOnce.cost.peakBytes / MIB;
  section.notes.push(
    `Export of ${size} GiB, made as it is read, ${rounds} interleaved rounds, medians; the sink verifies no checksum but is sent them (CRC32). ${AT_ONCE} deltas at once took ${Math.round(atOnceMib)} MiB. Requests are those for archive, index and base; job and record are not among them, and of what is only planned the parts alone.`,
  );
  const most = 'most' as const;
  for (const { name, cpuPerGib, peakMib } of rows.slice(1)) {
    const value = cpuPerGib / fullCpu;
    section.targets.push(
      { name: `${name}: CPU per GiB by that of a full`, value, limit: CPU_MOST, kind: most },
      { name: `${name}: peak MiB`, value: peakMib, limit: MEMORY_MIB + BESIDE_MIB, kind: most },
    );
  }
  const limit = MEMORY_MIB + BESIDE_MIB;
  const name = `${AT_ONCE} deltas at once: peak MiB`;
  section.targets.push({ name, value: atOnceMib, limit, kind: most });
}

function toCost(name: string, { big, tiny }: { big: Ran[]; tiny: Ran[] }) {
  const of = (rans: Ran[], field: 'cpuSeconds' | 'wallSeconds' | 'peakBytes') =>
    median(rans.map(({ cost }) => cost[field]));
  const gib = ((big[0]?.said.readBytes ?? 0) - (tiny[0]?.said.readBytes ?? 0)) / GIB;
  return {
    name,
    gib,
    cpuPerGib: (of(big, 'cpuSeconds') - of(tiny, 'cpuSeconds')) / gib,
    secondsPerGib: (of(big, 'wallSeconds') - of(tiny, 'wallSeconds')) / gib,
    peakMib: of(big, 'peakBytes') / MIB,
    requestsPerGib: (big[0]?.tally.requests ?? 0) / gib,
  };
}
