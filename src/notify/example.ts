/** A notice that says it is an example: for `xvault notify test`, and for whoever reads what targets are given. */
import type { Notice } from '../notices.ts';
import type { NotifyKind } from '../notify-targets.ts';

const VM = { uuid: '6a3c2d6e-8a61-4a0e-9d4f-3f8f4f6f0a11', name: 'web-1', pool: 'default' };
const BACKUP_ID = '019aaf4a-4d10-7e02-a6b1-9c8d7e6f5a43';

/** `id` is a uuid; `at` RFC 3339. */
export function exampleNotice({
  id,
  at,
  kind,
}: {
  id: string;
  at: string;
  kind: NotifyKind;
}): Notice {
  // a ping that changes nothing: a check must not look well because somebody tried its address
  const event = kind === 'healthchecks' ? 'backup.cancelled' : 'backup.succeeded';
  return {
    id: `evt_test_${id}`,
    event,
    at,
    severity: 'info',
    what: 'This is a test of xvault: what it has to tell arrives here.',
    todo: 'Nothing to do.',
    facts: [
      { name: 'Machine', value: `${VM.name} (${VM.uuid})` },
      { name: 'Size', value: '4.5 GiB' },
      { name: 'Sent', value: '136 MiB' },
      { name: 'Took', value: '1m 42s' },
    ],
    about: id,
    vm: VM,
    data: {
      test: true,
      vm: VM,
      backup_id: BACKUP_ID,
      backup: { size_bytes: 4_812_963_840, sent_bytes: 142_815_232, duration_seconds: 101.8 },
    },
  };
}
