import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isBackupError } from '../errors.ts';
import { formatOrigin, parseOrigin, withAddress } from './origin.ts';

for (const [url, shown] of [
  ['https://pool.example', 'https://pool.example:443'],
  ['pool.example', 'https://pool.example:443'],
  ['http://10.0.0.1', 'http://10.0.0.1:80'],
  ['https://[fd00::1]:8443/', 'https://[fd00::1]:8443'],
] as const) {
  test(`${url} means ${shown}`, () => {
    assert.equal(formatOrigin(parseOrigin(url)), shown);
  });
}

test('another member keeps scheme and port, and IPv6 comes without brackets', () => {
  const origin = parseOrigin('https://a.example:8443');
  assert.equal(formatOrigin(withAddress(origin, '10.0.0.2')), 'https://10.0.0.2:8443');
  assert.equal(formatOrigin(withAddress(origin, 'fd00::2')), 'https://[fd00::2]:8443');
});

test('an address of another kind is a wrong setting', () => {
  for (const url of ['ftp://x', 'https://', 'https://a b']) {
    assert.throws(
      () => parseOrigin(url),
      (error) => isBackupError(error, 'configuration'),
    );
  }
});
