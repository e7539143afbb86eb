import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isBackupError } from '../errors.ts';
import { inRange, parseThreshold } from './threshold.ts';

test('ranges alarm as the guidelines of Nagios plugins say', () => {
  const cases: [string, number[], number[]][] = [
    ['10', [0, 5, 10], [-1, 11]],
    ['10:', [10, 99], [9]],
    ['~:10', [-99, 10], [11]],
    ['10:20', [10, 20], [9, 21]],
    ['@10:20', [9, 21], [10, 20]],
  ];
  for (const [text, good, bad] of cases) {
    const threshold = parseThreshold(text, 0);
    assert.equal(threshold.text, text);
    for (const value of good) assert.ok(inRange(value, threshold), `${value} in ${text}`);
    for (const value of bad) assert.ok(!inRange(value, threshold), `${value} not in ${text}`);
  }
});

test('bounds may have units, and performance data gets seconds', () => {
  assert.equal(parseThreshold('26h', 0).text, '93600');
  assert.equal(parseThreshold('1h:26h', 0).text, '3600:93600');
  assert.equal(parseThreshold('@0:1h', 0).text, '@3600');
  assert.equal(parseThreshold(undefined, 50).text, '50');
});

test('what is no range is refused', () => {
  for (const wrong of ['', 'x', '20:10', '1:2:3', '10@']) {
    assert.throws(
      () => parseThreshold(wrong, 0),
      (error) => isBackupError(error, 'invalid_request'),
      wrong,
    );
  }
});
