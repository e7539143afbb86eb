/** `xvault notify`: who is told of what by these settings; `xvault notify test <target>` sends an example there. */
import { systemClock, systemIds } from '../clock.ts';
import { readSettings } from '../config.ts';
import { BackupError } from '../errors.ts';
import { createConsoleLog } from '../log.ts';
import { EVENTS } from '../notices.ts';
import type { NotifyTarget } from '../notify-targets.ts';
import { formatTime } from '../time.ts';
import type { Command, Invocation } from './command.ts';
import { formatTable } from './format.ts';

export const command: Command = {
  name: 'notify',
  usage: 'notify [test <target>]',
  summary: 'Who is told of what; `test` sends an example to one target.',
  examples: ['xvault notify', 'xvault notify test ops'],
  options: {},
  words: { min: 0, max: 2 },
  notes: `The targets are those of XVAULT_NOTIFY_FILE as set here, not those of a running service. A test is tried once; it pings
a healthchecks target with /log, which changes nothing there. See docs/notifications.md.`,
  async run(invocation) {
    const { positionals } = invocation;
    const { settings } = readSettings();
    if (positionals.length === 0) return list(settings.notify, invocation);
    const [verb, name] = positionals;
    if (verb !== 'test' || name === undefined) {
      throw new BackupError(
        'invalid_request',
        'read words: xvault notify, or notify test <target>',
      );
    }
    const target = settings.notify.find((one) => one.name === name);
    if (target === undefined) {
      const known = settings.notify.map((one) => one.name).join(', ') || 'none';
      throw new BackupError('not_found', `find target ${name}: XVAULT_NOTIFY_FILE names ${known}`);
    }
    return await test(target, settings.publicUrl, invocation);
  },
};

function list(targets: readonly NotifyTarget[], { terminal, json }: Invocation): number {
  const shown = targets.map(({ name, kind, events, vms }) => ({
    name,
    kind,
    events: EVENTS.filter((event) => events.has(event)),
    ...(vms === undefined ? {} : { vms: [...vms] }),
  }));
  if (json) {
    terminal.out(`${JSON.stringify({ targets: shown }, null, 2)}\n`);
  } else if (shown.length === 0) {
    terminal.err(
      'Nobody is told of anything: XVAULT_NOTIFY_FILE is not set (docs/notifications.md)\n',
    );
  } else {
    const columns = [
      { title: 'TARGET' },
      { title: 'KIND' },
      { title: 'MACHINES' },
      { title: 'EVENTS' },
    ];
    const rows = shown.map(({ name, kind, events, vms }) => [
      name,
      kind,
      vms === undefined ? 'all' : String(vms.length),
      events.length === EVENTS.length ? 'all' : events.join(', '),
    ]);
    terminal.out(`${formatTable(columns, rows).join('\n')}\n`);
  }
  return 0;
}

async function test(
  target: NotifyTarget,
  publicUrl: string | undefined,
  { terminal, json, signal }: Invocation,
): Promise<number> {
  const [{ createNotifier }, { exampleNotice }] = await Promise.all([
    import('../notify/notifier.ts'),
    import('../notify/example.ts'),
  ]);
  const notifier = createNotifier([target], {
    clock: systemClock,
    log: createConsoleLog({ level: 'error', write: terminal.err }),
    meter: { count: () => {}, observe: () => {} },
    publicUrl,
  });
  const at = formatTime(systemClock.now());
  const notice = exampleNotice({ id: systemIds.uuid(), at, kind: target.kind });
  const { name, kind } = target;
  const [delivery] = await notifier.send(notice, { targets: [name], attempts: 1 }, { signal });
  signal.throwIfAborted();
  if (delivery?.ok !== true) {
    const problem = delivery?.problem ?? 'no answer';
    throw new BackupError('notify_failed', `notify ${name} (${kind}): ${problem}`, {
      details: { target: name, kind },
    });
  }
  if (json) terminal.out(`${JSON.stringify({ target: name, kind, ok: true })}\n`);
  else terminal.out(`${name} (${kind}) took it: look whether it arrived\n`);
  return 0;
}
