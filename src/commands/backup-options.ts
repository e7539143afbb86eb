/** The options of `backup` and `run`, and what they ask for. */
import { BACKUP_MODES, COMPRESSIONS, QUIESCE_WISHES } from '../catalog/record.ts';
import type { Wishes } from './client.ts';
import {
  choiceOption,
  listOption,
  type OptionHelp,
  type OptionValues,
  textOption,
} from './command.ts';

/** As both commands take them. */
export const BACKUP_OPTIONS: Record<string, OptionHelp> = {
  pool: { type: 'string', value: '<name>', help: 'Only look in this pool' },
  retention: {
    type: 'string',
    value: '<class>',
    help: 'Class: daily (default), weekly, monthly, yearly, your own, or auto: by the calendar',
  },
  exclude: {
    type: 'string',
    multiple: true,
    value: '<disk>',
    help: 'Leave out a disk: userdevice, VDI uuid or name; may be repeated',
  },
  mode: { type: 'string', value: '<mode>', help: 'auto (default), full or delta: docs/delta.md' },
  compression: { type: 'string', value: '<kind>', help: 'none (default) or zstd' },
  note: { type: 'string', value: '<text>', help: 'Kept with the backup' },
  'before-snapshot': {
    type: 'string',
    value: '<url>',
    help: 'Guest hook: called before the snapshot, may veto it (docs/guest-hooks.md)',
  },
  'after-snapshot': {
    type: 'string',
    value: '<url>',
    help: 'Guest hook: called after the snapshot, whatever happened',
  },
  quiesce: {
    type: 'string',
    value: '<wish>',
    help: 'Quiesced snapshot by the guest: never (default), prefer or require; up to CH 8.0 only',
  },
  'dry-run': { type: 'boolean', help: 'Only say what would be done' },
};

/** The request the options ask for. Errors: `invalid_request`. */
export function readWishes(options: OptionValues): Wishes {
  const wishes: Wishes = {};
  const pool = textOption(options, 'pool');
  const retention = textOption(options, 'retention');
  const note = textOption(options, 'note');
  const exclude = listOption(options, 'exclude');
  if (pool !== undefined) wishes.pool = pool;
  if (retention !== undefined) wishes.retention = retention;
  if (note !== undefined) wishes.note = note;
  if (exclude.length > 0) wishes.exclude_disks = exclude;
  if (options['dry-run'] === true) wishes.dry_run = true;
  const mode = choiceOption(options, 'mode', BACKUP_MODES);
  const compression = choiceOption(options, 'compression', COMPRESSIONS);
  const quiesce = choiceOption(options, 'quiesce', QUIESCE_WISHES);
  const before = textOption(options, 'before-snapshot');
  const after = textOption(options, 'after-snapshot');
  if (before !== undefined || after !== undefined) {
    wishes.hooks = {
      ...(before === undefined ? {} : { before_snapshot: before }),
      ...(after === undefined ? {} : { after_snapshot: after }),
    };
  }
  if (quiesce !== undefined) wishes.quiesce = quiesce;
  if (mode !== undefined) wishes.mode = mode;
  if (compression !== undefined) wishes.compression = compression;
  return wishes;
}
