/** `xvault jobs`: jobs, newest first. */
import { JOB_STATUSES } from '../catalog/record.ts';
import { systemClock } from '../clock.ts';
import { jobTable } from '../http/text-views.ts';
import { openClient } from './client.ts';
import { type Command, choiceOption } from './command.ts';
import { filterOption, LIST_OPTIONS, readLimit, warnUnreadable } from './list-options.ts';

export const command: Command = {
  name: 'jobs',
  usage: 'jobs',
  summary: 'Jobs, newest first.',
  examples: ['xvault jobs', 'xvault jobs --status failed'],
  options: {
    ...LIST_OPTIONS,
    vm: { type: 'string', value: '<machine>', help: 'Only of this machine' },
    status: {
      type: 'string',
      value: '<status>',
      help: 'queued, running, succeeded, failed or cancelled',
    },
  },
  words: { min: 0, max: 0 },
  async run({ options, json, terminal, signal }) {
    const status = choiceOption(options, 'status', JOB_STATUSES);
    await using client = await openClient({ terminal });
    const page = await client.listJobs(
      {
        pageSize: readLimit(options),
        ...(status === undefined ? {} : { status }),
        ...filterOption(options, 'vm'),
        ...filterOption(options, 'pool'),
      },
      { signal },
    );
    if (json) {
      terminal.out(`${JSON.stringify(page)}\n`);
      return 0;
    }
    warnUnreadable(terminal, page.unreadable);
    if (page.jobs.length === 0) terminal.err('no jobs\n');
    else terminal.out(`${jobTable(page.jobs, systemClock.now()).join('\n')}\n`);
    return 0;
  },
};
