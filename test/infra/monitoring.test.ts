/**
 * What watches xvault: the page of /metrics as Prometheus' own tools read it, the alert rules played through by promtool, and rules,
 * dashboard and docs/monitoring.md held to the metrics there are. Without promtool (Debian: prometheus) its part is skipped.
 */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { dashboardJson } from '../../infra/monitoring/dashboard.ts';
import { metricsIn, monitoringPage, readAlerts } from '../../infra/monitoring/page.ts';
import { systemClock } from '../../src/clock.ts';
import { COMMANDS } from '../../src/commands/index.ts';
import { toOpenMetrics } from '../../src/http/open-metrics.ts';
import { createMetrics, METRICS, shownMetrics } from '../../src/metrics.ts';
import type { MachineFigures } from '../../src/metrics-catalog.ts';
import { INFRA, read } from './files.ts';

const missing =
  spawnSync('promtool', ['--version']).error === undefined
    ? false
    : 'promtool is not installed (Debian: apt install prometheus)';

const folder = mkdtempSync(join(tmpdir(), 'xvault-monitoring-'));
after(() => rmSync(folder, { recursive: true }));

function promtool(args: readonly string[], input = ''): void {
  const { status, stdout, stderr } = spawnSync('promtool', args, {
    cwd: INFRA,
    input,
    encoding: 'utf8',
  });
  assert.equal(status, 0, `${stdout}${stderr}`);
}

const MACHINE: MachineFigures = {
  pool: 'dc1',
  vmUuid: 'u1',
  vmName: 'a "name" with \\ and\na line end',
  status: 'warning',
  maxAgeSeconds: 93_600,
  lastSuccessAtSeconds: 1_000,
  lastCompletionAtSeconds: 2_000,
  lastSucceeded: false,
  durationSeconds: 10.5,
  sizeBytes: 4096,
  sentBytes: 1024,
  copiedBytes: 3072,
  verifiedAtSeconds: 1_500,
  isDamaged: false,
  expiresAtSeconds: 90_000,
  isGuarded: true,
};

/** A page on which every metric has a value. */
async function fullPage(perMachine = true): Promise<string> {
  const { meter, render } = createMetrics({
    clock: systemClock,
    version: '1.0.0',
    perMachine,
    figures: async () => ({
      machines: [MACHINE, { ...MACHINE, vmUuid: 'u2', pool: 'dc2', status: 'critical' }],
      pools: [
        { name: 'dc1', isReachable: true },
        { name: 'dc2', isReachable: false },
      ],
      goneAtRisk: 1,
    }),
  });
  for (const [name, { kind, labels }] of Object.entries(METRICS)) {
    const values = Object.fromEntries(labels.map((label) => [label, 'x']));
    if (kind === 'counter') meter.count(name, 1, values);
    else meter.observe(name, 0.3, values);
  }
  meter.count('no_such', 1);
  return (await render()).body;
}

