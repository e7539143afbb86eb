/** `xvault pin`: takes a backup out of rotation. */
import { BackupError } from '../errors.ts';
import { type Command, type OptionValues, textOption } from './command.ts';
import { startJob, WAIT_OPTIONS } from './start-job.ts';

export const command: Command = {
  name: 'pin',
  usage: 'pin <backup>',
  summary: 'Keep a backup whatever the rules of the bucket delete.',
  examples: [
    'xvault pin 01988a52-9b1e-7c44-8d20-6f1e2d3c4b5a --reason "before the upgrade"',
    'xvault pin 01988a52-9b1e-7c44-8d20-6f1e2d3c4b5a --reason audit --until 2027-11-23',
  ],
  options: {
    reason: { type: 'string', value: '<text>', help: 'Why; kept and shown with it' },
    until: { type: 'string', value: '<time>', help: 'When it ends by itself: a day or a time' },
    ...WAIT_OPTIONS,
  },
  words: { min: 1, max: 1 },
  notes: `The store copies archive, index and record below pinned/, where no rule deletes; no byte comes through here. The backup
stays one backup: list, restore and verify work as before. Taken back by xvault unpin (docs/rotation.md).`,
  async run(invocation) {
    const { positionals, options, signal } = invocation;
    const reason = textOption(options, 'reason');
    const backupId = (positionals[0] ?? '').toLowerCase();
    const wish = { ...(reason === undefined ? {} : { reason }), ...readUntil(options) };
    return await startJob(invocation, (client) => client.startPin({ backupId, wish }, { signal }));
  },
};

/** What is no date of ISO 8601 is not guessed at: 5 would be some May. A day is its first moment UTC. */
const DATE = /^\d{4}-\d{2}-\d{2}(T.*)?$/;

/** Errors: `invalid_request`. */
function readUntil(options: OptionValues): { until?: string } {
  const text = textOption(options, 'until');
  if (text === undefined) return {};
  const ms = DATE.test(text) ? Date.parse(text) : Number.NaN;
  if (!Number.isNaN(ms)) return { until: new Date(ms).toISOString() };
  throw new BackupError('invalid_request', 'read --until: a day such as 2027-11-23, or a time');
}
