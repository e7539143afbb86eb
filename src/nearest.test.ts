import assert from 'node:assert/strict';
import { test } from 'node:test';
import { nearest } from './nearest.ts';

test('a typing mistake finds what was meant', () => {
  const known = ['backup', 'list', 'status', 'config'];
  assert.equal(nearest('bakcup', known), 'backup');
  assert.equal(nearest('statsu', known), 'status');
  assert.equal(nearest('lst', known), 'list');
});

test('another word finds nothing', () => {
  assert.equal(nearest('teleport', ['backup', 'list']), undefined);
  assert.equal(nearest('', []), undefined);
});
