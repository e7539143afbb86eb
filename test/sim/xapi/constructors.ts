/**
 * What the constructors of xapi take: fields that must be given, and those that may be.
 *
 * Source: xen-api `ocaml/idl/datamodel*.ml` (StaticRO and RW fields of each class). An import makes its objects by the
 * same constructors, so that what stands in an archive's record beyond these fields is not carried over.
 */
import { EMPTY_RECORDS } from './records.ts';
import type { Rec } from './values.ts';

const QOS = ['qos_algorithm_type', 'qos_algorithm_params'];

export const MANDATORY: Readonly<Record<string, readonly string[]>> = {
  VDI: ['SR', 'virtual_size', 'type', 'sharable', 'read_only', 'other_config'],
  VBD: ['VM', 'VDI', 'userdevice', 'bootable', 'mode', 'type', 'empty', 'other_config', ...QOS],
  VIF: ['device', 'network', 'VM', 'MAC', 'MTU', 'other_config', ...QOS],
  network: ['other_config'],
};

const OPTIONAL: Readonly<Record<string, readonly string[]>> = {
  VDI: ['name_label', 'name_description', 'xenstore_data', 'sm_config', 'tags'],
  VBD: ['unpluggable'],
  VIF: ['locking_mode', 'ipv4_allowed', 'ipv6_allowed'],
  network: ['name_label', 'name_description', 'MTU', 'bridge', 'managed', 'tags'],
};

/** Names of all fields a constructor reads. */
export function constructorFields(cls: string): string[] {
  return [...(MANDATORY[cls] ?? []), ...(OPTIONAL[cls] ?? [])];
}

/** A new record of the class with only what its constructor would take from `record`. */
export function constructed(cls: string, record: Rec): Rec {
  const kept = constructorFields(cls).flatMap((field) => {
    const value = record[field];
    return value === undefined ? [] : [[field, value] as const];
  });
  return { ...EMPTY_RECORDS[cls]?.(), ...Object.fromEntries(kept) };
}
