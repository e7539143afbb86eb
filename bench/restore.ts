/**
 * The way back: verify, restore and disks over HTTP, each beside the plain download of the same archive.
 *
 * The bucket is nginx over https, the import another nginx over https that throws everything away; both sides of a ratio run one
 * after the other in each round, medians are compared. What a process takes to start is measured with a tiny archive and taken
 * off, as in one-stream. Random reads are 4 KiB at places drawn once; the plain ones ask the bucket for as much.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, createReadStream, openSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { Agent, fetch } from 'undici';
import { NEVER } from '../src/signals.ts';
import { loadHasher } from '../src/xva/hash.ts';
import { fillFrom, readArchive } from '../src/xva/reader.ts';
import { sampleBackup } from '../test/records.ts';
import { type Cost, measureCommand, median, nodeCommand } from './measure.ts';
import { type Ends, missingNginx, startEnds } from './nginx.ts';
import type { Bench, Section } from './report.ts';
import type { RestorePumpInput } from './restore-pump.ts';
import { writeSource } from './source.ts';

const GIB = 1024 ** 3;
const MIB = 1024 ** 2;
const BLOCKS = 2048;
const QUICK_BLOCKS = 192;
const MEMORY_MIB = 256;
const READS = 200;
const QUICK_READS = 30;
const READ_BYTES = 4096;
const CREDENTIALS = { accessKeyId: 'bench', secretAccessKey: 'bench' };
const PUMP = join(import.meta.dirname, 'restore-pump.ts');

interface Stored {
  /** Below `export/` of both ends. */
  name: string;
  sizeBytes: number;
  virtualBytes: number;
  input: Omit<RestorePumpInput, 'mode'>;
}

/** Measures all three. */
export const measureRestore: Bench = async ({ quick, rounds, folder, log }) => {
  const missing = missingNginx();
  if (missing) return { name: 'restore', tables: [], targets: [], notes: [missing] };
  const ends = await startEnds(folder);
  try {
    const big = await store(ends, folder, { name: 'big', blocks: quick ? QUICK_BLOCKS : BLOCKS });
    const tiny = await store(ends, folder, { name: 'tiny', blocks: 1 });
    const section: Section = { name: 'restore', tables: [], targets: [], notes: [] };
    await measureStreams(section, { big, tiny, ends, rounds, log });
    await measureDisk(section, { big, ends, rounds, reads: quick ? QUICK_READS : READS, log });
    const size = (big.sizeBytes / GIB).toFixed(2);
    section.notes.push(`Archive of ${size} GiB, not compressible, ${rounds} rounds, medians.`);
    return section;
  } finally {
    await ends.stop();
  }
};

/** Puts a normalised archive and its index where the bucket reads them. */
async function store(
  ends: Ends,
  folder: string,
  { name, blocks }: { name: string; blocks: number },
): Promise<Stored> {
  const source = await writeSource(join(folder, `export/${name}.source`), blocks);
  const [key, indexKey] = [`${name}.xva`, `${name}.idx`];
  const file = openSync(join(folder, 'export', key), 'w');
  let ovaMemberBytes = 0;
  const summary = await readArchive(
    fillFrom(createReadStream(source.path)),
    {
      hash: await loadHasher(),
      visitor: {
        bytes: (bytes) => {
          ovaMemberBytes ||= bytes.length;
          writeSync(file, bytes);
        },
      },
    },
    { signal: NEVER },
  );
  closeSync(file);
  writeFileSync(join(folder, 'export', indexKey), summary.index);
  const { status, headers } = await ask(ends, `${ends.https}/export/${key}`, { method: 'HEAD' });
  if (status !== 200) throw new Error(`the bucket answers ${status}`);
  const [disk] = summary.arrivals;
  if (disk === undefined) throw new Error('the archive has no disk');
  const { archiveId, virtualSizeBytes } = disk;
  const backup = sampleBackup({
    archive: {
      key,
      size_bytes: summary.archiveBytes,
      etag: headers.get('etag') ?? '',
      content_digest: summary.contentDigest,
    },
    index_key: indexKey,
    disks: [
      {
        index: 0,
        archive_id: archiveId,
        vdi_uuid: disk.vdiUuid,
        name: disk.nameLabel,
        userdevice: '0',
        virtual_size_bytes: virtualSizeBytes,
        stored_bytes: virtualSizeBytes,
        stored_blocks: blocks,
      },
    ],
  });
  const storeSettings = {
    bucket: 'export',
    prefix: '',
    endpoint: ends.https,
    caPem: ends.caPem,
    region: 'us-east-1',
    credentials: CREDENTIALS,
  };
  const target = { url: `${ends.https}/put/${key}`, fingerprint: ends.fingerprint };
  const common = { store: storeSettings, backup, memoryMib: MEMORY_MIB, target };
  return {
    name,
    sizeBytes: summary.archiveBytes,
    virtualBytes: virtualSizeBytes,
    input: { ...common, ovaMemberBytes, archiveId },
  };
}

