/**
 * The pages in a real browser: a run of the demo's pool watched live in a window as wide as a phone, and signing in.
 *
 * Screenshots are kept among the artefacts (docs/tests.md). Where Chromium is not installed this is skipped; the rules of the pages
 * themselves (policy, escaping, contrast) are tested without a browser in src/http.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { after, before, describe, test } from 'node:test';
import type { Browser, Page } from 'playwright-core';
import { startDemoWorld } from '../../src/commands/demo-world.ts';
import { createListener } from '../../src/commands/listener.ts';
import { exampleRun } from '../../src/http/run-answers.ts';
import type { JobView } from '../../src/http/views.ts';
import { SILENT_LOG } from '../../src/log.ts';
import { createHarness } from '../http/harness.ts';
import { endedJob, exampleBackup, exampleJob } from '../http/records.ts';
import {
  complaintsOf,
  findChromium,
  openBrowser,
  overhang,
  paleTexts,
  screenshot,
} from './browser.ts';
import { startLiveWorld } from './live-world.ts';

const PHONE = { width: 360, height: 740 };
const WINDOWS = [
  ['phone', PHONE, 'dark'],
  ['desk', { width: 1280, height: 900 }, 'light'],
] as const;
/** Machines backed up beside the one that is watched. */
const OTHERS = 7;
const program = findChromium();
const skip = program === undefined ? 'chromium is not installed (apt-get install chromium)' : false;

const short =
  process.env.XVAULT_TEST_LONG === undefined ? 'a demo takes its time: long runs only' : false;

/** Each page in both windows: kept as a picture, readable, and no wider than the window. */
async function lookAt(page: Page, urls: readonly string[], name: string): Promise<void> {
  for (const [where, size, colorScheme] of WINDOWS) {
    await page.setViewportSize(size);
    await page.emulateMedia({ colorScheme });
    for (const url of urls) {
      await page.goto(url);
      const kind = new URL(url).pathname.split('/')[1] || 'status';
      await screenshot(page, `${name}-${where}-${kind}`);
      assert.deepEqual(await paleTexts(page), [], `${url} ${colorScheme}`);
      assert.ok((await overhang(page)) <= 0, `${url} is wider than a ${where}`);
    }
  }
}

describe('the pages in a browser', { skip }, () => {
  let browser: Browser;
  before(async () => {
    browser = await openBrowser(program ?? '');
  });
  after(() => browser.close());

  test('a run is watched live on a phone, with scripts and without: bytes, rate and time left, to its end', () =>
    watchRun(browser));

  test('a demo is watched live on a phone: it moves, ends, and says what it was', {
    skip: short,
  }, async () => {
    await using world = await startDemoWorld({ port: 0, log: SILENT_LOG });
    const origin = world.server.url;
    const { context, page, complaints } = await openLive(browser, origin);
    const name = 'web-01';
    const row = page.locator('#machines tr', { hasText: name });
    assert.match((await row.textContent()) ?? '', /never/);
    const start = async (vm: string) => {
      const begun = await fetch(`${origin}/v1/vms/${vm}/backups`, { method: 'POST' });
      return (await begun.json()) as JobView;
    };
    // together they take long enough to be seen
    const listed = await fetch(`${origin}/v1/vms`);
    const { vms } = (await listed.json()) as { vms: { uuid: string; name: string }[] };
    const others = vms.filter((vm) => vm.name !== name).slice(0, OTHERS);
    await Promise.all(others.map(({ uuid }) => start(uuid)));
    const job = await start(name);
    await page.locator('#jobs progress').first().waitFor();
    await screenshot(page, 'demo-phone-running');
    assert.ok((await overhang(page)) <= 0);
    await page.locator('#jobs').getByText('Nothing.').waitFor();
    await row.getByText('ago').waitFor();
    assert.equal(await page.evaluate('window.sameDocument'), true);
    const paths = ['/', `/jobs/${job.id}`, `/vms/demo/${job.vm.uuid}`, '/runs', '/docs'];
    await lookAt(
      page,
      paths.map((path) => `${origin}${path}`),
      'demo',
    );
    await page.goto(`${origin}/jobs/${job.id}`);
    const shown = (await page.locator('main').textContent()) ?? '';
    for (const words of ['succeeded', 'snapshotting', 'exporting', 'xvault restore']) {
      assert.ok(shown.includes(words), words);
    }
    assert.deepEqual(complaints, []);
    await context.close();
  });

  test('signing in, following a job, and signing out, with the keyboard alone', async () => {
    const { app, clock, service } = createHarness();
    const { id, vm } = exampleBackup();
    service.change(id, exampleJob());
    service.change(exampleJob().id, endedJob());
    service.backups.set(id, exampleBackup());
    const listener = createListener({ fetch: app.fetch, log: SILENT_LOG, clock });
    listener.listen(0, '127.0.0.1');
    await once(listener, 'listening');
    const origin = `http://127.0.0.1:${(listener.address() as AddressInfo).port}`;
    const context = await browser.newContext({ viewport: PHONE });
    const page = await context.newPage();
    const complaints = complaintsOf(page, origin);
    try {
      await page.goto(`${origin}/jobs/${id}`);
      assert.match(page.url(), /\/login\?to=/);
      await screenshot(page, 'phone-login');
      assert.deepEqual(await paleTexts(page), []);
      // the field has the focus already
      await page.keyboard.type('guess');
      await page.keyboard.press('Enter');
      await page.getByText('Nobody has this token.').waitFor();
      await page.keyboard.type('read-token');
      await page.keyboard.press('Enter');
      await page.waitForURL(`${origin}/jobs/${id}`);
      const [cookie] = await context.cookies();
      assert.deepEqual([cookie?.httpOnly, cookie?.sameSite], [true, 'Strict']);
      assert.equal(await page.evaluate('document.cookie'), '');
      await page.getByText('Live.').waitFor();
      service.change(id, { ...endedJob(), id });
      await clock.advance(2_000);
      await page.getByText('Ended.').waitFor();
      await page.locator('h1', { hasText: 'succeeded' }).waitFor();
      const run = exampleRun();
      service.runs.set(run.id, run);
      const paths = ['/', `/jobs/${id}`, `/vms/${vm.pool}/${vm.uuid}`, `/runs/${run.id}`];
      await lookAt(
        page,
        paths.map((path) => `${origin}${path}`),
        'example',
      );
      assert.deepEqual(complaints, [
        'Failed to load resource: the server responded with a status of 401 (Unauthorized)',
      ]);
      const seen: string[] = [];
      for (let tab = 0; tab < 8 && !seen.includes('Sign out (read)'); tab++) {
        await page.keyboard.press('Tab');
        const outline = 'getComputedStyle(document.activeElement).outlineStyle';
        assert.equal(await page.evaluate(outline), 'solid', 'the focus is seen');
        seen.push((await page.locator(':focus').textContent()) ?? '');
      }
      assert.deepEqual(seen.slice(0, 3), ['xvault', 'Status', 'Runs']);
      await page.keyboard.press('Enter');
      await page.waitForURL(`${origin}/login`);
      assert.deepEqual(await context.cookies(), []);
    } finally {
      await context.close();
      listener.closeAllConnections();
      listener.close();
    }
  });
});

