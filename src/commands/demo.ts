/**
 * `xvault demo`: see it work in under a minute, with nothing to set up.
 *
 * Machines are listed, backed up and read back through the HTTP API of the real service, as a user would; pool and
 * bucket are the tests' simulators (demo-world.ts). Some machines are made to be refused: that is shown, too. Then files
 * change inside one machine, all are backed up again, and the changed machine's archive is read back and compared.
 */
import type { VmView } from '../backup/service.ts';
import { systemClock } from '../clock.ts';
import { BackupError, isBackupError, toBackupError } from '../errors.ts';
import type { BackupView, JobView } from '../http/views.ts';
import { SILENT_LOG } from '../log.ts';
import type { ServiceClient } from './client.ts';
import { type Command, type Terminal, textOption } from './command.ts';
import { type Board, createBoard, machineLabel, type Outcome } from './demo-board.ts';
import { type ArchiveCheck, checkArchive } from './demo-check.ts';
import { CHANGED_MACHINE, changeFiles, type DemoWorld, startDemoWorld } from './demo-world.ts';
import { formatBytes, formatSeconds, formatTable, plain } from './format.ts';
import { styler } from './help.ts';
import { createHttpClient } from './http-client.ts';

/** To be looked at in a browser; a demo that ends by itself takes any free port. */
const DEFAULT_PORT = 8080;
/** More often than a user would ask: a demo is watched. */
const POLL_MS = 250;
/** The service still runs: its session and connections are no leftovers. */
const IN_USE = /^session |open connections$/;
/** What the pool or xvault says no to by design; anything else is a failure of the demo. */
const REFUSALS = ['vm_not_supported', 'snapshot_refused'] as const;

export const command: Command = {
  name: 'demo',
  usage: 'demo',
  summary:
    'See it work: a simulated pool, an embedded bucket, every machine backed up and one checked.',
  examples: ['xvault demo', 'xvault demo --once', 'xvault demo --once --json'],
  options: {
    once: { type: 'boolean', help: 'End when everything is shown; the exit code says how it went' },
    port: {
      type: 'string',
      value: '<port>',
      help: `Port of the service (default ${DEFAULT_PORT}; with --once any free one)`,
    },
  },
  words: { min: 0, max: 0 },
  async run({ options, json, terminal, signal }) {
    const once = options.once === true;
    const port = readPort(textOption(options, 'port') ?? String(once ? 0 : DEFAULT_PORT));
    const say = json ? () => {} : (text: string) => terminal.err(text);
    const startedAt = systemClock.elapsed();
    say('\nStarting a simulated pool, an S3 server in memory and the service between them …\n');
    await using world = await startDemoWorld({ port, log: SILENT_LOG });
    const tour = createTour(world, { terminal: json ? quiet(terminal) : terminal, signal });
    const outcomes = await tour.backUpAll();
    const backups = await tour.showList();
    const first = await tour.checkOne(mostDisks(backups));
    const second = await tour.backUpAgain(outcomes);
    const check = await tour.checkOne(second.changed);
    const left = await world.pool.auditWhenQuiet({ ignore: IN_USE });
    const fine = [...outcomes, ...second.outcomes].every((one) => one.state !== 'failed');
    const ok = first.ok && check.ok && left.length === 0 && fine;
    const seconds = Math.round((systemClock.elapsed() - startedAt) / 100) / 10;
    if (json) {
      const report = { ok, url: world.server.url, seconds, machines: outcomes.map(outcomeJson) };
      const again = second.outcomes.map(outcomeJson);
      const checks = [first, check];
      terminal.out(`${JSON.stringify({ ...report, again, checks, left_on_pool: left })}\n`);
    } else {
      tour.sayEnd({ left, seconds, ok, once, check });
    }
    if (!once && !signal.aborted) {
      await new Promise((resolve) => signal.addEventListener('abort', resolve, { once: true }));
      say('\nstopping …\n');
    }
    return ok ? 0 : 1;
  },
};

const LIST_COLUMNS = [
  { title: 'MACHINE' },
  { title: 'SIZE', right: true },
  { title: 'DISKS', right: true },
  { title: 'CLASS' },
  { title: 'BACKUP' },
];

const TRAVEL_COLUMNS = [
  { title: 'MACHINE' },
  { title: 'MODE' },
  { title: 'ARCHIVE', right: true },
  { title: 'SENT', right: true },
  { title: 'COPIED', right: true },
];

type Result = Outcome & { vm: VmView };

interface SecondRound {
  outcomes: Result[];
  /** The changed machine's second backup. */
  changed: BackupView;
}

