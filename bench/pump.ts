/**
 * xvault's data path in a process of its own: export → checked and normalised → object, with production's functions.
 *
 * The request for the export, the receiver, the codec, the loop and the upload are those of src/; only the XenAPI calls
 * around them (session, task) are left out, since they move no bytes. Run by the bench: `node bench/pump.ts '<json>'`.
 */
import { writeFileSync } from 'node:fs';
import { createArena } from '../src/arena.ts';
import { createBaseBlocks } from '../src/backup/delta-blocks.ts';
import { exportArchive } from '../src/backup/export-archive.ts';
import { rangesOf } from '../src/backup/find-index.ts';
import { createPartPlan } from '../src/backup/plan.ts';
import { systemClock } from '../src/clock.ts';
import { ARENA_UNIT_BYTES, arenaBytes } from '../src/commands/wire.ts';
import type { ExportStream, Log, ObjectStore } from '../src/ports.ts';
import { createS3Store, type StoreSettings } from '../src/s3/store.ts';
import { NEVER } from '../src/signals.ts';
import { EXPORT } from '../src/xapi/direction.ts';
import { parseOrigin } from '../src/xapi/origin.ts';
import { requestTransfer } from '../src/xapi/transfer-request.ts';
import { createTrustBook, type PoolTrust } from '../src/xapi/trust.ts';
import { openIndex } from '../src/xva/blocks-index.ts';
import { createBlockMemory, createDigestKey, loadHasher } from '../src/xva/hash.ts';
import { createNormaliser } from '../src/xva/normaliser.ts';
import type { Hasher } from '../src/xva/types.ts';

export interface PumpInput {
  source: string;
  /** SHA-256 of the source's certificate. */
  fingerprint: string;
  store: StoreSettings;
  key: string;
  memoryMib: number;
  /** Exports at the same time, and how many each makes one after the other. */
  streams: number;
  times: number;
  /** Ids by device, as on stores that copy parts, instead of by arrival. */
  byDevice?: boolean;
  /** The object whose blocks are copied where they are the same, and its blocks.idx. */
  base?: { key: string; indexKey: string };
  /** Where blocks.idx is put, and for a sink that keeps nothing a file for it, too. */
  index?: { key: string; file?: string };
}

export interface PumpOutput {
  readBytes: number;
  sentBytes: number;
  copiedBytes: number;
  joinedBytes: number;
  parts: number;
  digests: string[];
}

const LOG: Log = { debug() {}, info() {}, warn() {}, error() {}, child: () => LOG };
const TIMEOUT_MS = 10_000;

async function openSource(input: PumpInput): Promise<ExportStream> {
  const trust: PoolTrust = { kind: 'fingerprint', sha256: [input.fingerprint] };
  const { pathname } = new URL(input.source);
  const origin = parseOrigin(input.source);
  const answer = await requestTransfer(
    { direction: EXPORT, origin, path: pathname, sessionRef: 'OpaqueRef:bench' },
    {
      trust: createTrustBook(trust),
      connectTimeoutMs: TIMEOUT_MS,
      isMember: () => true,
      learnCertificate: async () => {},
      onReceiver: () => {},
    },
    { signal: NEVER },
  );
  if (answer === undefined) throw new Error('the source does not answer');
  const { receiver } = answer;
  return {
    host: { address: origin.hostname, xapiVersion: '', productVersion: '' },
    taskProgress: 0,
    fill: (target, options) => receiver.fill(target, options),
    settle: async () => {},
    [Symbol.asyncDispose]: async () => receiver.destroy(),
  };
}

/** As the engine opens the base it has chosen. */
async function openBase(store: ObjectStore, hasher: Hasher, base: NonNullable<PumpInput['base']>) {
  const options = { signal: NEVER };
  const archive = await store.head(base.key, options);
  const facts = await store.head(base.indexKey, options);
  if (archive === undefined || facts === undefined) throw new Error('the base is not there');
  const { sizeBytes } = facts;
  const read = rangesOf(store, base.indexKey, options);
  const index = await openIndex(read, { sizeBytes, hash: hasher });
  return { archive, index, blocks: createBaseBlocks(store, { index, indexKey: base.indexKey }) };
}

async function pump(store: ObjectStore, hasher: Hasher, input: PumpInput, key: string) {
  const base = input.base && (await openBase(store, hasher, input.base));
  const digestKey = base?.index.digestKey ?? createDigestKey();
  const order = input.byDevice ? 'device' : 'arrival';
  const normaliser = createNormaliser({ order, digestKey }, hasher);
  await using upload = await store.beginUpload(
    {
      key,
      contentType: 'application/x-xva',
      stagingPrefix: 'staging/',
      ...(base && { base: base.archive, createPlan: createPartPlan }),
    },
    { signal: NEVER },
  );
  await using source = await openSource(input);
  const onRead = () => {};
  const isArranged = input.byDevice === true;
  const archive = { source, upload, normaliser, onRead, blocks: base?.blocks, isArranged };
  const readBytes = await exportArchive(archive, { signal: NEVER });
  if (input.index) {
    const index = normaliser.index();
    await store.put(input.index.key, index, { signal: NEVER });
    if (input.index.file !== undefined) writeFileSync(input.index.file, index);
  }
  await upload.complete({ signal: NEVER });
  return { readBytes, counters: upload.counters, digest: normaliser.contentDigest() };
}

async function run(input: PumpInput): Promise<PumpOutput> {
  const totalBytes = arenaBytes(input.memoryMib * 1024 ** 2);
  const wasm = createBlockMemory(totalBytes);
  const memory = wasm && Buffer.from(wasm.buffer);
  const arena = createArena({ totalBytes, unitBytes: ARENA_UNIT_BYTES, memory });
  const meter = { count() {}, observe() {} };
  const store = createS3Store(input.store, { clock: systemClock, log: LOG, arena, meter });
  const hasher = await loadHasher(wasm);
  const output: PumpOutput = {
    readBytes: 0,
    sentBytes: 0,
    copiedBytes: 0,
    joinedBytes: 0,
    parts: 0,
    digests: [],
  };
  const stream = async (index: number) => {
    for (let time = 0; time < input.times; time += 1) {
      const key = input.key.replace('*', `${index}-${time}`);
      const { readBytes, counters, digest } = await pump(store, hasher, input, key);
      output.readBytes += readBytes;
      output.sentBytes += counters.sentBytes;
      output.copiedBytes += counters.copiedBytes;
      output.joinedBytes += counters.joinedBytes;
      output.parts += counters.parts;
      if (!output.digests.includes(digest)) output.digests.push(digest);
    }
  };
  await Promise.all(Array.from({ length: input.streams }, (_, index) => stream(index)));
  store.close();
  return output;
}

console.log(JSON.stringify(await run(JSON.parse(process.argv[2] ?? '{}') as PumpInput)));
