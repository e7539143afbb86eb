import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isBackupError } from '../errors.ts';
import { createContainer, type PlatformContainer } from './container.ts';
import { readEngineSettings } from './engine-settings.ts';

test('the container gets the settings of the service, its own place and name, and nothing else the Worker knows', () => {
  const env = {
    XVAULT_BUCKET: 'backups',
    XVAULT_PREFIX: 'xv',
    XVAULT_TOKEN: 'secret',
    XVAULT_POOL_URL: 'https://xen1.example',
    XVAULT_RETENTION_DAYS: { daily: 14 },
    XVAULT_LISTEN: '127.0.0.1:1',
    XVAULT_INSTANCE: 'front',
    XVAULT_URL: 'https://xvault.example',
    XVAULT_CRON_RUN: '{}',
    AWS_SECRET_ACCESS_KEY: 'key',
    OTEL_EXPORTER_OTLP_ENDPOINT: 'https://traces.example',
    SOMEBODY_ELSES_SECRET: 'x',
    BUCKET: { put: () => {} },
  };
  const { supervisor, prefix, bucket, leaseMs } = readEngineSettings(env, 'engine-1');
  assert.deepEqual(supervisor.env, {
    XVAULT_BUCKET: 'backups',
    XVAULT_PREFIX: 'xv',
    XVAULT_TOKEN: 'secret',
    XVAULT_POOL_URL: 'https://xen1.example',
    XVAULT_RETENTION_DAYS: '{"daily":14}',
    AWS_SECRET_ACCESS_KEY: 'key',
    OTEL_EXPORTER_OTLP_ENDPOINT: 'https://traces.example',
    XVAULT_DRAIN_SECONDS: '780',
    XVAULT_LISTEN: '0.0.0.0:8080',
    XVAULT_INSTANCE: 'engine-1',
  });
  assert.deepEqual(
    { prefix, bucket, leaseMs },
    { prefix: 'xv/', bucket: 'backups', leaseMs: 90_000 },
  );
  const { alarmMs, idleMs, readyMs, maxStarts } = supervisor;
  assert.deepEqual([alarmMs, idleMs, readyMs, maxStarts], [30_000, 120_000, 25_000, 6]);
});

test('a drain that was set is kept, and a wrong number is named', () => {
  const { supervisor } = readEngineSettings(
    { XVAULT_DRAIN_SECONDS: '60', ENGINE_STARTS: '2' },
    'e',
  );
  assert.equal(supervisor.env.XVAULT_DRAIN_SECONDS, '60');
  assert.equal(supervisor.maxStarts, 2);
  for (const wrong of [{ ENGINE_STARTS: '0' }, { XVAULT_LEASE_SECONDS: 'long' }]) {
    assert.throws(
      () => readEngineSettings(wrong, 'e'),
      (error: Error) =>
        isBackupError(error, 'configuration') &&
        error.message.includes(Object.keys(wrong)[0] ?? ''),
    );
  }
});

test('the platform is asked for a container with the Internet, its port and its life', async () => {
  const asked: unknown[] = [];
  const platform: PlatformContainer = {
    running: true,
    start: (options) => void asked.push(options),
    monitor: async () => void asked.push('monitor'),
    destroy: async (error) => void asked.push(error),
    signal: (number) => void asked.push(number),
    getTcpPort: (port) => ({
      fetch: async () => {
        asked.push(port);
        return new Response('here');
      },
    }),
    setInactivityTimeout: async (ms) => void asked.push(ms),
  };
  const container = createContainer(platform);
  assert.equal(container?.running, true);
  container.start({ A: '1' });
  await container.ended();
  assert.equal(await (await container.fetch(new Request('http://engine/livez'))).text(), 'here');
  await container.keepFor(5);
  container.signal(15);
  await container.destroy('why');
  const start = { enableInternet: true, env: { A: '1' } };
  assert.deepEqual(asked, [start, 'monitor', 8080, 5, 15, 'why']);
  assert.equal(createContainer(undefined), undefined);
});
