import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  displayWidth,
  formatBytes,
  formatSeconds,
  formatShare,
  formatTable,
  parseDuration,
  plain,
  truncate,
} from './format.ts';

test('sizes have three digits and binary units', () => {
  const cases: [number, string][] = [
    [0, '0 B'],
    [999, '999 B'],
    [1000, '1.0 KiB'],
    [1536, '1.5 KiB'],
    [1_048_576, '1.0 MiB'],
    [104_857_600, '100 MiB'],
    [1_073_741_823, '1.0 GiB'],
    [8 * 1024 ** 4, '8.0 TiB'],
  ];
  for (const [bytes, text] of cases) assert.equal(formatBytes(bytes), text);
});

test('shares are whole percents', () => {
  assert.deepEqual(
    [formatShare(1, 3), formatShare(0, 5), formatShare(0, 0)],
    ['33 %', '0 %', '100 %'],
  );
});

test('ages have the two largest units', () => {
  const cases: [number, string][] = [
    [0, '0s'],
    [59.4, '59s'],
    [60, '1m'],
    [200, '3m 20s'],
    [7500, '2h 5m'],
    [90_000, '1d 1h'],
    [-5, '0s'],
  ];
  for (const [seconds, text] of cases) assert.equal(formatSeconds(seconds), text);
});

test('durations are read as people write them', () => {
  assert.equal(parseDuration('90s'), 90);
  assert.equal(parseDuration('26h'), 93_600);
  assert.equal(parseDuration('1h30m'), 5400);
  assert.equal(parseDuration('3d'), 259_200);
  assert.equal(parseDuration('120'), 120);
  for (const wrong of ['', 'h', '3 h', '3y', '-1h']) assert.equal(parseDuration(wrong), undefined);
});

test('a table is aligned by what the terminal shows, not by characters', () => {
  const lines = formatTable(
    [{ title: 'NAME' }, { title: 'SIZE', right: true }],
    [
      ['データ', '1 B'],
      ['web', '100 GiB'],
    ],
  );
  assert.deepEqual(lines, ['NAME       SIZE', 'データ      1 B', 'web     100 GiB']);
});

test('names cannot steer the terminal', () => {
  assert.equal(plain('a\u001b[31mb\u0007c\nd'), 'ab?c?d');
});

test('text is cut at a display width', () => {
  assert.equal(truncate('abcdef', 4), 'abc…');
  assert.equal(truncate('データ', 4), 'デ…');
  assert.equal(displayWidth('e\u0301'), 1);
});
