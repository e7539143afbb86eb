/** `xvault verify`: is a backup still what was stored? Here or through a running service. */
import { BackupError } from '../errors.ts';
import { type Command, type OptionValues, textOption } from './command.ts';
import { startJob, WAIT_OPTIONS } from './start-job.ts';

export const command: Command = {
  name: 'verify',
  usage: 'verify <backup>',
  summary: 'Read the archive of a backup and check that it is still what was stored.',
  examples: [
    'xvault verify 01988a52-9b1e-7c44-8d20-6f1e2d3c4b5a',
    'xvault verify 01988a52-9b1e-7c44-8d20-6f1e2d3c4b5a --percent 5',
  ],
  options: {
    percent: {
      type: 'string',
      short: 'p',
      value: '<n>',
      help: 'Only so many of its blocks, drawn at random (default 100)',
    },
    ...WAIT_OPTIONS,
  },
  words: { min: 1, max: 1 },
  notes: `Every block is compared with its checksum, all of them with the record, and the index with the archive. What was found
is kept with the backup: list, status and check show it. Damage ends with an exit code above 0 and names disk and block. The
archive is never changed (docs/verify.md).`,
  async run(invocation) {
    const { positionals, options, signal } = invocation;
    const wish = { backupId: (positionals[0] ?? '').toLowerCase(), percent: readPercent(options) };
    return await startJob(invocation, (client) => client.startVerify(wish, { signal }));
  },
};

/** Errors: `invalid_request`. */
function readPercent(options: OptionValues): number {
  const text = textOption(options, 'percent')?.replace(/\s*%$/, '');
  if (text === undefined) return 100;
  const percent = /^\d{1,3}(\.\d{1,6})?$/.test(text) ? Number(text) : 0;
  if (percent > 0 && percent <= 100) return percent;
  throw new BackupError('invalid_request', 'read --percent: a number above 0, at most 100');
}
