import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isLoopback } from './loopback.ts';

test('loopback is what names this machine and nothing that only begins or ends so', () => {
  const here = ['localhost', 'LOCALHOST', '127.0.0.1', '127.1.2.3', '::1', '[::1]'];
  for (const host of here) assert.equal(isLoopback(host), true, host);
  const elsewhere = ['', 'localhost.example.com', '127.0.0.1.example.com', '0.0.0.0', '::', '[::1'];
  for (const host of elsewhere) assert.equal(isLoopback(host), false, host);
});