interface Ending {
  left: string[];
  seconds: number;
  ok: boolean;
  once: boolean;
  check: ArchiveCheck;
}

function createTour(
  world: DemoWorld,
  { terminal, signal }: { terminal: Terminal; signal: AbortSignal },
) {
  const { url } = world.server;
  const style = styler(terminal.color);
  const client = createHttpClient({ url, pollMs: POLL_MS });
  const heading = (text: string) => terminal.err(`\n${style('bold', text)}\n`);
  return {
    backUpAll: async (): Promise<Result[]> => {
      const vms = await getJson<{ vms: VmView[] }>(`${url}/v1/vms`, signal);
      terminal.err(`  pool     ${world.pool.urls.join(', ')}  (${vms.vms.length} machines)\n`);
      terminal.err(`  bucket   ${world.s3.endpoint}\n  service  ${url}\n`);
      heading('Backing up every machine: POST /v1/vms/{machine}/backups');
      const board = createBoard(terminal, vms.vms);
      for (const vm of vms.vms) if (terminal.errIsTty) board.set(vm.uuid, { state: 'waiting' });
      const results = await backUpEach(client, vms.vms, board, signal);
      board.end();
      sayRefused(terminal, results);
      return results;
    },
    /** Only machines that were backed up before: what is refused once is refused again. */
    backUpAgain: async (before: readonly Result[]): Promise<SecondRound> => {
      heading(`A day later: files were written, changed and removed inside ${CHANGED_MACHINE}`);
      await changeFiles(world.pool, CHANGED_MACHINE);
      const vms = before.flatMap((one) => (one.state === 'done' ? [one.vm] : []));
      const board = createBoard(terminal, vms);
      const outcomes = await backUpEach(client, vms, board, signal);
      board.end();
      const { backups } = await client.listBackups({ pageSize: vms.length }, { signal });
      sayTravelled(terminal, backups);
      const changed = backups.find(({ vm }) => vm.name === CHANGED_MACHINE);
      return { outcomes, changed: changed ?? mostDisks(backups) };
    },
    showList: async (): Promise<BackupView[]> => {
      heading('What lies in the bucket now: GET /v1/backups');
      const { backups } = await client.listBackups({ pageSize: 100 }, { signal });
      const rows = backups.map((backup) => [
        machineLabel(backup.vm),
        formatBytes(backup.archive.size_bytes),
        String(backup.disks.length),
        backup.retention,
        backup.id,
      ]);
      for (const line of formatTable(LIST_COLUMNS, rows)) terminal.err(`  ${line}\n`);
      terminal.err(`  each is one whole .xva: ${plain(backups[0]?.archive.key ?? '')}\n`);
      return backups;
    },
    checkOne: async (backup: BackupView): Promise<ArchiveCheck> => {
      heading(`Reading one back: GET ${backup.links.xva}`);
      const check = await checkArchive({ url, backup, pool: world.pool }, { signal });
      sayCheck(terminal, check);
      return check;
    },
    sayEnd: (ending: Ending) => sayEnd(terminal, url, ending),
  };
}

function mostDisks(backups: readonly BackupView[]): BackupView {
  const backup = backups.toSorted((a, b) => b.disks.length - a.disks.length)[0];
  if (backup === undefined) throw new BackupError('internal', 'back up at least one machine');
  return backup;
}

async function backUpEach(
  client: ServiceClient,
  vms: readonly VmView[],
  board: Board,
  signal: AbortSignal,
): Promise<Result[]> {
  return await Promise.all(
    vms.map(async (vm) => {
      const outcome = await backUpOne(client, vm, board, signal);
      board.set(vm.uuid, outcome);
      return { ...outcome, vm };
    }),
  );
}

/** What the second round is about: archives as large as before, of which little was sent. */
function sayTravelled(terminal: Terminal, backups: readonly BackupView[]): void {
  terminal.err('\n');
  const rows = backups.map((backup) => [
    machineLabel(backup.vm),
    backup.mode,
    formatBytes(backup.archive.size_bytes),
    formatBytes(backup.sent_bytes),
    formatBytes(backup.copied_bytes),
  ]);
  for (const line of formatTable(TRAVEL_COLUMNS, rows)) terminal.err(`  ${line}\n`);
  terminal.err('  each is one whole .xva again; the rest was copied inside the bucket\n');
}

