/** `xvault adopt`: an archive that was made by hand becomes a backup like any other. */
import { COMPRESSIONS } from '../catalog/record.ts';
import { readSettings } from '../config.ts';
import { BackupError } from '../errors.ts';
import { createConsoleLog } from '../log.ts';
import { openSource } from './adopt-source.ts';
import { openClient } from './client.ts';
import { type Command, choiceOption, textOption } from './command.ts';
import { jobExitCode, runToEnd } from './follow.ts';

export const command: Command = {
  name: 'adopt',
  usage: 'adopt <file.xva | s3://bucket/key>',
  summary: 'Take in an archive made by hand (xe vm-export): checked, indexed, listed, restorable.',
  examples: [
    'xvault adopt /mnt/old/web-1.xva --retention yearly',
    'xvault adopt s3://old-backups/web-1.xva.gz --vm web-1 --pool dc1',
  ],
  options: {
    pool: {
      type: 'string',
      value: '<name>',
      help: 'Pool it is listed under (default: the only one)',
    },
    vm: {
      type: 'string',
      value: '<machine>',
      help: 'Machine it is a backup of, by uuid or name (default: as the archive says)',
    },
    name: { type: 'string', value: '<name>', help: 'Name of the machine in the backup' },
    retention: { type: 'string', value: '<class>', help: 'Retention class (default daily)' },
    compression: {
      type: 'string',
      value: '<kind>',
      help: `How it is stored: ${COMPRESSIONS.join(', ')} (default none)`,
    },
    note: { type: 'string', value: '<text>', help: 'Kept with the backup' },
  },
  words: { min: 1, max: 1 },
  notes: `Archives of any release, plain, gzip or zstd. Every block is checked; what is stored is normalised, and what was changed
is told. The archive itself stays as it is. The backup counts as old as the archive is; its class removes it by the time it is
stored. This process does the work, with the settings of bucket and pool; it refuses where XVAULT_URL is set (docs/adopt.md).`,
  async run({ positionals, options, json, terminal, signal }) {
    // first, since who has a service has no other settings
    if (readSettings({ needs: [] }).settings.serviceUrl !== undefined) {
      throw new BackupError(
        'invalid_request',
        'adopt without XVAULT_URL: the archive is read by this process, which needs the settings of bucket and pool',
      );
    }
    const { settings, warnings } = readSettings({ needs: ['pools', 'bucket'] });
    for (const warning of warnings) terminal.err(`warning: ${warning}\n`);
    const log = createConsoleLog({ level: 'warn', write: terminal.err });
    await using opened = await openSource(positionals[0] ?? '', { settings, log }, { signal });
    const wish = {
      source: opened.source,
      pool: textOption(options, 'pool'),
      vm: textOption(options, 'vm'),
      name: textOption(options, 'name'),
      retention: textOption(options, 'retention') ?? 'daily',
      compression: choiceOption(options, 'compression', COMPRESSIONS) ?? 'none',
      note: textOption(options, 'note'),
    };
    await using client = await openClient({ terminal, direct: true });
    const job = await runToEnd({ client, terminal, signal }, () =>
      client.startAdopt(wish, { signal }),
    );
    if (json) terminal.out(`${JSON.stringify(job)}\n`);
    return jobExitCode(job);
  },
};
