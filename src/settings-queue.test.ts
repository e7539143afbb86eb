import assert from 'node:assert/strict';
import { test } from 'node:test';
import { inspectSettings } from './config.ts';

for (const url of [
  'redis://localhost',
  'rediss://xvault:s3cret@redis.example.com:6380/2',
  'redis://[::1]:6379',
]) {
  test(`${url} is the address of a queue, and never shown`, () => {
    const { settings, mistakes, sources } = inspectSettings({ env: { XVAULT_QUEUE_URL: url } });
    assert.deepEqual(mistakes, []);
    assert.equal(settings?.queueUrl?.reveal(), url);
    const shown = JSON.stringify([
      settings,
      sources.find(({ name }) => name === 'XVAULT_QUEUE_URL'),
    ]);
    assert.equal(shown.includes(url), false, shown);
  });
}

for (const wrong of [
  'localhost:6379',
  'http://redis',
  'redis://',
  'redis://host/s3cret',
  's3cret',
]) {
  test(`${wrong.replace('s3cret', '…')} is refused without being printed`, () => {
    const { mistakes } = inspectSettings({ env: { XVAULT_QUEUE_URL: wrong } });
    assert.match(JSON.stringify(mistakes), /XVAULT_QUEUE_URL.*expected redis:/);
    assert.equal(JSON.stringify(mistakes).includes('s3cret'), false);
  });
}

test('there is none unless it is set', () => {
  assert.equal(inspectSettings({ env: {} }).settings?.queueUrl, undefined);
});
