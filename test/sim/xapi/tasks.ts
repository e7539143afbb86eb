/**
 * Tasks: what shows how far long work is and how it ended.
 *
 * Sources: xen-api `ocaml/xapi/xapi_task.ml`, `taskHelper.ml`. progress is 0 when somebody takes the task over and 1 at
 * any end; destroying a pending task only marks it, it goes when its work ends; tasks are lost with the master.
 */
import { type CallContext, type CallTable, masterRef, nowDate, type Sim } from './sim.ts';
import { float, map, text, type Value, XenError } from './values.ts';
import { formatValue } from './xml-rpc.ts';

/** Creates a pending task. */
export function createTask(sim: Sim, label: string, description = ''): string {
  return sim.world.create('task', {
    name_label: label,
    name_description: description,
    created: nowDate(sim),
    finished: nowDate(sim),
    resident_on: masterRef(sim),
  });
}

/** Sets the progress of a task that still exists. */
export function setProgress(sim: Sim, taskRef: string, progress: number): void {
  if (sim.world.find('task', taskRef) === undefined) return;
  sim.world.set('task', taskRef, { progress: float(progress) });
}

/** How a task ends. */
export type Outcome =
  | { status: 'success'; result?: Value }
  | { status: 'failure'; error: XenError }
  | { status: 'cancelled' };

/** Ends a task; one already ended or gone stays as it is, one marked for destruction goes. */
export function endTask(sim: Sim, taskRef: string, outcome: Outcome): void {
  const task = sim.world.find('task', taskRef);
  if (task === undefined || task.status !== 'pending') return;
  const fields = { status: outcome.status, progress: float(1), finished: nowDate(sim) };
  if (outcome.status === 'success') {
    const result = outcome.result === undefined ? '' : formatValue(outcome.result);
    sim.world.set('task', taskRef, { ...fields, result });
  } else if (outcome.status === 'failure') {
    const { code, params } = outcome.error;
    sim.world.set('task', taskRef, { ...fields, error_info: [code, ...params] });
  } else {
    sim.world.set('task', taskRef, { ...fields, error_info: ['TASK_CANCELLED', taskRef] });
  }
  const operations = Object.values(map(task, 'current_operations'));
  if (operations.includes('destroy')) sim.world.destroy('task', taskRef);
}

/** Whether somebody asked to cancel the task. */
export function isCancelled(sim: Sim, taskRef: string): boolean {
  const task = sim.world.find('task', taskRef);
  return task !== undefined && Object.values(map(task, 'current_operations')).includes('cancel');
}

function mark(sim: Sim, taskRef: string, operation: string): void {
  const operations = map(sim.world.get('task', taskRef), 'current_operations');
  sim.world.set('task', taskRef, {
    current_operations: { ...operations, [sim.newUuid()]: operation },
  });
}

function cancel({ sim }: CallContext, params: Value[]): Value {
  const ref = String(params[0]);
  const task = sim.world.get('task', ref);
  if (text(task, 'status') !== 'pending') {
    throw new XenError('OPERATION_NOT_ALLOWED', ['cancel', ref]);
  }
  mark(sim, ref, 'cancel');
  return '';
}

function destroy({ sim }: CallContext, params: Value[]): Value {
  const ref = String(params[0]);
  if (text(sim.world.get('task', ref), 'status') === 'pending') mark(sim, ref, 'destroy');
  else sim.world.destroy('task', ref);
  return '';
}

/** The calls of class task that are no plain getters or setters. */
export const taskCalls: CallTable = {
  'task.create': {
    params: [2, 2],
    run: ({ sim }, params) => createTask(sim, String(params[0]), String(params[1])),
  },
  'task.cancel': { params: [1, 1], run: cancel },
  'task.destroy': { params: [1, 1], run: destroy },
};
