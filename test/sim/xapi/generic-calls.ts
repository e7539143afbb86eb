/**
 * The calls every class has: records, getters, setters, sets and maps, look-up by uuid and name, queries.
 *
 * xapi generates them from its data model (xen-api `ocaml/idl/ocaml_backend`); here they are made from the empty
 * records. What a client may set is a list of names, the same for every class: enough for a backup, and a wrong guess
 * is refused like an unknown method.
 */
import { viewRecord } from './operations.ts';
import { parseQuery } from './query.ts';
import { EMPTY_RECORDS } from './records.ts';
import type { CallSpec, CallTable } from './sim.ts';
import { float, tagged, type Value, XenError } from './values.ts';

const SETTABLE = new Set([
  'name_label',
  'name_description',
  'user_version',
  'other_config',
  'tags',
  'is_a_template',
  'blocked_operations',
  'affinity',
  'ha_restart_priority',
  'ha_always_run',
  'platform',
  'xenstore_data',
  'VCPUs_params',
  'HVM_boot_params',
  'HVM_boot_policy',
  'NVRAM',
  'start_delay',
  'order',
  'suspend_SR',
  'on_boot',
  'sharable',
  'read_only',
  'sm_config',
  'bootable',
  'mode',
  'default_SR',
  'purpose',
  'progress',
  'status',
  'device_config',
]);

const OBJECTS = Object.keys(EMPTY_RECORDS);

/** The value a setter or constructor stores: what arrived, read as the kind the field has. */
export function coerce(field: string, old: Value | undefined, value: Value | undefined): Value {
  if (value === undefined) throw new XenError('INTERNAL_ERROR', ['missing value']);
  const number = typeof value === 'number' ? value : (tagged(value)?.value ?? Number(value));
  if (typeof old === 'number') return number;
  if (old !== undefined && tagged(old) !== undefined) return float(number);
  if (typeof old === 'boolean' && typeof value !== 'boolean') {
    throw new XenError('FIELD_TYPE_ERROR', [field]);
  }
  if (typeof old === 'string') return String(value);
  return value;
}

function recordCalls(cls: string): CallTable {
  const view: CallSpec = {
    params: [1, 1],
    run: ({ sim }, params) => viewRecord(sim, cls, String(params[0])),
  };
  return {
    [`${cls}.get_record`]: view,
    [`${cls}.get_all`]: {
      params: [0, 0],
      run: ({ sim }) => sim.world.all(cls).map(([ref]) => ref),
    },
    [`${cls}.get_all_records`]: {
      params: [0, 0],
      run: ({ sim }) =>
        Object.fromEntries(
          sim.world.all(cls).map(([ref]): [string, Value] => [ref, viewRecord(sim, cls, ref)]),
        ),
    },
    [`${cls}.get_all_records_where`]: {
      params: [1, 1],
      run: ({ sim }, params) => {
        const test = parseQuery(String(params[0]));
        const hits = sim.world.all(cls).filter(([, record]) => test(record));
        return Object.fromEntries(
          hits.map(([ref]): [string, Value] => [ref, viewRecord(sim, cls, ref)]),
        );
      },
    },
    [`${cls}.get_by_uuid`]: {
      params: [1, 1],
      run: ({ sim }, params) => {
        const found = sim.world.findByUuid(cls, String(params[0]));
        if (found === undefined) throw new XenError('UUID_INVALID', [cls, String(params[0])]);
        return found.ref;
      },
    },
  };
}

function nameCalls(cls: string): CallTable {
  return {
    [`${cls}.get_by_name_label`]: {
      params: [1, 1],
      run: ({ sim }, params) =>
        sim.world
          .all(cls)
          .filter(([, record]) => record.name_label === params[0])
          .map(([ref]) => ref),
    },
  };
}

function getter(cls: string, field: string): CallSpec {
  return {
    params: [1, 1],
    run: ({ sim }, params) => viewRecord(sim, cls, String(params[0]))[field] ?? '',
  };
}

function setter(cls: string, field: string): CallSpec {
  return {
    params: [2, 2],
    run: ({ sim }, params) => {
      const ref = String(params[0]);
      const old = sim.world.get(cls, ref)[field];
      sim.world.set(cls, ref, { [field]: coerce(field, old, params[1]) });
      return '';
    },
  };
}

function mapCalls(cls: string, field: string): CallTable {
  return {
    [`${cls}.add_to_${field}`]: {
      params: [3, 3],
      run: ({ sim }, params) => {
        const [ref = '', key = '', value = ''] = params.map(String);
        const old = sim.world.get(cls, ref)[field] as Record<string, string>;
        if (key in old) throw new XenError('MAP_DUPLICATE_KEY', [cls, field, ref, key]);
        sim.world.set(cls, ref, { [field]: { ...old, [key]: value } });
        return '';
      },
    },
    [`${cls}.remove_from_${field}`]: {
      params: [2, 2],
      run: ({ sim }, params) => {
        const [ref = '', key = ''] = params.map(String);
        const { [key]: _gone, ...rest } = sim.world.get(cls, ref)[field] as Record<string, string>;
        sim.world.set(cls, ref, { [field]: rest });
        return '';
      },
    },
  };
}

function setCalls(cls: string, field: string): CallTable {
  const change = (edit: (items: string[], item: string) => string[]): CallSpec => ({
    params: [2, 2],
    run: ({ sim }, params) => {
      const [ref = '', item = ''] = params.map(String);
      const old = sim.world.get(cls, ref)[field] as string[];
      sim.world.set(cls, ref, { [field]: edit(old, item) });
      return '';
    },
  });
  return {
    [`${cls}.add_${field}`]: change((items, item) => [...new Set([...items, item])]),
    [`${cls}.remove_${field}`]: change((items, item) => items.filter((other) => other !== item)),
  };
}

function fieldCalls(cls: string, field: string, example: Value): CallTable {
  const calls: CallTable = { [`${cls}.get_${field}`]: getter(cls, field) };
  if (!SETTABLE.has(field)) return calls;
  calls[`${cls}.set_${field}`] = setter(cls, field);
  if (Array.isArray(example)) return { ...calls, ...setCalls(cls, field) };
  const isMap = typeof example === 'object' && !(example instanceof Date);
  return isMap && tagged(example) === undefined ? { ...calls, ...mapCalls(cls, field) } : calls;
}

function classCalls(cls: string): CallTable {
  const empty = EMPTY_RECORDS[cls]?.() ?? {};
  const calls: CallTable = { ...recordCalls(cls) };
  if ('name_label' in empty) Object.assign(calls, nameCalls(cls));
  for (const [field, example] of Object.entries(empty)) {
    Object.assign(calls, fieldCalls(cls, field, example));
  }
  // Sessions cannot be listed: their refs are what a login is for.
  if (cls === 'session') {
    for (const name of ['get_all', 'get_all_records', 'get_all_records_where']) {
      delete calls[`session.${name}`];
    }
  }
  return calls;
}

/** All of them, for every class. */
export const genericCalls: CallTable = Object.assign({}, ...OBJECTS.map(classCalls));
