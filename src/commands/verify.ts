/** `xvault verify`: is a backup still what was stored? Here or through a running service. */
import type { RestoreTestWish } from '../catalog/verified.ts';
import { BackupError } from '../errors.ts';
import { type Command, type OptionValues, textOption } from './command.ts';
import { filterOption, readSeconds } from './list-options.ts';
import { startJob, WAIT_OPTIONS } from './start-job.ts';

export const command: Command = {
  name: 'verify',
  usage: 'verify <backup>',
  summary: 'Read the archive of a backup and check that it is still what was stored.',
  examples: [
    'xvault verify 01988a52-9b1e-7c44-8d20-6f1e2d3c4b5a',
    'xvault verify 01988a52-9b1e-7c44-8d20-6f1e2d3c4b5a --percent 5',
    'xvault verify 01988a52-9b1e-7c44-8d20-6f1e2d3c4b5a --boot --sr "NFS store"',
    'xvault verify 01988a52-9b1e-7c44-8d20-6f1e2d3c4b5a --boot --verdict https://judge.example.com/verdict',
  ],
  options: {
    percent: {
      type: 'string',
      short: 'p',
      value: '<n>',
      help: 'Only so many of its blocks, drawn at random (default 100)',
    },
    boot: {
      type: 'boolean',
      help: 'Restore it under another name without network, start it, wait for its guest tools, remove it',
    },
    pool: { type: 'string', value: '<name>', help: 'With --boot: on this pool (default: its own)' },
    sr: { type: 'string', value: '<storage>', help: 'With --boot: storage (default: the default)' },
    'boot-timeout': {
      type: 'string',
      value: '<time>',
      help: 'With --boot: how long the guest may take (default 10m)',
    },
    verdict: {
      type: 'string',
      value: '<url>',
      help: 'With --boot: who is asked whether the machine is good',
    },
    'without-guest': {
      type: 'boolean',
      help: 'With --verdict: do not wait for guest tools, ask at once',
    },
    ...WAIT_OPTIONS,
  },
  words: { min: 1, max: 1 },
  notes: `Every block is compared with its checksum, all of them with the record, and the index with the archive. What was found
is kept with the backup: list, status and check show it. Damage ends with an exit code above 0 and names disk and block. The
archive is never changed (docs/verify.md).`,
  async run(invocation) {
    const { positionals, options, signal } = invocation;
    const backupId = (positionals[0] ?? '').toLowerCase();
    const wish = readBoot(options);
    const percent = readPercent(options);
    return await startJob(invocation, (client) =>
      wish === undefined
        ? client.startVerify({ backupId, percent }, { signal })
        : client.startRestoreTest({ backupId, wish }, { signal }),
    );
  },
};

/** What is asked of a restore test, if one is. Errors: `invalid_request`. */
function readBoot(options: OptionValues): Partial<RestoreTestWish> | undefined {
  const seconds = readSeconds(options, 'boot-timeout');
  const wish = {
    ...filterOption(options, 'pool'),
    ...filterOption(options, 'sr'),
    ...(seconds === undefined ? {} : { boot_timeout_seconds: Math.round(seconds) }),
    ...filterOption(options, 'verdict'),
    ...(options['without-guest'] === true ? { guest: false } : {}),
  };
  const isBoot = options.boot === true;
  if (!isBoot && Object.keys(wish).length > 0) {
    throw new BackupError(
      'invalid_request',
      'use --pool, --sr, --boot-timeout, --verdict and --without-guest with --boot only',
    );
  }
  if (isBoot && textOption(options, 'percent') !== undefined) {
    throw new BackupError(
      'invalid_request',
      'choose --percent or --boot: a restore reads everything',
    );
  }
  return isBoot ? wish : undefined;
}

/** Errors: `invalid_request`. */
function readPercent(options: OptionValues): number {
  const text = textOption(options, 'percent')?.replace(/\s*%$/, '');
  if (text === undefined) return 100;
  const percent = /^\d{1,3}(\.\d{1,6})?$/.test(text) ? Number(text) : 0;
  if (percent > 0 && percent <= 100) return percent;
  throw new BackupError('invalid_request', 'read --percent: a number above 0, at most 100');
}
