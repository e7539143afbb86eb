/** `xvault runs`: runs, newest first, or the report of one. */
import { runReport } from '../backup/runs-report.ts';
import { RUN_STATUSES } from '../catalog/run.ts';
import { systemClock } from '../clock.ts';
import { runTable } from '../http/text-views.ts';
import { openClient } from './client.ts';
import { type Command, choiceOption } from './command.ts';
import { LIST_OPTIONS, readLimit } from './list-options.ts';

const { limit: LIMIT } = LIST_OPTIONS;

export const command: Command = {
  name: 'runs',
  usage: 'runs [<run>]',
  summary: 'Runs over many machines, newest first, or the report of one.',
  examples: [
    'xvault runs',
    'xvault runs 019ab0e0-4b1d-7f30-9c55-2d3e4f5a6b7c',
    'xvault runs --json',
  ],
  options: {
    ...(LIMIT === undefined ? {} : { limit: LIMIT }),
    status: {
      type: 'string',
      value: '<status>',
      help: 'queued, running, succeeded, partial, failed or cancelled',
    },
  },
  words: { min: 0, max: 1 },
  notes:
    'A run is started by xvault run --all, --tag or --name, or by POST /v1/runs (docs/runs.md).',
  async run({ positionals, options, json, terminal, signal }) {
    const [id] = positionals;
    const status = choiceOption(options, 'status', RUN_STATUSES);
    await using client = await openClient({ terminal });
    if (id !== undefined) {
      const run = await client.getRun(id.toLowerCase(), { signal });
      terminal.out(json ? `${JSON.stringify(run)}\n` : runReport(run));
      return 0;
    }
    const page = await client.listRuns(
      { pageSize: readLimit(options), ...(status === undefined ? {} : { status }) },
      { signal },
    );
    if (json) {
      terminal.out(`${JSON.stringify(page)}\n`);
      return 0;
    }
    const { runs } = page;
    if (runs.length === 0) terminal.err('no runs\n');
    else terminal.out(`${runTable(runs, systemClock.now()).join('\n')}\n`);
    return 0;
  },
};
