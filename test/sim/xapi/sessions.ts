/**
 * Sessions: login, logout, and who may call where.
 *
 * Source: xen-api `ocaml/xapi/xapi_session.ml`. A wrong password costs the caller a wait (5 s on a real host); a member
 * that is not the master refuses every call with the master's address. Sessions live in the master's memory only.
 */
import {
  type CallContext,
  type CallTable,
  hostAt,
  nowDate,
  type Sim,
  type SimHost,
} from './sim.ts';
import { map, text, type Value, XenError } from './values.ts';

/** Throws HOST_IS_SLAVE [address of the master] on every other host. */
export function assertMaster(sim: Sim, host: SimHost): void {
  if (host.index === sim.masterIndex) return;
  throw new XenError('HOST_IS_SLAVE', [hostAt(sim, sim.masterIndex).address]);
}

/** Throws SESSION_INVALID unless the session exists and is not expired; notes its use. */
export function assertSession(sim: Sim, session: string): void {
  const record = sim.world.find('session', session);
  const lastActive = record?.last_active;
  const idleMs = lastActive instanceof Date ? sim.clock.now() - lastActive.getTime() : 0;
  if (record === undefined || idleMs > sim.settings.sessionIdleMs) {
    if (record !== undefined) sim.world.destroy('session', session);
    throw new XenError('SESSION_INVALID', [session]);
  }
  record.last_active = nowDate(sim);
}

/** Checks a user and password; waits first when they are wrong. */
export async function assertCredentials(
  sim: Sim,
  input: { username: string; password: string; signal: AbortSignal },
): Promise<void> {
  const { username, password } = sim.settings;
  if (input.username === username && input.password === password) return;
  await sim.clock.sleep(sim.settings.badLoginDelayMs, { signal: input.signal });
  throw new XenError('SESSION_AUTHENTICATION_FAILED', [input.username, 'Authentication failure']);
}

async function login(context: CallContext, params: Value[]): Promise<Value> {
  const { sim, host, signal } = context;
  const [username = '', password = '', , originator = ''] = params.map(String);
  assertMaster(sim, host);
  await assertCredentials(sim, { username, password, signal });
  return sim.world.create('session', {
    this_host: host.ref,
    last_active: nowDate(sim),
    validation_time: nowDate(sim),
    auth_user_name: username,
    originator,
  });
}

function logout({ sim, session }: CallContext): Value {
  sim.world.destroy('session', session);
  return '';
}

/** All sessions and tasks vanish, as when xapi restarts or another host becomes master. */
export function loseVolatileState(sim: Sim): void {
  for (const [ref] of sim.world.all('session')) sim.world.destroy('session', ref);
  for (const [ref] of sim.world.all('task')) sim.world.destroy('task', ref);
  for (const [ref, vm] of sim.world.all('VM')) {
    if (Object.keys(map(vm, 'current_operations')).length > 0) {
      sim.world.set('VM', ref, { current_operations: {} });
    }
  }
}

/** A day later: ended tasks and all sessions are gone, as xapi's own collector (db_gc_util.ml) would have it. */
export function forgetOld(sim: Sim): void {
  loseSessions(sim);
  for (const [ref, task] of sim.world.all('task')) {
    if (task.status !== 'pending') sim.world.destroy('task', ref);
  }
}

/** Only sessions are lost. */
export function loseSessions(sim: Sim): void {
  for (const [ref] of sim.world.all('session')) sim.world.destroy('session', ref);
}

/** Another host becomes master. */
export function moveMaster(sim: Sim, toHost: number): void {
  loseVolatileState(sim);
  sim.masterIndex = toHost;
  sim.world.set('pool', sim.poolRef, { master: hostAt(sim, toHost).ref });
}

/** The calls of class session that are no plain getters or setters. */
export const sessionCalls: CallTable = {
  'session.login_with_password': { params: [2, 4], open: true, run: login },
  'session.logout': { params: [0, 0], run: logout },
  'session.get_this_host': {
    params: [1, 1],
    run: ({ sim }, params) => text(sim.world.get('session', String(params[0])), 'this_host'),
  },
};
