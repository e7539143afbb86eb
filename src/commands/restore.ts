/** `xvault restore`: a machine, or one of its disks, out of a backup, here or through a running service. */
import { RESTORE_MACS, RESTORE_WAYS } from '../catalog/restore.ts';
import { BackupError } from '../errors.ts';
import type { RestoreWishes } from './client.ts';
import {
  type Command,
  choiceOption,
  listOption,
  type OptionHelp,
  type OptionValues,
  textOption,
} from './command.ts';
import { startJob, WAIT_OPTIONS } from './start-job.ts';

const OPTIONS: Record<string, OptionHelp> = {
  pool: { type: 'string', value: '<name>', help: 'Where to (default: the pool it came from)' },
  sr: {
    type: 'string',
    value: '<sr>',
    help: 'Storage for the disks, uuid or unique name (default: the pool’s own)',
  },
  'disk-sr': {
    type: 'string',
    multiple: true,
    value: '<disk>=<sr>',
    help: 'Storage for one disk; may be repeated',
  },
  name: { type: 'string', value: '<text>', help: 'Name of the new machine' },
  mac: { type: 'string', value: '<kind>', help: 'new (default) or keep: the addresses it had' },
  uuid: {
    type: 'string',
    value: '<kind>',
    help: 'new (default) or keep: the machine itself, where it is gone; implies --mac keep',
  },
  network: {
    type: 'string',
    multiple: true,
    value: '<there>=<here>',
    help: 'Where a network’s interfaces go: uuid or name, none to leave them out, * for all others',
  },
  disks: { type: 'string', multiple: true, value: '<disk>', help: 'Only these disks' },
  disk: { type: 'string', value: '<disk>', help: 'This disk alone, without a machine' },
  start: { type: 'boolean', help: 'Start it when it is there' },
  via: {
    type: 'string',
    value: '<way>',
    help: 'auto (default), stream: through this process, url: the host reads a link by itself',
  },
  'dry-run': { type: 'boolean', help: 'Only say what would be done' },
  to: {
    type: 'string',
    value: '<file>',
    help: 'Fetch the archive into this file or folder, or - for stdout, instead of a restore',
  },
};

export const command: Command = {
  name: 'restore',
  usage: 'restore <backup>',
  summary: 'Make a new machine, or a new disk, out of a backup.',
  examples: [
    'xvault restore 01988a52-9b1e-7c44-8d20-6f1e2d3c4b5a --dry-run',
    'xvault restore 01988a52-9b1e-7c44-8d20-6f1e2d3c4b5a --name web-1-test --network "LAN=Lab" --start',
    'xvault restore 01988a52-9b1e-7c44-8d20-6f1e2d3c4b5a --pool dr --sr "NFS store" --uuid keep',
    'xvault restore 01988a52-9b1e-7c44-8d20-6f1e2d3c4b5a --disk 1 --sr "Local storage"',
    'xvault restore 01988a52-9b1e-7c44-8d20-6f1e2d3c4b5a --to web-1.xva',
  ],
  options: { ...OPTIONS, ...WAIT_OPTIONS },
  words: { min: 1, max: 1 },
  notes: `Nothing that is there is replaced: the machine is new and halted. Disks are named by userdevice, uuid or name. A restore that
fails or is cancelled (Ctrl-C) leaves nothing on the pool (docs/restore.md).

With --to nothing is made on any pool: the archive is fetched, every block of it checked, and named last; a download that ended
early goes on where it stopped. docs/restore-without-xvault.md says what to do with it.`,
  async run(invocation) {
    const { positionals, options, signal } = invocation;
    const backupId = (positionals[0] ?? '').toLowerCase();
    const wishes = readWishes(options);
    const to = textOption(options, 'to');
    if (to !== undefined) {
      if (Object.keys(wishes).length > 0) {
        throw new BackupError('invalid_request', 'use --to alone: nothing is restored with it');
      }
      const { fetchArchive } = await import('./download.ts');
      return await fetchArchive(invocation, { backupId, to });
    }
    return await startJob(invocation, (client) =>
      client.startRestore({ backupId, wishes }, { signal }),
    );
  },
};

/** The request the options ask for. Errors: `invalid_request`. */
export function readWishes(options: OptionValues): RestoreWishes {
  const wishes: RestoreWishes = {};
  for (const name of ['pool', 'sr', 'name', 'disk'] as const) {
    const text = textOption(options, name);
    if (text !== undefined) wishes[name] = text;
  }
  const mac = choiceOption(options, 'mac', RESTORE_MACS);
  const uuid = choiceOption(options, 'uuid', RESTORE_MACS);
  const via = choiceOption(options, 'via', RESTORE_WAYS);
  if (mac !== undefined) wishes.mac = mac;
  if (uuid !== undefined) wishes.uuid = uuid;
  if (uuid === 'keep') wishes.mac ??= 'keep';
  if (via !== undefined) wishes.via = via;
  const disks = listOption(options, 'disks');
  if (disks.length > 0) wishes.disks = disks;
  const networks = pairs(options, 'network');
  const places = pairs(options, 'disk-sr');
  if (networks !== undefined) wishes.networks = networks;
  if (places !== undefined) wishes.disk_srs = places;
  if (options.start === true) wishes.start = true;
  if (options['dry-run'] === true) wishes.dry_run = true;
  return wishes;
}

/** `a=b` as often as it was given; names may hold commas, and the last = divides. */
function pairs(options: OptionValues, name: string): Record<string, string> | undefined {
  const given = options[name];
  if (!Array.isArray(given)) return undefined;
  const found = given.map((text): [string, string] => {
    const [, from, to] = /^(.+)=(.+)$/s.exec(String(text)) ?? [];
    if (from !== undefined && to !== undefined) return [from.trim(), to.trim()];
    throw new BackupError('invalid_request', `read --${name}: two names with = between them`);
  });
  return Object.fromEntries(found);
}
