/** The order in which a snapshot's disks come is chance, as on a real host. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createSparseDisk } from './disk.ts';
import { type SimPool, startSimPool } from './pool.ts';
import { get, logIn, readMembers } from './raw-client.ts';

const MIB = 1_048_576;

/** Sizes of a machine's disks, one after another larger, as they come. */
async function ordersOf(seed: number, snapshots: number): Promise<string[]> {
  const disks = [1, 2, 3, 4].map((size) => ({
    name: `d${size}`,
    storage: 'nfs' as const,
    open: () => createSparseDisk(size * MIB),
  }));
  const pool = await startSimPool({ seed, machines: [{ name: 'm', disks }] });
  try {
    return await takeOrders(pool, snapshots);
  } finally {
    await pool.close();
  }
}

async function takeOrders(pool: SimPool, snapshots: number): Promise<string[]> {
  const caller = await logIn(pool);
  const orders: string[] = [];
  for (let i = 0; i < snapshots; i++) {
    const ref = await caller.call('VM.snapshot', pool.machine('m').ref, `s${i}`);
    const cookie = [`Cookie: session_id=${caller.session}`];
    const { body } = await get(pool.url, `/export?ref=${ref}`, cookie);
    const lasts = new Map<string, number>();
    for (const { name } of readMembers(body).members.slice(1)) {
      const [id = '', number = ''] = name.split('/');
      lasts.set(id, Number.parseInt(number, 10) + 1);
    }
    orders.push([...lasts.values()].join());
  }
  return orders;
}

test('disks come in another order from snapshot to snapshot, and the seed repeats it', async () => {
  const orders = await ordersOf(7, 6);
  assert.ok(new Set(orders).size > 2, orders.join(' '));
  for (const order of orders) assert.deepEqual(order.split(',').toSorted(), ['1', '2', '3', '4']);
  assert.deepEqual(await ordersOf(7, 6), orders);
  assert.notDeepEqual(await ordersOf(8, 6), orders);
});
