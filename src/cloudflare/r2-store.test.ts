/** What a bucket of the runtime does not do on request; the rest of the store is tested over a real binding. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { R2Bucket } from '@cloudflare/workers-types';
import { NEVER } from '../signals.ts';
import { createR2Store } from './r2-store.ts';

const options = { signal: NEVER };

test('a listing that never gets anywhere is an error, and no page to begin again from', async () => {
  const cursors: (string | undefined)[] = [];
  const bucket = {
    list: async ({ cursor }: { cursor?: string }) => {
      cursors.push(cursor);
      const next = String(cursors.length);
      return { objects: [], delimitedPrefixes: [], truncated: true, cursor: next };
    },
  } as unknown as R2Bucket;
  const store = createR2Store({ bucket }, { name: 'xvault' });
  await assert.rejects(store.list({ prefix: 'jobs/' }, options), { code: 'store_unavailable' });
  assert.deepEqual(cursors.slice(0, 3), [undefined, '1', '2']);
  assert.ok(cursors.length < 200, `${cursors.length}`);
});
