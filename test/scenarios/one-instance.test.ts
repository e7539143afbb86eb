/**
 * A store without conditional writes: two instances could not know of each other, so the operator has to run one only, and
 * is told so at start, by `/readyz` and by `doctor`. One instance alone works.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createService } from '../../src/backup/create-service.ts';
import { backupRequestSchema, isEnded } from '../../src/catalog/record.ts';
import { checkBucket } from '../../src/commands/doctor-bucket.ts';
import type { Finding } from '../../src/commands/doctor-checks.ts';
import { NEVER } from '../../src/signals.ts';
import { createTestLog, silentMeter } from '../e2e/world.ts';
import { audit, jobsOf } from './audit.ts';
import { type Ground, type Instance, startGround } from './ground.ts';

const options = { signal: NEVER };
const LIMIT_MS = 3600_000;

test('a store without conditional writes is told at start, by readyz and by doctor; one instance works', async () => {
  await using ground = await startGround();
  const instance = ground.start('only', { provider: 'garage' });
  await ground.clock.drive(
    instance.process.run(() => work(ground, instance)),
    {
      limitMs: LIMIT_MS,
    },
  );
});

test('readyz looks at the bucket the leases lie in, where that is another one', async () => {
  await using ground = await startGround();
  const archives = ground.start('archives');
  const state = ground.start('state', { provider: 'garage' });
  const { clock } = archives.process;
  const service = createService(
    {
      pools: [archives.pool],
      store: archives.store,
      stateStore: state.store,
      clock,
      ids: ground.ids,
      log: createTestLog(),
      meter: silentMeter,
    },
    {
      prefix: 'xv',
      concurrency: 1,
      concurrencyPerPool: 1,
      concurrencyPerSr: 1,
      queueLimit: 1,
      retentionClasses: ['daily'],
      instance: 'x',
    },
  );
  const { checks } = await ground.clock.drive(service.readiness(options), { limitMs: LIMIT_MS });
  assert.equal(checks.bucket?.status, 'pass');
  assert.match(checks['state bucket']?.output ?? '', /one instance/);
});

async function work(ground: Ground, instance: Instance): Promise<void> {
  const { service, log, store } = instance;
  await service.start();
  const told = log.lines.find((line) => line.includes('run one instance only'));
  assert.match(told ?? '', /"level":"warn".*no safe conditional writes/);
  const { status, checks } = await service.readiness(options);
  assert.equal(status, 'warn');
  const said = Object.values(checks).map(({ output }) => output ?? '');
  assert.match(said.join('\n'), /one instance/);
  const findings: Omit<Finding, 'about'>[] = [];
  await checkBucket(
    { store, prefix: 'xv/', archives: true, state: true },
    { report: (finding) => void findings.push(finding), clock: ground.clock, ids: ground.ids },
    options,
  );
  const found = findings.find(({ check }) => check === 'conditional writes');
  assert.equal(found?.state, 'warn');
  assert.match(found?.mend ?? '', /one instance only/);
  const request = backupRequestSchema.parse({});
  await service.startBackup({ vm: 'small', request, triggeredBy: 'test' }, options);
  while (!jobsOf(ground).every(isEnded)) await ground.clock.sleep(1000, options);
  assert.equal(jobsOf(ground)[0]?.status, 'succeeded');
  await audit(ground, { asked: instance, all: [instance], died: false, left: false });
}
