/**
 * event.from and event.inject: blocking notifications of changes.
 *
 * Source: xen-api `ocaml/xapi/xapi_event.ml`. Tokens are `%020d,%020d`; an empty one means "everything there is". A
 * batch holds each object once, with its latest state; objects made and gone in between are missed, as on a host.
 */
import { viewRecord } from './operations.ts';
import { EMPTY_RECORDS } from './records.ts';
import { type CallContext, type CallTable, nowDate, type Sim, waitFor } from './sim.ts';
import { formatDate, i4, tagged, type Value, XenError } from './values.ts';
import type { Change } from './world.ts';

const WATCHED = Object.keys(EMPTY_RECORDS).filter((cls) => cls !== 'session');

/** A client may not hold a call for longer than this. */
const MAX_TIMEOUT_MS = 3_600_000;

/** In place of an answer: a logout ends the waits of its session. */
const LOGGED_OUT = 'logged out';

function tokenOf(id: number): string {
  const digits = String(id).padStart(20, '0');
  return `${digits},${digits}`;
}

function parseToken(token: string): number {
  if (token === '') return 0;
  const match = /^(\d{20}),(\d{20})$/.exec(token);
  if (match === null) throw new XenError('EVENT_FROM_TOKEN_PARSE_FAILURE', [token]);
  return Number(match[1]);
}

function matcher(classes: string[]): (change: { cls: string; ref: string }) => boolean {
  const wanted = new Set(classes.map((name) => name.toLowerCase().split('/')[0]));
  const refs = new Set(classes.filter((name) => name.includes('/')));
  const whole = new Set(classes.filter((n) => !n.includes('/')).map((n) => n.toLowerCase()));
  return ({ cls, ref }) => {
    const name = cls.toLowerCase();
    if (whole.has('*') || whole.has(name)) return true;
    if (!wanted.has(name)) return false;
    return [...refs].some((entry) => entry.slice(entry.indexOf('/') + 1) === ref);
  };
}

function collapse(sim: Sim, since: number, matches: (change: Change) => boolean): Change[] {
  if (since === 0) {
    return WATCHED.flatMap((cls) =>
      sim.world.all(cls).map(([ref]): Change => ({ id: 0, cls, ref, operation: 'add' })),
    ).filter(matches);
  }
  const changes = sim.world.changesSince(since);
  if (changes === undefined) throw new XenError('EVENTS_LOST');
  const byObject = new Map<string, Change>();
  const added = new Set<string>();
  for (const change of changes) {
    if (!matches(change)) continue;
    const key = `${change.cls}/${change.ref}`;
    if (change.operation === 'add') added.add(key);
    byObject.delete(key);
    byObject.set(key, change);
  }
  return [...byObject].flatMap(([key, change]): Change[] => {
    const exists = sim.world.find(change.cls, change.ref) !== undefined;
    if (!exists && added.has(key)) return [];
    if (!exists) return [{ ...change, operation: 'del' }];
    return [{ ...change, operation: added.has(key) ? 'add' : 'mod' }];
  });
}

function toEvent(sim: Sim, change: Change): Value {
  const event: Record<string, Value> = {
    id: String(change.id),
    timestamp: formatDate(nowDate(sim)),
    class: change.cls.toLowerCase(),
    operation: change.operation,
    ref: change.ref,
  };
  if (change.operation !== 'del') event.snapshot = viewRecord(sim, change.cls, change.ref);
  return event;
}

async function from(context: CallContext, params: Value[]): Promise<Value> {
  const { sim, session, signal } = context;
  const [classes, token, timeout] = params;
  if (!Array.isArray(classes)) throw new XenError('INTERNAL_ERROR', ['classes are no set']);
  const matches = matcher(classes.map(String));
  const since = parseToken(String(token));
  const seconds =
    typeof timeout === 'number' ? timeout : (tagged(timeout ?? 0)?.value ?? Number(timeout));
  const timeoutMs = Math.min(MAX_TIMEOUT_MS, Math.max(0, seconds * 1000));
  // The whole answer is made at one instant: a change after it must be after its token too.
  const answer = (changes: Change[]): Value => ({
    events: changes.map((change) => toEvent(sim, change)),
    valid_ref_counts: refCounts(sim),
    token: tokenOf(Math.max(1, sim.world.lastChangeId())),
  });
  const look = (): Value | undefined => {
    if (sim.world.find('session', session) === undefined) return LOGGED_OUT;
    const changes = collapse(sim, since, matches);
    return changes.length > 0 || since === 0 ? answer(changes) : undefined;
  };
  const found = (await waitFor(sim, look, { signal, timeoutMs })) ?? answer([]);
  if (found === LOGGED_OUT) throw new XenError('SESSION_INVALID', [session]);
  return found;
}

function refCounts(sim: Sim): Value {
  const counts = WATCHED.map((cls) => [cls.toLowerCase(), i4(sim.world.count(cls))]);
  return Object.fromEntries(counts) as Record<string, Value>;
}

function inject({ sim }: CallContext, params: Value[]): Value {
  const name = String(params[0]).toLowerCase();
  const ref = String(params[1]);
  const cls = WATCHED.find((known) => known.toLowerCase() === name);
  if (cls === undefined || sim.world.find(cls, ref) === undefined) {
    throw new XenError('HANDLE_INVALID', [String(params[0]), ref]);
  }
  sim.world.touch(cls, ref);
  return tokenOf(sim.world.lastChangeId());
}

/** The calls of class event. The old register/next are not simulated. */
export const eventCalls: CallTable = {
  'event.from': { params: [3, 3], run: from },
  'event.inject': { params: [2, 2], run: inject },
  'event.get_current_id': { params: [0, 0], run: ({ sim }) => sim.world.lastChangeId() },
};
