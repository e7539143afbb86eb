import assert from 'node:assert/strict';
import { test } from 'node:test';
import { restoreRequestSchema } from '../catalog/restore.ts';
import { readWishes } from './restore.ts';

test('without options nothing is asked for but what the request leaves open', () => {
  assert.deepEqual(readWishes({}), {});
  restoreRequestSchema.parse(readWishes({}));
});

test('options become the request; names may hold commas, spaces and =', () => {
  const wishes = readWishes({
    pool: 'dr',
    sr: 'NFS store',
    name: 'web 2',
    uuid: 'keep',
    network: ['Pool-wide network, eth0=Lab', 'a=b=none', '*=VM network'],
    'disk-sr': ['1=Local storage'],
    disks: ['0,1'],
    start: true,
    via: 'stream',
    'dry-run': true,
  });
  assert.deepEqual(wishes, {
    pool: 'dr',
    sr: 'NFS store',
    name: 'web 2',
    mac: 'keep',
    uuid: 'keep',
    via: 'stream',
    disks: ['0', '1'],
    networks: { 'Pool-wide network, eth0': 'Lab', 'a=b': 'none', '*': 'VM network' },
    disk_srs: { '1': 'Local storage' },
    start: true,
    dry_run: true,
  });
  restoreRequestSchema.parse(wishes);
});

test('what cannot be meant is refused', () => {
  for (const options of [
    { mac: 'old' },
    { via: 'ftp' },
    { network: ['LAN'] },
    { network: ['=x'] },
  ]) {
    assert.throws(() => readWishes(options), { code: 'invalid_request' }, JSON.stringify(options));
  }
});
