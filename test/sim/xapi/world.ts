/**
 * The pool's database: objects by class and ref, links kept in step, and a log of changes for event.from.
 *
 * All changes go through create, set and destroy, so that back-links and events can never be forgotten. As in
 * xapi, a ref to a destroyed object is left dangling in fields that are not one side of a kept link. Sessions are
 * not in the event log.
 */
import { BACK_LINKS, EMPTY_RECORDS } from './records.ts';
import { NULL_REF, type Rec, type Value, XenError } from './values.ts';

/** Older changes are forgotten; a token from before them gets EVENTS_LOST. */
const MAX_LOG_ENTRIES = 50_000;

export interface Change {
  id: number;
  cls: string;
  ref: string;
  operation: 'add' | 'mod' | 'del';
}

export interface World {
  create(cls: string, fields: Rec, ref?: string): string;
  /** The record, or HANDLE_INVALID [class, ref]. Not to be changed in place. */
  get(cls: string, ref: string): Rec;
  find(cls: string, ref: string): Rec | undefined;
  findByUuid(cls: string, uuid: string): { ref: string; record: Rec } | undefined;
  all(cls: string): [string, Rec][];
  count(cls: string): number;
  set(cls: string, ref: string, fields: Rec): void;
  destroy(cls: string, ref: string): void;
  /** Appears in event.from as a change although nothing changed (event.inject). */
  touch(cls: string, ref: string): void;
  /** Changes after `id`, oldest first; undefined when some of them are forgotten. */
  changesSince(id: number): Change[] | undefined;
  lastChangeId(): number;
  /** Calls back soon after changes; returns the function that stops it. */
  onChange(listener: () => void): () => void;
}

interface State {
  tables: Map<string, Map<string, Rec>>;
  log: Change[];
  counter: number;
  listeners: Set<() => void>;
  notifying: boolean;
}

function table(state: State, cls: string): Map<string, Rec> {
  const found = state.tables.get(cls);
  if (found === undefined) throw new Error(`simulator bug: no class ${cls}`);
  return found;
}

/** Tells the listeners once for all changes made in one go, when the links are in step again. */
function notify(state: State): void {
  if (state.notifying) return;
  state.notifying = true;
  queueMicrotask(() => {
    state.notifying = false;
    for (const listener of [...state.listeners]) listener();
  });
}

function record(state: State, cls: string, ref: string, operation: Change['operation']): void {
  notify(state);
  if (cls === 'session') return;
  state.counter += 1;
  state.log.push({ id: state.counter, cls, ref, operation });
  if (state.log.length > MAX_LOG_ENTRIES) state.log.splice(0, MAX_LOG_ENTRIES / 2);
}

function changeLink(state: State, cls: string, ref: string, before: Rec, after: Rec): void {
  for (const link of BACK_LINKS) {
    if (link.from !== cls) continue;
    const was = before[link.field] ?? NULL_REF;
    const is = after[link.field] ?? NULL_REF;
    if (was === is) continue;
    const other = table(state, link.to);
    const left = other.get(was as string);
    if (left !== undefined) {
      left[link.set] = (left[link.set] as string[]).filter((item) => item !== ref);
      record(state, link.to, was as string, 'mod');
    }
    const joined = other.get(is as string);
    if (joined !== undefined) {
      joined[link.set] = [...(joined[link.set] as string[]), ref];
      record(state, link.to, is as string, 'mod');
    }
  }
}

/** Makes an empty database; `newUuid` decides refs and uuids, so that a seed repeats a run. */
export function createWorld(newUuid: () => string): World {
  const state: State = {
    tables: new Map(Object.keys(EMPTY_RECORDS).map((cls) => [cls, new Map()])),
    log: [],
    counter: 0,
    listeners: new Set(),
    notifying: false,
  };
  const find = (cls: string, ref: string) => table(state, cls).get(ref);
  const get = (cls: string, ref: string): Rec => {
    const found = find(cls, ref);
    if (found === undefined) throw new XenError('HANDLE_INVALID', [cls, ref]);
    return found;
  };
  return {
    find,
    get,
    create(cls, fields, ref = `OpaqueRef:${newUuid()}`) {
      const empty = EMPTY_RECORDS[cls];
      if (empty === undefined) throw new Error(`simulator bug: no class ${cls}`);
      const made: Rec = { ...empty(), uuid: newUuid(), ...fields };
      table(state, cls).set(ref, made);
      record(state, cls, ref, 'add');
      changeLink(state, cls, ref, {}, made);
      return ref;
    },
    findByUuid(cls, uuid) {
      for (const [ref, found] of table(state, cls)) {
        if (found.uuid === uuid) return { ref, record: found };
      }
      return undefined;
    },
    all: (cls) => [...table(state, cls)],
    count: (cls) => table(state, cls).size,
    set(cls, ref, fields) {
      const before = get(cls, ref);
      const after: Rec = { ...before, ...fields };
      table(state, cls).set(ref, after);
      changeLink(state, cls, ref, before, after);
      record(state, cls, ref, 'mod');
    },
    destroy(cls, ref) {
      const before = get(cls, ref);
      table(state, cls).delete(ref);
      changeLink(state, cls, ref, before, {});
      record(state, cls, ref, 'del');
    },
    touch: (cls, ref) => record(state, cls, ref, 'mod'),
    changesSince(id) {
      const first = state.log[0];
      if (first === undefined) return [];
      if (id < first.id - 1) return undefined;
      return state.log.slice(id - first.id + 1);
    },
    lastChangeId: () => state.counter,
    onChange(listener) {
      state.listeners.add(listener);
      return () => state.listeners.delete(listener);
    },
  };
}

/** A value of any kind may be compared with the text form the database keeps: used by queries. */
export function databaseText(value: Value | undefined): string {
  return typeof value === 'string' ? value : String(value);
}
