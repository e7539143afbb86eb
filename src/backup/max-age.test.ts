import assert from 'node:assert/strict';
import { test } from 'node:test';
import { maxAgeOf } from './max-age.ts';

test('a tag says how old a backup may be, the strictest of several', () => {
  assert.equal(maxAgeOf(['prod', 'xvault:skip', 'max_age=1h']), undefined);
  assert.deepEqual(maxAgeOf(['xvault:max_age=26h']), { seconds: 93_600, wrong: [] });
  assert.deepEqual(maxAgeOf(['xvault:max_age= 8d', 'xvault:max_age=90m']), {
    seconds: 5400,
    wrong: [],
  });
});

test('what is no time is told, and another tag counts all the same', () => {
  for (const wrong of [
    'xvault:max_age=',
    'xvault:max_age=soon',
    'xvault:max_age=-1h',
    'xvault:max_age=0h',
  ]) {
    assert.deepEqual(maxAgeOf([wrong]), { wrong: [wrong] });
    assert.deepEqual(maxAgeOf([wrong, 'xvault:max_age=1d']), { seconds: 86_400, wrong: [wrong] });
  }
});
