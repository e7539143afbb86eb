import assert from 'node:assert/strict';
import { test } from 'node:test';
import { failedNotice } from '../../test/notify/notifier-world.ts';
import { VM_UUID } from '../../test/records.ts';
import type { Notice } from '../notices.ts';
import { withLink } from './page-link.ts';

test('a link leads to the job, the run or the machine, and nowhere a name could steer it', () => {
  const vm = { uuid: VM_UUID, name: 'x', pool: '../#?' };
  const { about: _, ...notice } = failedNotice();
  const link = (more: Partial<Notice>) =>
    withLink({ ...notice, ...more }, 'https://x.example').link;
  assert.equal(link({ about: 'a/b', event: 'run.finished' }), 'https://x.example/runs/a%2Fb');
  assert.equal(
    link({ vm, event: 'freshness.critical' }),
    `https://x.example/vms/..%2F%23%3F/${VM_UUID}`,
  );
  const { vm: _vm, ...bare } = notice;
  assert.equal(
    withLink({ ...bare, event: 'sweep.leftover_found' }, 'https://x.example').link,
    'https://x.example/',
  );
});
