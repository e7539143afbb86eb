/**
 * What the upload alone costs: CPU seconds per GiB of this process, from memory of the budget to a sink process.
 *
 *   node bench/upload.ts [--gib 2] [--rounds 3] [--only 'http, CRC32']
 *
 * Rounds are interleaved and the median is printed: believe ratios within one run, not figures from two. The peak
 * of memory is honest with one lane only.
 */
import { fork } from 'node:child_process';
import { parseArgs } from 'node:util';
import { createArena } from '../src/arena.ts';
import { systemClock } from '../src/clock.ts';
import { type Log, MAX_RESERVE_BYTES } from '../src/ports.ts';
import { createS3Store } from '../src/s3/store.ts';
import { createCertificate } from '../test/sim/xapi/certificate.ts';

const GIB = 1024 ** 3;
const { values } = parseArgs({
  options: {
    gib: { type: 'string', default: '2' },
    rounds: { type: 'string', default: '3' },
    only: { type: 'string' },
  },
});
const sizeBytes = Number(values.gib) * GIB;
const signal = new AbortController().signal;
const log: Log = { debug() {}, info() {}, warn() {}, error() {}, child: () => log };

interface Sink {
  port: number;
  stop(): void;
}

async function startSink(tls?: { key: string; cert: string }): Promise<Sink> {
  const env = { ...process.env, ...(tls ? { SINK_TLS: JSON.stringify(tls) } : {}) };
  const child = fork(new URL('./sink.ts', import.meta.url), { env });
  const port = await new Promise<number>((resolve) =>
    child.once('message', (m) => resolve(m as number)),
  );
  return { port, stop: () => child.disconnect() };
}

interface Lane {
  name: string;
  endpoint: string;
  caPem?: string;
  checksum: 'crc32' | 'none';
  /** Uploads that share the bytes to send. */
  atOnce?: number;
}

/** One budget for all lanes, as in the service. */
const arena = createArena({ totalBytes: 256 * 1024 ** 2, unitBytes: 8 * MAX_RESERVE_BYTES });

async function run({ endpoint, caPem, checksum, atOnce = 1 }: Lane, at: number) {
  const store = createS3Store(
    {
      bucket: 'bench',
      prefix: '',
      endpoint,
      caPem,
      region: 'us-east-1',
      credentials: { accessKeyId: 'bench', secretAccessKey: 'bench' },
      quirks: { conditionalWrites: 'no', checksum, listParts: false },
    },
    { clock: systemClock, log, arena, meter: { count() {}, observe() {} } },
  );
  const one = async (i: number, bytes: number) => {
    const input = { key: `o${at}-${i}`, contentType: 'application/x-xva', stagingPrefix: 's/' };
    await using upload = await store.beginUpload(input, { signal });
    for (let sent = 0; sent < bytes; sent += MAX_RESERVE_BYTES) {
      const length = Math.min(MAX_RESERVE_BYTES, bytes - sent);
      const memory = await upload.reserve(length, { signal });
      // Touched, so that the system really gives the page.
      for (let page = 0; page < length; page += 4096) memory[page] = 1;
      upload.commit(length);
    }
    await upload.complete({ signal });
    return upload.counters.parts;
  };
  const startedAt = performance.now();
  const startedCpu = process.cpuUsage();
  const parts = await Promise.all(
    Array.from({ length: atOnce }, (_, i) => one(i, Math.floor(sizeBytes / atOnce))),
  );
  const cpu = process.cpuUsage(startedCpu);
  const gib = sizeBytes / GIB;
  store.close();
  return {
    cpuSecondsPerGib: (cpu.user + cpu.system) / 1e6 / gib,
    gibPerSecond: gib / ((performance.now() - startedAt) / 1000),
    parts: parts.reduce((sum, count) => sum + count, 0),
  };
}

const made = createCertificate({ address: '127.0.0.1', serial: 1, nowMs: Date.now() });
const tls = { key: made.keyPem, cert: made.certPem };
const [plain, secure] = [await startSink(), await startSink(tls)];
const http = `http://127.0.0.1:${plain.port}`;
const https = `https://127.0.0.1:${secure.port}`;
const lanes: Lane[] = [
  { name: 'http', endpoint: http, checksum: 'none' },
  { name: 'http, CRC32', endpoint: http, checksum: 'crc32' },
  { name: 'https', endpoint: https, caPem: tls.cert, checksum: 'none' },
  { name: 'https, CRC32', endpoint: https, caPem: tls.cert, checksum: 'crc32' },
  { name: 'http, CRC32, 16 at once', endpoint: http, checksum: 'crc32', atOnce: 16 },
  {
    name: 'https, CRC32, 16 at once',
    endpoint: https,
    caPem: tls.cert,
    checksum: 'crc32',
    atOnce: 16,
  },
];
const results = new Map<string, Awaited<ReturnType<typeof run>>[]>();
for (let round = 0; round < Number(values.rounds); round += 1) {
  for (const lane of lanes.filter(({ name }) => (values.only ?? name) === name)) {
    results.set(lane.name, [...(results.get(lane.name) ?? []), await run(lane, round)]);
  }
}
plain.stop();
secure.stop();
const median = (numbers: number[]) => numbers.sort((a, b) => a - b)[numbers.length >> 1] ?? 0;
console.table(
  Object.fromEntries(
    [...results].map(([name, runs]) => [
      name,
      {
        'CPU s/GiB': median(runs.map((r) => r.cpuSecondsPerGib)).toFixed(2),
        'GiB/s': median(runs.map((r) => r.gibPerSecond)).toFixed(2),
        parts: runs[0]?.parts,
      },
    ]),
  ),
);
console.log(`peak RSS ${(process.resourceUsage().maxRSS / 1024).toFixed(0)} MiB`);
