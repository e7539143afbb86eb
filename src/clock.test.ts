import assert from 'node:assert/strict';
import { test } from 'node:test';
import { portableUuid, systemIds } from './clock.ts';

test('ids are UUIDs of version 7 that begin with the time, whoever makes them', () => {
  for (const make of [systemIds.uuid, portableUuid]) {
    const before = Date.now();
    const ids = Array.from({ length: 100 }, () => make());
    const after = Date.now();
    assert.equal(new Set(ids).size, ids.length);
    for (const id of ids) {
      assert.match(id, /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
      const ms = Number.parseInt(id.replace('-', '').slice(0, 12), 16);
      assert.ok(ms >= before - 1 && ms <= after + 1, id);
    }
  }
});
