/**
 * From a method's name and parameters to its result or error, the same for XML-RPC and JSON-RPC.
 *
 * Order of refusals as xapi's generated dispatcher has it: unknown or removed method, number of parameters, master,
 * session. `Async.` runs the call behind a task and answers with the task's ref at once.
 */
import { createCalls } from './create-calls.ts';
import { eventCalls } from './events.ts';
import { genericCalls } from './generic-calls.ts';
import { objectCalls } from './object-calls.ts';
import { powerCalls } from './power-calls.ts';
import { assertMaster, assertSession, loseSessions, moveMaster, sessionCalls } from './sessions.ts';
import type { CallContext, CallSpec, CallTable, Sim, SimHost } from './sim.ts';
import { coalesceDue } from './storage.ts';
import { createTask, endTask, isCancelled, setProgress, taskCalls } from './tasks.ts';
import { NoAnswer, toXenError, type Value, XenError } from './values.ts';

const CALLS: CallTable = {
  ...genericCalls,
  ...sessionCalls,
  ...taskCalls,
  ...eventCalls,
  ...objectCalls,
  ...powerCalls,
  ...createCalls,
};

/** Gone since CH 8.1, but still listed by system.listMethods. */
const QUIESCE = 'VM.snapshot_with_quiesce';

export interface Call {
  method: string;
  params: Value[];
  host: SimHost;
  /** Aborted when the client hangs up or the pool closes. */
  signal: AbortSignal;
}

/** Names of all methods, for system.listMethods: with the Async ones. */
export function methodNames(): string[] {
  const names = Object.keys(CALLS);
  const asyncs = names.filter((name) => CALLS[name]?.asyncable).map((name) => `Async.${name}`);
  return [...names, ...asyncs, 'system.listMethods'].sort();
}

function applyFaults(sim: Sim, call: Call): void {
  const accepts = (params: { method?: string }) =>
    params.method === undefined || params.method === call.method;
  if (sim.faults.take('session-lost', { accepts })) loseSessions(sim);
  const move = sim.faults.take('master-moves', { accepts });
  if (move !== undefined) moveMaster(sim, move.toHost ?? (sim.masterIndex + 1) % sim.hosts.length);
  const failing = sim.faults.take('call-fails', { accepts });
  if (failing !== undefined) throw new XenError(failing.code, failing.params);
}

async function hang(sim: Sim, call: Call): Promise<void> {
  const accepts = (params: { method: string }) => params.method === call.method;
  if (sim.faults.take('call-hangs', { accepts }) === undefined) return;
  await new Promise((_, reject) => {
    const stop = () => reject(new NoAnswer('hung'));
    call.signal.addEventListener('abort', stop);
    if (call.signal.aborted) stop();
  });
}

async function keepSilent(sim: Sim, call: Call): Promise<void> {
  const accepts = (params: { method?: string }) =>
    params.method === undefined || params.method === call.method;
  const silent = sim.faults.take('call-silent', { accepts });
  if (silent === undefined) return;
  const signal = AbortSignal.any([call.signal, sim.closing]);
  await sim.clock.sleep(silent.silentMs, { signal }).catch(() => undefined); // the caller left first
  throw new NoAnswer('silent');
}

async function look(sim: Sim, { method, params }: Call, done: boolean): Promise<void> {
  if ((await sim.faults.watch?.({ method, params, done })) === 'cut') throw new NoAnswer('cut');
}

function lookUp(sim: Sim, method: string): { spec: CallSpec; name: string; isAsync: boolean } {
  const isAsync = method.startsWith('Async.');
  const plain = isAsync ? method.slice('Async.'.length) : method;
  // Both VM.get_all and VM_get_all are known; class names with an underscore come first.
  const name = plain.includes('.')
    ? plain
    : plain.replace(/^(host_metrics|VM_metrics|VM_guest_metrics|[A-Za-z]+)_/, '$1.');
  const spec = CALLS[name];
  if (name === QUIESCE && !sim.persona.quiesce) throw new XenError('MESSAGE_REMOVED');
  if (spec === undefined || (isAsync && spec.asyncable !== true)) {
    throw new XenError('MESSAGE_METHOD_UNKNOWN', [method]);
  }
  return { spec, name, isAsync };
}

function assertArity(sim: Sim, name: string, spec: CallSpec, received: number): void {
  const [min, widest] = spec.params;
  const max = name === 'VM.snapshot' && !sim.persona.ignoreVdis ? 2 : widest;
  if (received >= min && received <= max) return;
  const expected = received < min ? min : max;
  throw new XenError('MESSAGE_PARAMETER_COUNT_MISMATCH', [
    name,
    String(expected),
    String(received),
  ]);
}

function startAsync(context: CallContext, name: string, spec: CallSpec, args: Value[]): string {
  const { sim } = context;
  const taskRef = createTask(sim, `Async.${name}`);
  const stop = new AbortController();
  const unwatch = sim.world.onChange(() => {
    if (isCancelled(sim, taskRef)) stop.abort(new XenError('TASK_CANCELLED', [taskRef]));
  });
  const signal = AbortSignal.any([stop.signal, sim.closing]);
  const work = async () => {
    try {
      setProgress(sim, taskRef, 0);
      const result = await spec.run({ ...context, task: taskRef, signal }, args);
      await sim.clock.sleep(sim.settings.taskDelayMs, { signal: sim.closing });
      endTask(sim, taskRef, result === '' ? { status: 'success' } : { status: 'success', result });
    } catch (error) {
      const failure = toXenError(error);
      const cancelled = failure.code === 'TASK_CANCELLED';
      endTask(
        sim,
        taskRef,
        cancelled ? { status: 'cancelled' } : { status: 'failure', error: failure },
      );
    } finally {
      unwatch();
    }
  };
  sim.track(work());
  return taskRef;
}

/** Runs one call. Throws XenError, or NoAnswer when the connection shall just end. */
export async function dispatch(sim: Sim, call: Call): Promise<Value> {
  if (call.method === 'system.listMethods') return methodNames();
  coalesceDue(sim);
  await look(sim, call, false);
  applyFaults(sim, call);
  await hang(sim, call);
  await keepSilent(sim, call);
  const { spec, name, isAsync } = lookUp(sim, call.method);
  const context: CallContext = { sim, host: call.host, session: '', signal: call.signal };
  if (spec.open) {
    assertArity(sim, name, spec, call.params.length);
    return await spec.run(context, call.params);
  }
  const [session = '', ...args] = call.params;
  assertArity(sim, name, spec, args.length);
  assertMaster(sim, call.host);
  assertSession(sim, String(session));
  const withSession = { ...context, session: String(session) };
  const result = isAsync
    ? startAsync(withSession, name, spec, args)
    : await spec.run(withSession, args);
  await look(sim, call, true);
  const accepts = (params: { method: string }) => params.method === call.method;
  if (sim.faults.take('answer-lost', { accepts })) throw new NoAnswer('cut');
  return result;
}