async function backUpOne(
  client: ServiceClient,
  vm: VmView,
  board: Board,
  signal: AbortSignal,
): Promise<Outcome> {
  try {
    let job: JobView = await client.startBackup({ vm: vm.uuid, wishes: {} }, { signal });
    for await (job of client.watchJob(job.id, { signal })) {
      if (job.status === 'queued') board.set(vm.uuid, { state: 'waiting' });
      if (job.status === 'running') board.set(vm.uuid, { state: 'running', job });
    }
    if (job.status === 'succeeded') return { state: 'done', job };
    const refused = REFUSALS.some((code) => code === job.error?.code);
    return { state: refused ? 'refused' : 'failed', reason: job.error?.detail ?? job.status };
  } catch (thrown) {
    signal.throwIfAborted();
    const error = toBackupError(thrown);
    const state = isBackupError(error, ...REFUSALS) ? 'refused' : 'failed';
    return { state, reason: error.message };
  }
}

/** On the board a long reason is cut. */
function sayRefused(terminal: Terminal, results: readonly Result[]): void {
  const bad = results.filter((one) => one.state === 'refused' || one.state === 'failed');
  if (bad.length === 0) return;
  terminal.err(`\n${styler(terminal.color)('bold', 'Not backed up, and why')}\n`);
  for (const one of bad) {
    const reason = 'reason' in one ? plain(one.reason) : '';
    terminal.err(`  ${machineLabel(one.vm)}: ${reason}\n`);
  }
}

function sayCheck(terminal: Terminal, check: ArchiveCheck): void {
  const style = styler(terminal.color);
  const mark = (ok: boolean) => (ok ? style('green', '✓') : style('red', '✗'));
  const name = check.vm_name || check.backup_id;
  terminal.err(
    `  ${mark(true)} ${name}: ${formatBytes(check.archive_bytes)} downloaded and accepted by an importer that shares no code with xvault\n`,
  );
  for (const disk of check.disks) {
    const verdict = disk.identical ? 'every byte as on the machine' : 'DIFFERS from the machine';
    const size = formatBytes(disk.virtual_size_bytes);
    terminal.err(`  ${mark(disk.identical)} ${disk.name} (${size}): ${verdict}\n`);
  }
}

function sayEnd(terminal: Terminal, url: string, { left, seconds, ok, once, check }: Ending): void {
  const style = styler(terminal.color);
  const clean = left.length === 0;
  terminal.err(
    clean
      ? `  ${style('green', '✓')} nothing left on the pool: no snapshot, disk or task of ours\n`
      : `  ${style('red', '✗')} left on the pool: ${left.join(', ')}\n`,
  );
  const verdict = ok ? style('green', 'All good') : style('red', 'Something went wrong');
  terminal.err(`\n${verdict}, in ${formatSeconds(seconds)}.\n`);
  if (once) return;
  terminal.err(`
${style('bold', 'Try it')} (the service stays up until Ctrl-C)
  curl -X POST ${url}/v1/vms/web-01/backups
  curl -X POST ${url}/v1/vms/usb-store/backups -H 'Content-Type: application/json' -d '{"exclude_disks": ["1"]}'
  curl '${url}/v1/backups?page_size=3'
  curl '${url}/v1/status?format=nagios'
  curl -L -O -J ${url}/v1/backups/${check.backup_id}/xva
  curl -X POST ${url}/v1/backups/${check.backup_id}/restore -H 'Content-Type: application/json' -d '{"name": "a copy"}'
  XVAULT_URL=${url} npm run -s xvault -- backup db-01
  open ${url}/ (status) or ${url}/docs (the API)
`);
}

function outcomeJson({ vm, ...outcome }: Result): Record<string, unknown> {
  const base = { vm: { uuid: vm.uuid, name: vm.name, pool: vm.pool }, state: outcome.state };
  if ('reason' in outcome) return { ...base, reason: outcome.reason };
  return outcome.state === 'waiting' ? base : { ...base, job: outcome.job };
}

async function getJson<T>(url: string, signal: AbortSignal): Promise<T> {
  const response = await fetch(url, { signal }).catch((cause: unknown) => {
    signal.throwIfAborted();
    throw new BackupError('service_unavailable', `get ${url}`, { cause });
  });
  if (!response.ok) {
    throw new BackupError('service_unavailable', `get ${url}, status=${response.status}`);
  }
  return (await response.json()) as T;
}

function quiet(terminal: Terminal): Terminal {
  return { ...terminal, err: () => {}, errIsTty: false };
}

function readPort(text: string): number {
  const port = Number(text);
  if (Number.isInteger(port) && port >= 0 && port <= 65_535) return port;
  throw new BackupError('invalid_request', 'read --port: a number from 0 to 65535');
}
