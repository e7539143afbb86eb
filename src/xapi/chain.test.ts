import assert from 'node:assert/strict';
import { test } from 'node:test';
import { readChains } from './chain.ts';
import type { XapiRecord } from './fields.ts';
import type { Session } from './session.ts';

const signal = new AbortController().signal;

/** An SR of VDIs, answering the two questions the chain asks. */
function storage(vdis: XapiRecord[]): Pick<Session, 'call'> & { asked: string[] } {
  const asked: string[] = [];
  return {
    asked,
    call: async (method, [expression]) => {
      assert.equal(method, 'VDI.get_all_records_where');
      asked.push(String(expression));
      const managed = String(expression).includes('"managed"="true"');
      const found = vdis.filter((vdi) => vdi.managed === managed);
      return Object.fromEntries(found.map((vdi) => [`OpaqueRef:${vdi.uuid}`, vdi]));
    },
  };
}

const vdi = (uuid: string, parent?: string, managed = false): XapiRecord => ({
  uuid,
  SR: 'OpaqueRef:sr',
  managed,
  sm_config: parent === undefined ? {} : { 'vhd-parent': parent },
});

async function chainOf(leaf: XapiRecord, others: XapiRecord[], srType = 'nfs') {
  const session = storage([leaf, ...others]);
  const [chain] = await readChains(session, [{ vdi: leaf, srType }], { signal });
  return { ...chain, asked: session.asked.length };
}

test('a disk without parent has depth 0, and nothing is asked', async () => {
  const leaf = vdi('leaf', undefined, true);
  assert.deepEqual(await chainOf(leaf, []), { chainDepth: 0, uncoalesced: false, asked: 0 });
});

test('on storage that tells no parents the depth is unknown', async () => {
  const leaf = vdi('leaf', undefined, true);
  assert.deepEqual(await chainOf(leaf, [], 'zfs'), { uncoalesced: false, asked: 0 });
});

test('the one link above a live disk is not waiting', async () => {
  const leaf = vdi('leaf', 'base', true);
  assert.deepEqual(await chainOf(leaf, [vdi('base')]), {
    chainDepth: 1,
    uncoalesced: false,
    asked: 1,
  });
});

test('an inner link whose only child is another inner link waits to be coalesced', async () => {
  const leaf = vdi('leaf', 'middle', true);
  const chain = await chainOf(leaf, [vdi('middle', 'base'), vdi('base')]);
  assert.deepEqual(chain, { chainDepth: 2, uncoalesced: true, asked: 2 });
});

test('an inner link that a snapshot shares does not wait', async () => {
  const leaf = vdi('leaf', 'middle', true);
  const others = [vdi('middle', 'base'), vdi('base'), vdi('snapshot', 'base', true)];
  assert.deepEqual(await chainOf(leaf, others), { chainDepth: 2, uncoalesced: false, asked: 2 });
});

test('an inner link with two inner children does not wait', async () => {
  const leaf = vdi('leaf', 'middle', true);
  const others = [vdi('middle', 'base'), vdi('other', 'base'), vdi('base')];
  assert.equal((await chainOf(leaf, others)).uncoalesced, false);
});

test('records that form a circle end', async () => {
  const leaf = vdi('leaf', 'a', true);
  assert.equal((await chainOf(leaf, [vdi('a', 'b'), vdi('b', 'a')])).chainDepth, 64);
});
