/**
 * A job that is ended from outside, at every step: by cancel, by cancel through another instance, by a stop.
 * What the pool saw decides: the export's task was cancelled and its connection closed before the snapshot was removed.
 */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import type { Job } from '../../src/catalog/record.ts';
import { assertExportEndsFirst } from '../export-order.ts';
import type { Seen } from './ground.ts';
import { type Deed, type Stage, startStage } from './play.ts';

const LONG = process.env.XVAULT_TEST_LONG === '1';

type Moment = (seen: Seen, job: Job | undefined) => boolean;

const recorded =
  (phase: Job['phase']): Moment =>
  ({ name, done }, job) =>
    name === 'store PutObject jobs' && done && job?.status === 'running' && job.phase === phase;
const begins =
  (name: string): Moment =>
  (seen) =>
    seen.name === name && !seen.done;
const ends =
  (name: string): Moment =>
  (seen) =>
    seen.name === name && seen.done;

/**
 * `short`: for every deed also in the default suite. `held`: the export does not end by itself then. `whole`: the archive is complete; it is kept, whoever wishes otherwise.
 */
const MOMENTS: { title: string; at: Moment; held?: true; whole?: true; short?: true }[] = [
  { title: 'it is recorded and waits', at: (_, job) => job?.status === 'queued', held: true },
  { title: 'preparing was recorded', at: recorded('preparing'), held: true, short: true },
  { title: 'snapshotting was recorded', at: recorded('snapshotting'), held: true },
  { title: 'the snapshot is asked for', at: begins('pool Async.VM.snapshot'), held: true },
  {
    title: 'the snapshot is being made',
    at: ends('pool Async.VM.snapshot'),
    held: true,
    short: true,
  },
  { title: 'the snapshot is marked', at: begins('pool VM.add_to_other_config'), held: true },
  { title: 'exporting was recorded', at: recorded('exporting'), held: true },
  { title: 'the upload is begun', at: begins('store CreateMultipartUpload archive'), held: true },
  { title: 'the task of the export is made', at: ends('pool task.create'), held: true },
  { title: 'the export begins', at: begins('pool /export'), held: true, short: true },
  { title: 'a part is on its way', at: begins('store UploadPart archive') },
  { title: 'the last bytes of the export have come', at: ends('pool /export') },
  { title: 'the index is written', at: begins('store PutObject index') },
  { title: 'finishing was recorded', at: recorded('finishing'), whole: true },
  {
    title: 'the backup is published',
    at: begins('store PutObject backup'),
    whole: true,
    short: true,
  },
  { title: 'cleaning was recorded', at: recorded('cleaning'), whole: true },
  { title: 'a snapshot disk goes', at: begins('pool Async.VDI.destroy'), whole: true },
];

const DEEDS: { what: Deed; title: string; code: string }[] = [
  { what: 'cancel', title: 'a job is cancelled', code: 'cancelled' },
  {
    what: 'cancel-elsewhere',
    title: 'a job is cancelled through another instance',
    code: 'cancelled',
  },
  { what: 'drain', title: 'its instance is told to stop', code: 'draining' },
];

for (const { what, title, code } of DEEDS) {
  describe(`${title} when`, { concurrency: 1 }, () => {
    let stage: Stage;
    before(async () => {
      stage = await startStage();
    });
    after(() => stage[Symbol.asyncDispose]());
    for (const moment of MOMENTS.filter((one) => LONG || what === 'cancel' || one.short)) {
      test(moment.title, async () => {
        const deed = { what, atRequest: moment.at };
        // goes on only when it is cancelled: a fast export would be over before the wish arrives
        const faults = moment.held ? [{ name: 'export-silent', seed: 1 }] : [];
        const outcome = await stage.play({ machine: 'parts', faults, deed });
        assertExportEndsFirst(outcome.journal, moment.held === true);
        const { ending, error } = outcome;
        // a job that only waited is the next instance's, which meets the silence itself
        const handedOver = what === 'drain' ? ['succeeded', 'source_truncated'] : [];
        const late = moment.held ? [] : ['succeeded'];
        const allowed = [code, ...late, ...handedOver];
        if (moment.whole) assert.equal(ending, 'succeeded');
        else assert.ok(allowed.includes(ending), `${ending}: ${error?.message}`);
      });
    }
  });
}
