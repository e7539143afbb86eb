/** `xvault jobs`: jobs, newest first. */
import { JOB_STATUSES } from '../catalog/record.ts';
import { systemClock } from '../clock.ts';
import { openClient } from './client.ts';
import { type Command, choiceOption } from './command.ts';
import { formatTable, plain } from './format.ts';
import {
  filterOption,
  formatAgo,
  LIST_OPTIONS,
  readLimit,
  warnUnreadable,
} from './list-options.ts';
import { progressText } from './progress.ts';

const COLUMNS = [
  { title: 'JOB' },
  { title: 'MACHINE' },
  { title: 'POOL' },
  { title: 'STARTED' },
  { title: 'STATUS' },
  { title: 'WHAT' },
];

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
    const now = systemClock.now();
    const rows = page.jobs.map((job) => [
      job.id,
      plain(job.vm.name) || job.vm.uuid,
      job.vm.pool,
      formatAgo(job.started_at ?? job.created_at, now),
      job.status,
      job.status === 'running' ? progressText(job, undefined) : plain(job.error?.code ?? ''),
    ]);
    if (rows.length === 0) terminal.err('no jobs\n');
    else terminal.out(`${formatTable(COLUMNS, rows).join('\n')}\n`);
    return 0;
  },
};
