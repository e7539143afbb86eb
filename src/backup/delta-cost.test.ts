import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DEFAULT_PRICES } from '../prices.ts';
import { costOf, requestsOf } from './delta-cost.ts';

const counters = {
  acceptedBytes: 0,
  sentBytes: 4e9,
  copiedBytes: 90e9,
  joinedBytes: 10e9,
  rereadBytes: 0,
  parts: 0,
  requests: 1010,
  uploadRequests: 700,
  copyRequests: 300,
  retries: 4,
};

test('requests are told by kind, those of the engine included', () => {
  assert.deepEqual(requestsOf({ counters, reads: 6 }), {
    total: 1016,
    uploads: 700,
    copies: 300,
    reads: 6,
    retries: 4,
  });
});

test('the estimate follows from the table, to a millionth', () => {
  const prices = { ...DEFAULT_PRICES, currency: 'EUR', as_of: 'ours' };
  const cost = costOf({ counters, reads: 6 }, prices);
  // 710 uploads and others, 300 copies, 6 reads
  assert.deepEqual(cost, { amount: 0.005052, currency: 'EUR', prices: 'ours' });
  const traffic = costOf(
    { counters, reads: 0 },
    { ...prices, sent_per_gb: 0.01, copied_per_gb: 0.001 },
  );
  assert.equal(traffic.amount, 0.14505);
});