interface Streams {
  big: Stored;
  tiny: Stored;
  ends: Ends;
  rounds: number;
  log(line: string): void;
}

async function measureStreams(section: Section, { big, tiny, ends, rounds, log }: Streams) {
  const curl = `curl -sS --fail --cacert '${ends.caFile}'`;
  const get = ({ name }: Stored) => `${curl} '${ends.https}/export/${name}.xva'`;
  const pump = (mode: 'verify' | 'restore') => (stored: Stored) =>
    `${nodeCommand(PUMP)} '${JSON.stringify({ mode, ...stored.input })}'`;
  const ways: Record<string, (stored: Stored) => string> = {
    'curl, thrown away': (stored) => `${get(stored)} -o /dev/null`,
    'xvault verify': pump('verify'),
    'curl | curl -T -': (stored) =>
      `${get(stored)} | ${curl} -T - '${ends.https}/put/${stored.sizeBytes}.xva'`,
    'xvault restore': pump('restore'),
  };
  const gib = (big.sizeBytes - tiny.sizeBytes) / GIB;
  const times = new Map(
    Object.keys(ways).map((name) => [name, { seconds: [], cpu: [] as number[] }]),
  );
  for (let round = 0; round < rounds; round += 1) {
    for (const [name, commandOf] of Object.entries(ways)) {
      const start = await measureCommand(commandOf(tiny), process.env);
      const whole = await measureCommand(commandOf(big), process.env);
      const found = times.get(name) as { seconds: number[]; cpu: number[] };
      found.seconds.push((whole.wallSeconds - start.wallSeconds) / gib);
      found.cpu.push((whole.cpuSeconds - start.cpuSeconds) / gib);
      log(`round ${round + 1}: ${name}`);
    }
  }
  const secondsOf = (name: string) => median(times.get(name)?.seconds ?? []);
  section.tables.push({
    title: 'The way back, https on both ends',
    columns: ['way', 's/GiB', 'GiB/s', 'CPU s/GiB'],
    rows: [...times].map(([name, { seconds, cpu }]) => [
      name,
      median(seconds),
      1 / median(seconds),
      median(cpu),
    ]),
  });
  const [download, pipe] = [secondsOf('curl, thrown away'), secondsOf('curl | curl -T -')];
  section.targets.push(
    {
      name: 'verify: speed by that of a plain download',
      value: download / secondsOf('xvault verify'),
      limit: 0.7,
      kind: 'least',
    },
    {
      name: 'restore: speed by that of curl | curl -T -',
      value: pipe / secondsOf('xvault restore'),
      limit: 0.8,
      kind: 'least',
    },
  );
}

interface DiskBench {
  big: Stored;
  ends: Ends;
  rounds: number;
  reads: number;
  log(line: string): void;
}