/** The status page on a phone, once it is live. */
async function openLive(browser: Browser, origin: string) {
  const context = await browser.newContext({ viewport: PHONE, colorScheme: 'dark' });
  const page = await context.newPage();
  const complaints = complaintsOf(page, origin);
  await page.goto(origin);
  await page.getByText('Live.').waitFor();
  // a page that was loaded anew would have forgotten it
  await page.evaluate('window.sameDocument = true');
  return { context, page, complaints };
}

async function watchRun(browser: Browser): Promise<void> {
  await using world = await startLiveWorld();
  const { origin } = world;
  const { context, page, complaints } = await openLive(browser, origin);
  const body = JSON.stringify({ select: { all: true } });
  const headers = { 'content-type': 'application/json' };
  const begun = await fetch(`${origin}/v1/runs`, { method: 'POST', headers, body });
  const run = (await begun.json()) as { id: string };
  const row = page.locator('#jobs tr', { hasText: 'web-1' });
  const cell = (label: string) => row.locator(`td[data-l="${label}"]`);
  // all of a row that was drawn once; the host is silent now, so it stays there
  const moving = /exporting.*[1-9]\d? %.*[1-9][\d.]* MiB.*[KM]iB\/s.*at most \d/s;
  await row.filter({ hasText: moving }).waitFor();
  const rate = await cell('rate').textContent();
  await screenshot(page, 'live-phone-running');
  assert.ok((await overhang(page)) <= 0);
  // no script: the same, drawn by the service, and fetched again by the browser itself
  const plain = await browser.newContext({ viewport: PHONE, javaScriptEnabled: false });
  const still = await plain.newPage();
  await still.goto(`${origin}/runs/${run.id}`);
  assert.equal(await still.locator('meta[http-equiv="refresh"]').count(), 1);
  await still.locator('#machines').getByText('running').waitFor();
  // it moves: while nothing comes, the rate falls
  await cell('rate')
    .filter({ hasNotText: rate ?? '' })
    .filter({ hasText: /\d/ })
    .waitFor();
  world.goOn();
  await page.locator('#jobs').getByText('Nothing.').waitFor();
  await page.locator('#machines tr', { hasText: 'web-1' }).getByText('ago').waitFor();
  assert.equal(await page.evaluate('window.sameDocument'), true);
  await page.goto(`${origin}/runs/${run.id}`);
  await page.locator('h1', { hasText: 'succeeded' }).waitFor();
  await screenshot(page, 'live-phone-run');
  const shown = (await page.locator('main').textContent()) ?? '';
  for (const words of ['1 of 1 machine backed up', 'sent', 'cost of the requests', 'took']) {
    assert.ok(shown.includes(words), words);
  }
  await still.reload();
  await still.locator('h1', { hasText: 'succeeded' }).waitFor();
  assert.deepEqual(complaints, []);
  await Promise.all([context.close(), plain.close()]);
}
