/** A client before an empty simulated pool, archives of another pool's machine, and the proof at the end that nothing is left. */
import assert from 'node:assert/strict';
import type { TestContext } from 'node:test';
import { isBackupError } from '../../src/errors.ts';
import type { ImportStream, OpenImportInput, Pool, SrRef, VmRef } from '../../src/ports.ts';
import { createXapiPool, type PoolSettings } from '../../src/xapi/pool.ts';
import { type SimPool, type SimPoolOptions, startSimPool } from '../sim/pool.ts';
import { createFastClock } from './fast-clock.ts';
import { createKeptLog, type KeptLog, silentMeter } from './quiet.ts';

export const signal: AbortSignal = new AbortController().signal;

export interface ImportBench {
  sim: SimPool;
  pool: Pool;
  log: KeptLog;
  /** Machines (and what hangs on them) that stay on purpose. */
  kept: string[];
  sr(key: string): SrRef;
}

/** A pool without machines, and a client for it. */
export async function startImportBench(
  t: TestContext,
  given: { sim?: SimPoolOptions; pool?: Partial<PoolSettings>; ignore?: RegExp } = {},
): Promise<ImportBench> {
  const sim = await startSimPool({ machines: [], seed: 3, taskDelayMs: 1, ...given.sim });
  const log = createKeptLog();
  const settings: PoolSettings = {
    name: 'p',
    urls: [sim.url],
    username: sim.username,
    password: sim.password,
    trust: { kind: 'fingerprint', sha256: sim.fingerprints.slice(0, 1) },
    taskPollMs: 1_000,
    stallTimeoutMs: 20_000,
    firstByteTimeoutMs: 30_000,
    ...given.pool,
  };
  const pool = createXapiPool(settings, { clock: createFastClock(50), log, meter: silentMeter });
  const kept: string[] = [];
  t.after(async () => {
    await pool.close();
    const { ignore } = given;
    const left = await sim.auditWhenQuiet({ kept, ...(ignore && { ignore }) });
    await sim.close();
    assert.doesNotMatch(log.text(), new RegExp(sim.password));
    assert.deepEqual(left, []);
  });
  return { sim, pool, log, kept, sr: (key) => sim.storage(key).ref as SrRef };
}

/** Writes everything, in pieces of an odd size. */
export async function writeAll(stream: ImportStream<unknown>, archive: Uint8Array): Promise<void> {
  for (let at = 0; at < archive.length; at += 777_777) {
    const piece = Buffer.from(archive.subarray(at, at + 777_777));
    await stream.write(piece, { signal });
    piece.fill(0xff); // it is ours again
  }
}

/** Sends an archive and returns the machines made. */
export async function send(
  { pool, sr }: ImportBench,
  archive: Uint8Array,
  input: Partial<OpenImportInput> = {},
): Promise<VmRef[]> {
  await using stream = await pool.openImport(
    {
      sr: sr('nfs'),
      sizeBytes: archive.length,
      keepIdentity: false,
      label: 'xvault: restore',
      description: 'xvault:job-1',
      ...input,
    },
    { signal },
  );
  await writeAll(stream, archive);
  return await stream.settle({ signal });
}

/** What a rejected promise was rejected with, as plain data. */
export async function refusalOf(work: Promise<unknown>) {
  const error = await work.then(
    () => assert.fail('it was done'),
    (thrown: unknown) => thrown,
  );
  assert.ok(isBackupError(error), String(error));
  const { code, message, details } = error;
  return { code, message, reason: details.reason, xapiCode: details.xapi_code, details };
}
