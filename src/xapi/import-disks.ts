/**
 * Single disks: made empty, filled by /import_raw_vdi (import.ts), hung on a machine.
 *
 * A new disk gets the mark in the call that makes it, so there is no moment in which it is ours and nobody knows.
 * `owner` in a VBD's other_config is what the tools write: who deletes the machine deletes this disk with it.
 */
import {
  type AttachDiskInput,
  type CreateDiskInput,
  type CreatedDisk,
  RESTORE_MARK,
} from '../imports.ts';
import type { Cancellable, VdiRef } from '../ports.ts';
import { integer, text, toRecord } from './fields.ts';
import { translateImport } from './import-errors.ts';
import { resultRef, runTask, type TaskDeps } from './task.ts';

/** Makes a disk, as in imports.ts. Cancel: it may be made all the same, with its mark. */
export async function createDisk(
  deps: TaskDeps,
  input: CreateDiskInput,
  options: Cancellable,
): Promise<CreatedDisk> {
  const record = {
    name_label: input.nameLabel,
    name_description: input.nameDescription,
    SR: input.sr,
    virtual_size: input.sizeBytes,
    type: 'user',
    sharable: false,
    read_only: false,
    other_config: { [RESTORE_MARK]: input.mark },
    xenstore_data: {},
    sm_config: {},
    tags: [],
  };
  try {
    const result = await runTask(deps, { method: 'VDI.create', params: [record] }, options);
    const vdiRef = resultRef(result);
    const vdi = toRecord(await deps.session.call('VDI.get_record', [vdiRef], options));
    return {
      ref: vdiRef as VdiRef,
      uuid: text(vdi, 'uuid'),
      virtualSizeBytes: integer(vdi, 'virtual_size'),
    };
  } catch (error) {
    throw translateImport(error, 'make disk');
  }
}

/** Hangs a disk on a halted machine. */
export async function attachDisk(
  deps: TaskDeps,
  input: AttachDiskInput,
  options: Cancellable,
): Promise<void> {
  const record = {
    VM: input.vm,
    VDI: input.vdi,
    userdevice: input.userdevice,
    bootable: input.bootable,
    mode: input.readOnly ? 'RO' : 'RW',
    type: 'Disk',
    unpluggable: true,
    empty: false,
    other_config: { owner: '' },
    qos_algorithm_type: '',
    qos_algorithm_params: {},
  };
  try {
    await runTask(deps, { method: 'VBD.create', params: [record] }, options);
  } catch (error) {
    throw translateImport(error, 'attach disk');
  }
}