async function measureDisk(section: Section, { big, ends, rounds, reads, log }: DiskBench) {
  const server = fork(PUMP, [JSON.stringify({ mode: 'serve', ...big.input })]);
  try {
    const [{ port }] = (await once(server, 'message')) as [{ port: number }];
    const disk = `http://127.0.0.1:${port}/v1/backups/${big.input.backup.id}/disks/0`;
    const plain = `${ends.https}/export/${big.name}.xva`;
    const random = await measureReads(ends, server, {
      disk,
      plain,
      // zeros are not in the archive, so it may be the shorter one
      reachBytes: Math.min(big.virtualBytes, big.sizeBytes),
      reads,
    });
    log('random reads');
    const found = { view: [] as Cost[], served: [] as number[], download: [] as Cost[] };
    for (let round = 0; round < rounds; round += 1) {
      const curl = `curl -sS --fail --cacert '${ends.caFile}' -o /dev/null`;
      const { cpuSeconds } = await usedBy(server);
      found.view.push(await measureCommand(`${curl} '${disk}'`, process.env));
      found.served.push((await usedBy(server)).cpuSeconds - cpuSeconds);
      found.download.push(await measureCommand(`${curl} '${plain}'`, process.env));
      log(`round ${round + 1}: whole disk`);
    }
    const secondsOf = (costs: readonly Cost[], bytes: number) =>
      median(costs.map(({ wallSeconds }) => wallSeconds)) / (bytes / GIB);
    const viewSeconds = secondsOf(found.view, big.virtualBytes);
    const downloadSeconds = secondsOf(found.download, big.sizeBytes);
    const downloadCpu = median(found.download.map(({ cpuSeconds }) => cpuSeconds));
    section.tables.push(
      {
        title: 'A disk over HTTP, read whole',
        columns: ['way', 's/GiB', 'GiB/s', 'CPU s/GiB'],
        rows: [
          [
            'curl of the archive, from the bucket',
            downloadSeconds,
            1 / downloadSeconds,
            downloadCpu / (big.sizeBytes / GIB),
          ],
          [
            'curl of the disk, from xvault (its CPU, not that of curl)',
            viewSeconds,
            1 / viewSeconds,
            median(found.served) / (big.virtualBytes / GIB),
          ],
        ],
      },
      {
        title: `The same disk, ${reads} random reads of 4 KiB`,
        columns: ['way', 'median ms', 'slowest ms', 'requests to the bucket each'],
        rows: [
          ['from the bucket', median(random.plain), Math.max(...random.plain), 1],
          ['from xvault', median(random.ours), Math.max(...random.ours), random.requests / reads],
        ],
      },
    );
    section.targets.push(
      {
        name: 'whole disk: speed by that of a plain download',
        value: downloadSeconds / viewSeconds,
        limit: 0.7,
        kind: 'least',
      },
      {
        name: 'random read: most requests to the bucket',
        value: random.most,
        limit: 2,
        kind: 'most',
      },
    );
  } finally {
    server.disconnect();
    await once(server, 'exit');
  }
}

async function measureReads(
  ends: Ends,
  server: ChildProcess,
  {
    disk,
    plain,
    reachBytes,
    reads,
  }: { disk: string; plain: string; reachBytes: number; reads: number },
) {
  const timed = async (url: string, offset: number) => {
    const startedAt = performance.now();
    const range = `bytes=${offset}-${offset + READ_BYTES - 1}`;
    const { status, body } = await ask(ends, url, { headers: { range } });
    if (status !== 206 || body.length !== READ_BYTES) throw new Error(`${url} answers ${status}`);
    return performance.now() - startedAt;
  };
  // looks the backup up: its directory is kept from then on
  await timed(disk, 0);
  await timed(plain, 0);
  const found = { ours: [] as number[], plain: [] as number[], requests: 0, most: 0 };
  for (let read = 0; read < reads; read += 1) {
    const offset = Math.floor(((read * 0.618_034) % 1) * (reachBytes - MIB));
    const before = (await usedBy(server)).requests;
    found.ours.push(await timed(disk, offset));
    const made = (await usedBy(server)).requests - before;
    found.requests += made;
    found.most = Math.max(found.most, made);
    found.plain.push(await timed(plain, offset));
  }
  return found;
}

async function usedBy(server: ChildProcess): Promise<{ requests: number; cpuSeconds: number }> {
  server.send('used');
  const [used] = (await once(server, 'message')) as [{ requests: number; cpuSeconds: number }];
  return used;
}

const agents = new Map<string, Agent>();

async function ask(
  { caPem }: Ends,
  url: string,
  init: { method?: string; headers?: Record<string, string> },
) {
  const agent = agents.get(caPem) ?? new Agent({ connect: { ca: caPem } });
  agents.set(caPem, agent);
  const answer = await fetch(url, { ...init, dispatcher: agent });
  const body = Buffer.from(await answer.arrayBuffer());
  return { status: answer.status, headers: answer.headers, body };
}
