/** How the machines of a run change: waiting again, ended as their job did, or not begun at all. Pure. */
import { problemOf } from '../catalog/problem.ts';
import type { Job } from '../catalog/record.ts';
import type { Run, RunMachine } from '../catalog/run.ts';
import { BackupError } from '../errors.ts';
import { formatTime } from '../time.ts';
import { machineKey } from './runs-plan.ts';

/** Its job keeps its id: should it have been begun after all, beginning it again finds it. */
export function waitingAgain(
  { started_at: _, ...machine }: RunMachine,
  because?: string,
): RunMachine {
  const { waiting_because: __, ...rest } = machine;
  return {
    ...rest,
    status: 'waiting',
    ...(because === undefined ? {} : { waiting_because: because }),
  };
}

/** Its instance was told to stop, and stopped it: nothing is wrong with the machine, and the run goes on elsewhere. */
export function onceMore(machine: RunMachine, job: Job): RunMachine {
  const { job_id: _, ...again } = waitingAgain(machine);
  const warning = `job ${job.id} was stopped with its instance, and is made again`;
  return { ...again, warnings: [...machine.warnings, warning] };
}

/** What became of a job that ended. */
export function outcomeOf(machine: RunMachine, job: Job): RunMachine {
  const { result, error } = job;
  return {
    ...machine,
    status: job.status === 'succeeded' || job.status === 'cancelled' ? job.status : 'failed',
    ...(job.started_at === undefined ? {} : { started_at: job.started_at }),
    finished_at: job.finished_at ?? job.updated_at,
    ...(error === undefined ? {} : { error }),
    ...(result === undefined
      ? {}
      : {
          made: {
            backup_id: result.id,
            mode: result.mode,
            size_bytes: result.archive.size_bytes,
            read_bytes: result.read_bytes,
            sent_bytes: result.sent_bytes,
            copied_bytes: result.copied_bytes,
            duration_seconds: result.duration_seconds,
            ...(result.estimated_cost === undefined
              ? {}
              : { estimated_cost: result.estimated_cost }),
          },
          warnings: [...new Set([...machine.warnings, ...result.warnings])],
        }),
  };
}

/** The deadline is over: what has not begun is not begun any more. */
export function closeDoor(run: Run, nowMs: number): Run {
  const error = new BackupError(
    'limit_reached',
    `begin backup before the deadline, ${run.deadline_at}`,
    {
      details: { deadline: run.deadline_at },
    },
  );
  return endWaiting(run, { status: 'not_started', nowMs, error });
}

/** What waits ends so. */
export function endWaiting(
  run: Run,
  end: { status: RunMachine['status']; nowMs: number; error?: BackupError },
): Run {
  if (!run.machines.some(({ status }) => status === 'waiting')) return run;
  const machines = run.machines.map((machine): RunMachine => {
    if (machine.status !== 'waiting') return machine;
    const { waiting_because: why, ...rest } = machine;
    const because = why === undefined ? [] : [`it waited: ${why}`];
    return {
      ...rest,
      status: end.status,
      finished_at: formatTime(end.nowMs),
      warnings: [...machine.warnings, ...because],
      ...(end.error === undefined ? {} : { error: problemOf(end.error) }),
    };
  });
  return { ...run, machines };
}

/** The run with this machine in place of what it was. */
export function replaced(run: Run, machine: RunMachine): Run {
  const key = machineKey(machine);
  const machines = run.machines.map((one) => (machineKey(one) === key ? machine : one));
  return { ...run, machines };
}
