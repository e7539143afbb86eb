import assert from 'node:assert/strict';
import { test } from 'node:test';
import { member, setHeaderSum } from '../../test/fuzz/foreign-archive.ts';
import { paddedBytes, readHeader, writeHeader } from './tar.ts';

test('a header is written byte for byte as hosts write it', () => {
  const view = Buffer.alloc(600, 0xff);
  writeHeader(view, 40, 'Ref:000/00000007', 1_048_576);
  const head = view.subarray(40, 552);
  assert.ok(head.equals(member('Ref:000/00000007', Buffer.alloc(1_048_576)).subarray(0, 512)));
  assert.equal(head.toString('latin1', 100, 108), '0000400\0');
  assert.equal(head.toString('latin1', 124, 136), '00004000000\0');
  assert.match(head.toString('latin1', 148, 156), /^[0-7]{7}\0$/);
  assert.ok(head.subarray(156).every((byte) => byte === 0));
  assert.equal(view[39], 0xff);
  assert.equal(view[552], 0xff);
});

for (const header of ['v7', 'v7-old', 'ustar'] as const) {
  test(`a ${header} header is read`, () => {
    const view = member('ova.xml', Buffer.alloc(700), { header });
    assert.deepEqual(readHeader(view, 0), { kind: 'member', name: 'ova.xml', sizeBytes: 700 });
  });
}

test('a name of 100 bytes and a ustar prefix are read whole', () => {
  const view = member('n'.repeat(99), Buffer.alloc(0), { header: 'ustar' });
  view.write('n', 99);
  view.write('p'.repeat(155), 345);
  setHeaderSum(view, 0);
  const read = readHeader(view, 0);
  assert.equal(read.kind === 'member' && read.name, `${'p'.repeat(155)}/${'n'.repeat(100)}`);
});

test('a name at the very end of the memory is read', () => {
  const view = Buffer.alloc(512, 1);
  view.write('0'.repeat(12), 124);
  view[156] = 0;
  view.write('        ', 148);
  view.fill(1, 157);
  setHeaderSum(view, 0);
  view[155] = 0x20;
  view[156] = 0x30;
  setHeaderSum(view, 0);
  view[155] = 0x20;
  assert.equal(readHeader(view, 0).kind, 'member');
});

test('fields padded with spaces and ended by a space are read', () => {
  const view = member('x', Buffer.alloc(9));
  view.write('         11 ', 124);
  setHeaderSum(view, 0);
  const read = readHeader(view, 0);
  assert.equal(read.kind === 'member' && read.sizeBytes, 9);
});

test('zeros are told from a broken header', () => {
  const zeros = Buffer.alloc(512);
  assert.deepEqual(readHeader(zeros, 0), { kind: 'zeros' });
  zeros[511] = 1;
  assert.deepEqual(readHeader(zeros, 0), { kind: 'bad', why: 'no header checksum' });
});

const BROKEN: [name: string, at: number, text: string, why: string][] = [
  ['a flipped byte', 5, '!', 'wrong header checksum'],
  ['a size that is no number', 124, 'x', 'no size'],
  ['a size with letters behind', 130, '9', 'no size'],
  ['the type of a folder', 156, '5', 'not a plain file'],
  ['a pax header', 156, 'x', 'not a plain file'],
];
for (const [name, at, text, why] of BROKEN) {
  test(`a header with ${name} is told`, () => {
    const view = member('x', Buffer.alloc(9));
    view.write(text, at);
    if (at !== 5) setHeaderSum(view, 0);
    assert.deepEqual(readHeader(view, 0), { kind: 'bad', why });
  });
}

test('content is padded to whole blocks of 512 bytes', () => {
  assert.deepEqual([0, 1, 512, 513].map(paddedBytes), [0, 512, 512, 1024]);
});
