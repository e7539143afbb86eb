import assert from 'node:assert/strict';
import { test } from 'node:test';
import { addSend, type Delivery, sectionOf, takeSlot } from './section.ts';
import { createSender } from './sender.ts';

test('an upload that is given up ends, and gives its memory back, though a checksum never comes', async () => {
  const sender = createSender({ limit: () => 1 });
  const never = Promise.withResolvers<number>().promise;
  let sent = 0;
  let released = 0;
  const multipart = {
    key: 'an archive',
    sendPart: async () => {
      sent += 1;
    },
  };
  const section = sectionOf(multipart as never);
  const part = {
    body: Buffer.alloc(1),
    crc: never,
    rereadBytes: { base: 0, staged: 0 },
    release: () => {
      released += 1;
    },
  };
  addSend({ sender } as Delivery, takeSlot(section, 1), part);
  await new Promise((resolve) => setImmediate(resolve));
  await sender.stop(new Error('given up'));
  assert.deepEqual([sent, released], [0, 1]);
});
