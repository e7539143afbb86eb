import assert from 'node:assert/strict';
import { globSync, readFileSync } from 'node:fs';
import { test } from 'node:test';
import { createMetrics, METRICS, metricKey } from './metrics.ts';
import type { CatalogFigures } from './metrics-catalog.ts';
import type { Clock } from './ports.ts';

function testClock() {
  let ms = 0;
  const clock: Clock = {
    now: () => ms,
    elapsed: () => ms,
    sleep: () => Promise.reject(new Error('no test sleeps')),
  };
  return { clock, advance: (by: number) => (ms += by) };
}

test('reports end in Prometheus metrics with the prefix', async () => {
  const { meter, render } = createMetrics({ clock: testClock().clock, version: '1.2.3' });
  meter.count('store_sent_bytes_total', 5);
  meter.count('xvault_store_sent_bytes_total', 7);
  meter.count('store_requests', 1, { operation: 'put', outcome: 'ok', surplus: 'x' });
  meter.count('jobs_running', 2);
  meter.count('jobs_running', -1);
  meter.observe('store_request_seconds', 0.3, { operation: 'put' });
  const { body, contentType } = await render();
  assert.match(contentType, /^text\/plain/);
  assert.match(body, /^xvault_store_sent_bytes_total 12$/m);
  assert.match(body, /^xvault_store_requests_total\{operation="put",outcome="ok"\} 1$/m);
  assert.match(body, /^xvault_jobs_running 1$/m);
  assert.match(
    body,
    /^xvault_store_request_duration_seconds_bucket\{le="0.5",operation="put"\} 1$/m,
  );
  assert.match(body, /^xvault_build_info\{version="1.2.3"\} 1$/m);
});

test('an unknown name is counted, never thrown', async () => {
  const { meter, render } = createMetrics({ clock: testClock().clock, version: '0' });
  meter.count('no_such_thing', 1);
  assert.match((await render()).body, /^xvault_unknown_metrics_total\{name="no_such_thing"\} 1$/m);
});

test('every name reported in src/ is in the table', () => {
  const root = new URL('.', import.meta.url).pathname;
  const wrong: string[] = [];
  for (const file of globSync('**/*.ts', { cwd: root })) {
    if (file.endsWith('.test.ts')) continue;
    const text = readFileSync(root + file, 'utf8');
    for (const [, name] of text.matchAll(/\bmeter\??\.(?:count|observe)\(\s*'([^']+)'/g)) {
      if (!Object.hasOwn(METRICS, metricKey(name ?? ''))) {
        wrong.push(`${file}: ${name}`);
      }
    }
  }
  assert.deepEqual(wrong, []);
});

test('figures per machine are read once in five minutes and kept when the bucket is away', async () => {
  const { clock, advance } = testClock();
  let reads = 0;
  const machine = {
    pool: 'p',
    vmUuid: 'u1',
    vmName: 'web "1"',
    status: 'ok' as const,
    maxAgeSeconds: 93_600,
    lastSuccessAtSeconds: 1000,
    lastSucceeded: true,
    sizeBytes: 4096,
  };
  const pools = [{ name: 'p', isReachable: true }];
  let answer = (): Promise<CatalogFigures> =>
    Promise.resolve({ machines: [machine], pools, goneAtRisk: 0 });
  const figures = () => {
    reads += 1;
    return answer();
  };
  const { render } = createMetrics({ clock, version: '0', figures });
  const first = (await render()).body;
  const labels = String.raw`\{pool="p",vm_uuid="u1",vm_name="web \\"1\\""\}`;
  const line = (name: string, value: number) =>
    new RegExp(`^xvault_${name}${labels} ${value}$`, 'm');
  assert.match(first, line('backup_last_success_timestamp_seconds', 1000));
  assert.match(first, line('backup_last_result', 1));
  assert.match(first, line('backup_last_size_bytes', 4096));
  advance(299_000);
  await render();
  assert.equal(reads, 1);
  answer = () => Promise.reject(new Error('away'));
  advance(2_000);
  const stale = (await render()).body;
  assert.equal(reads, 2);
  assert.match(stale, line('backup_last_size_bytes', 4096));
  assert.match(stale, /^xvault_catalog_age_seconds 301$/m);
});