describe('the page', () => {
  test('is one promtool finds no fault with, and so is its OpenMetrics form', {
    skip: missing,
  }, async () => {
    const page = await fullPage();
    promtool(['check', 'metrics'], page);
    // the reader of OpenMetrics wants to know when
    const dated = toOpenMetrics(page).replaceAll(/^([^#\n].*)$/gm, '$1 1700000000');
    const file = join(folder, 'page.txt');
    writeFileSync(file, dated);
    promtool(['tsdb', 'create-blocks-from', 'openmetrics', file, join(folder, 'tsdb')]);
  });

  test('shows what the list says, all of it, with the labels it says', async () => {
    const page = await fullPage();
    const shown = [...page.matchAll(/^# TYPE (\w+) (\w+)$/gm)].map(
      ([, name, kind]) => `${name}${kind}`,
    );
    const listed = shownMetrics().map(({ name, kind }) => `${name}${kind}`);
    assert.deepEqual(shown.toSorted(), listed.toSorted());
    for (const { name, labels } of shownMetrics()) {
      const line = page.split('\n').find((text) => new RegExp(`^${name}(_bucket)?[{ ]`).test(text));
      const found = [...(line ?? '').matchAll(/(\w+)="/g)].map(([, label]) => label);
      const wanted = [...(line?.includes('_bucket{') ? ['le'] : []), ...labels];
      assert.ok(line, `${name} has no value`);
      assert.deepEqual(found.toSorted(), wanted.toSorted(), name);
    }
  });

  test('has no series per machine where the settings say so, and the sums all the same', async () => {
    const page = await fullPage(false);
    assert.doesNotMatch(page, /vm_uuid/);
    assert.match(page, /^xvault_machines\{pool="dc1",status="warning"\} 1$/m);
    assert.match(page, /^xvault_machines\{pool="dc2",status="ok"\} 0$/m);
    assert.match(page, /^xvault_pool_up\{pool="dc2"\} 0$/m);
    assert.match(page, /^xvault_oldest_backup_timestamp_seconds\{pool="dc1"\} 1000$/m);
  });

  test('begins counters at 0 where their labels are known', async () => {
    const { render } = createMetrics({ clock: systemClock, version: '0' });
    const { body } = await render();
    assert.match(body, /^xvault_backups_total\{mode="delta",result="failed"\} 0$/m);
    assert.match(body, /^xvault_last_good_renewals_total\{outcome="failed"\} 0$/m);
  });
});

describe('alerts', () => {
  test('fire when they should and not before', { skip: missing }, () => {
    promtool(['check', 'rules', 'monitoring/alerts.yaml']);
    promtool(['test', 'rules', 'monitoring/alerts.test.yaml']);
  });

  test('name only metrics there are, and every metric has one', () => {
    const known = new Set(shownMetrics().map(({ name }) => name));
    const used = new Set(readAlerts().flatMap(({ expr }) => metricsIn(expr)));
    assert.deepEqual(
      [...used].filter((name) => !known.has(name)),
      [],
    );
    assert.deepEqual(
      [...known].filter((name) => !used.has(name)),
      [],
    );
  });

  test('have a severity, say what is wrong and what to do, and name labels the metric has', () => {
    const labelsOf = new Map(shownMetrics().map(({ name, labels }) => [name, labels]));
    const alerts = readAlerts();
    assert.equal(new Set(alerts.map(({ alert }) => alert)).size, alerts.length);
    for (const { alert, labels, annotations, expr } of alerts) {
      assert.match(labels.severity, /^(critical|warning|info)$/, alert);
      assert.ok(annotations.summary && annotations.action, alert);
      const text = `${annotations.summary}${annotations.action}`;
      const has = metricsIn(expr).flatMap((name) => labelsOf.get(name) ?? []);
      for (const [, label = ''] of text.matchAll(/\$labels\.(\w+)/g)) {
        assert.ok([...has, 'instance'].includes(label), `${alert}: ${label}`);
      }
    }
  });
});

describe('what to do', () => {
  test('names commands and options there are', async () => {
    const page = readFileSync(new URL('../docs/monitoring.md', INFRA), 'utf8');
    const texts = [...readAlerts().map(({ annotations }) => annotations.action), page];
    const said = texts.flatMap((text) => [
      ...text.matchAll(/\bxvault ([a-z]+)((?: [-\w{}$.‹›]+)*)/g),
    ]);
    let seen = 0;
    for (const [all, name = '', rest = ''] of said) {
      // also a sentence may go on after the name of the program
      if (/^(is|does|slows|answers|counted|on)$/.test(name)) continue;
      const entry = COMMANDS[name];
      assert.ok(entry, `no command: ${all}`);
      const { options } = (await entry.load()).command;
      for (const [, option = ''] of rest.matchAll(/--([a-z-]+)/g)) {
        assert.ok(Object.hasOwn(options, option), `no option: ${all}`);
      }
      seen += 1;
    }
    assert.ok(seen > 30);
  });
});

describe('what is made from them', () => {
  test('is up to date: npm run docs writes it', () => {
    const page = readFileSync(new URL('../docs/monitoring.md', INFRA), 'utf8');
    assert.equal(page, monitoringPage());
    assert.equal(read('monitoring/dashboard.json'), dashboardJson());
  });

  test('the dashboard asks only for metrics and labels there are', { skip: missing }, () => {
    const known = new Set(shownMetrics().map(({ name }) => name));
    const { panels } = JSON.parse(read('monitoring/dashboard.json')) as {
      panels: { title: string; gridPos: { x: number; w: number }; targets?: { expr: string }[] }[];
    };
    const exprs = panels.flatMap(({ targets = [] }) => targets.map(({ expr }) => expr));
    assert.ok(exprs.length > 20);
    assert.deepEqual(
      exprs.flatMap(metricsIn).filter((name) => !known.has(name)),
      [],
    );
    for (const { title, gridPos } of panels) assert.ok(gridPos.x + gridPos.w <= 24, title);
    // as rules they are parsed
    const rules = exprs.map((expr, at) => ({ record: `panel:${at}`, expr }));
    const file = join(folder, 'panels.yaml');
    writeFileSync(file, JSON.stringify({ groups: [{ name: 'panels', rules }] }));
    promtool(['check', 'rules', file]);
  });
});
