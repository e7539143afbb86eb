/**
 * xvault's way back in a process of its own, with production's functions: `node bench/restore-pump.ts '<json>'`.
 *
 * `verify` reads and proves an archive; `restore` does the same and hands it to an import on the way; `serve` answers for its
 * disk over HTTP until its parent leaves, saying where and, when asked, how many requests the bucket had and what CPU it used.
 * Only XenAPI calls and the job's records are left out: they move no bytes.
 */
import type { AddressInfo } from 'node:net';
import { createArena } from '../src/arena.ts';
import type { Engine } from '../src/backup/context.ts';
import { createDiskViews } from '../src/backup/disk-view.ts';
import type { PlannedDisk } from '../src/backup/restore-plan.ts';
import { pass, sendMachine } from '../src/backup/restore-send.ts';
import { readWhole } from '../src/backup/verify-archive.ts';
import type { BackupCatalog } from '../src/catalog/backups.ts';
import { createKeys } from '../src/catalog/keys.ts';
import type { Backup } from '../src/catalog/record.ts';
import { systemClock, systemIds } from '../src/clock.ts';
import { createListener } from '../src/commands/listener.ts';
import { ARENA_UNIT_BYTES, arenaBytes } from '../src/commands/wire.ts';
import { createApp } from '../src/http/app.ts';
import type { Log, ObjectFacts } from '../src/ports.ts';
import { createS3Store, type StoreSettings } from '../src/s3/store.ts';
import { NEVER } from '../src/signals.ts';
import { IMPORT } from '../src/xapi/direction.ts';
import { parseOrigin } from '../src/xapi/origin.ts';
import { createSender } from '../src/xapi/sender.ts';
import { requestTransfer } from '../src/xapi/transfer-request.ts';
import { createTrustBook } from '../src/xapi/trust.ts';
import { createBlockMemory, loadHasher } from '../src/xva/hash.ts';
import { createFakeService } from '../test/http/fake-service.ts';

export interface RestorePumpInput {
  mode: 'verify' | 'restore' | 'serve';
  store: StoreSettings;
  backup: Backup;
  memoryMib: number;
  /** Of a restore: where the import is, and the SHA-256 of its certificate. */
  target?: { url: string; fingerprint: string };
  /** Of a restore: the length of ova.xml's member, and the disk's id. */
  ovaMemberBytes: number;
  archiveId: string;
}

const LOG: Log = { debug() {}, info() {}, warn() {}, error() {}, child: () => LOG };
const TIMEOUT_MS = 10_000;
const options = { signal: NEVER };

const input = JSON.parse(process.argv[2] ?? '{}') as RestorePumpInput;
const totalBytes = arenaBytes(input.memoryMib * 1024 ** 2);
const wasm = createBlockMemory(totalBytes);
const memory = wasm && Buffer.from(wasm.buffer);
const arena = createArena({ totalBytes, unitBytes: ARENA_UNIT_BYTES, memory });
const store = createS3Store(input.store, {
  clock: systemClock,
  log: LOG,
  arena,
  meter: { count: counted, observe() {} },
});
const hasher = await loadHasher(wasm);
const catalog: Pick<BackupCatalog, 'find' | 'record'> = {
  find: async () => ({}) as Awaited<ReturnType<BackupCatalog['find']>>,
  record: async () => input.backup,
};
const engine = {
  store,
  catalog,
  keys: createKeys(''),
  clock: systemClock,
  hasher: async () => hasher,
} as unknown as Engine;
let requests = 0;

function counted(name: string, value: number): void {
  if (name === 'store_requests') requests += value;
}

async function findArchive(): Promise<ObjectFacts> {
  const archive = await store.head(input.backup.archive.key, options);
  if (archive === undefined) throw new Error('there is no archive');
  return archive;
}

async function verify(): Promise<void> {
  const stored = { backup: input.backup, archive: await findArchive() };
  await readWhole({ ...stored, old: undefined, onRead() {} }, { engine, ...options });
}

async function restore({ url, fingerprint }: NonNullable<RestorePumpInput['target']>) {
  const { backup, ovaMemberBytes, archiveId } = input;
  const archive = await findArchive();
  const request = {
    direction: IMPORT,
    origin: parseOrigin(url),
    path: new URL(url).pathname,
    sessionRef: 'OpaqueRef:bench',
    sizeBytes: archive.sizeBytes,
  };
  const answer = await requestTransfer(
    request,
    {
      trust: createTrustBook({ kind: 'fingerprint', sha256: [fingerprint] }),
      connectTimeoutMs: TIMEOUT_MS,
      isMember: () => true,
      learnCertificate: async () => {},
      onReceiver: () => {},
    },
    options,
  );
  if (answer === undefined) throw new Error('the import does not answer');
  const sender = createSender(answer);
  const range = { offset: 0, length: ovaMemberBytes };
  const ova = await store.get(archive.key, { ...options, range });
  const disks = [{ facts: { archiveId } } as PlannedDisk];
  const visitor = sendMachine(
    { member: Buffer.from(ova?.bytes ?? []), disks, sha1: false },
    async (bytes) => {
      if (!(await sender.write(bytes, options))) throw new Error('the import was closed');
    },
  );
  await pass({ backup, archive, visitor, onRead() {} }, { engine, ...options });
  if (sender.movedBytes !== archive.sizeBytes) throw new Error(`${sender.movedBytes} bytes sent`);
  sender.destroy();
}

function answerOverHttp(): void {
  const views = createDiskViews(engine, { loadArena: async () => arena });
  const app = createApp(
    {
      service: { ...createFakeService(), ...views },
      idempotency: { run: () => Promise.reject(new Error('not measured')) },
      log: LOG,
      clock: systemClock,
      ids: systemIds,
      tokens: [],
      version: '0.0.0-bench',
    },
    {
      loopbackWithoutToken: true,
      metricsOpen: false,
      concurrency: 4,
      linkSeconds: 3600,
      maxAgeSeconds: 93_600,
    },
  );
  const server = createListener({ fetch: app.fetch, log: LOG, clock: systemClock });
  server.listen(0, '127.0.0.1', () => {
    process.send?.({ port: (server.address() as AddressInfo).port });
  });
  process.on('message', () => {
    const { user, system } = process.cpuUsage();
    process.send?.({ requests, cpuSeconds: (user + system) / 1e6 });
  });
  process.on('disconnect', () => process.exit(0));
}

if (input.mode === 'serve') answerOverHttp();
else if (input.mode === 'verify') await verify();
else if (input.target) await restore(input.target);
if (input.mode !== 'serve') store.close();
