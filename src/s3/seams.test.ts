import assert from 'node:assert/strict';
import { test } from 'node:test';
import { MAX_SEAMS } from '../ports.ts';
import { createSeams } from './seams.ts';

test('seams are the borders of copied ranges; what goes on in its source has none', () => {
  const seams = createSeams();
  seams.note(10, { key: 'a', offset: 0 });
  seams.note(5, { key: 'a', offset: 10 });
  seams.note(5, { key: 'a', offset: 99 });
  seams.note(7);
  seams.note(0, { key: 'a', offset: 3 });
  seams.note(7);
  seams.note(1, { key: 'b', offset: 0 });
  assert.deepEqual(seams.list(), [15, 20, 34]);
  assert.deepEqual(seams.list([20, 30]), [15, 20, 30, 34]);
});

test('too many seams are thinned evenly', () => {
  const seams = createSeams();
  for (let i = 0; i < 5 * MAX_SEAMS; i += 1) seams.note(2, { key: 'a', offset: i * 7 });
  const list = seams.list();
  assert.equal(list.length, MAX_SEAMS);
  const gaps = list.slice(1).map((seam, i) => seam - (list[i] ?? 0));
  assert(gaps.every((gap) => gap >= 8 && gap <= 12));
});

test('bytes that were read back keep their seams, in however many parts they are sent', () => {
  for (const parts of [[30], [4, 3, 13, 10], [10, 10, 10]]) {
    const seams = createSeams();
    seams.note(5, { key: 'a', offset: 0 });
    seams.announce(7, { key: 'a', offset: 5 });
    seams.announce(3);
    seams.announce(8, { key: 'b', offset: 1 });
    for (const sizeBytes of parts) seams.noteSent(sizeBytes);
    seams.note(1, { key: 'a', offset: 0 });
    assert.deepEqual(seams.list(), [12, 15, 23, 35], parts.join());
  }
});
