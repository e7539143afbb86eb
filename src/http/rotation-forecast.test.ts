import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createHarness } from '../../test/http/harness.ts';
import { FORECAST_EXAMPLE, forecastSchema } from './forecast-answers.ts';
import { GUARD_EXAMPLE, guardReportSchema } from './guard-answers.ts';

test('the days to come are told with the rules when they are asked for, and only then', async () => {
  const { service, get } = createHarness();
  const plain = (await (await get('/v1/rotation')).json()) as { forecast?: unknown };
  assert.equal(plain.forecast, undefined);
  const told = (await (await get('/v1/rotation?forecast=30d')).json()) as { forecast?: unknown };
  assert.deepEqual(told.forecast, FORECAST_EXAMPLE);
  assert.deepEqual(service.calls.get('forecast'), [{ days: 30 }]);
  for (const wrong of ['0d', '12h', '401d', 'soon']) {
    assert.equal((await get(`/v1/rotation?forecast=${wrong}`)).status, 422, wrong);
  }
});

test('last good backups are kept on request; a dry run only tells', async () => {
  const { service, post } = createHarness();
  const answer = await post('/v1/rotation/renew', { dry_run: true });
  assert.equal(answer.status, 200);
  assert.deepEqual(await answer.json(), { ...GUARD_EXAMPLE, dry_run: true });
  await post('/v1/rotation/renew', {});
  assert.deepEqual(service.calls.get('renewLastGood'), [{ dryRun: true }, { dryRun: false }]);
});

test('the status page shows the days to come as a picture without style or script', async () => {
  const page = await (await createHarness().get('/')).text();
  const [picture = ''] = /<svg.*<\/svg>/s.exec(page) ?? [];
  assert.equal(picture.match(/<rect /g)?.length, 2 * FORECAST_EXAMPLE.days.length);
  assert.doesNotMatch(picture, /style=|<script/);
  assert.match(page, /2026-11-23 to 2026-11-24: 4\.5 GiB now; .*about 0\.01 USD for storage/s);
});

test('the examples are what the description says', () => {
  assert.deepEqual(guardReportSchema.parse(GUARD_EXAMPLE), GUARD_EXAMPLE);
  assert.deepEqual(forecastSchema.parse(FORECAST_EXAMPLE), FORECAST_EXAMPLE);
});
