/**
 * What the pool says against an import, and what that means for the reader.
 *
 * `restore_refused` with `details.reason` (imports.ts) is what a person can mend: another SR, other MACs, a machine in the way.
 * `target_failed` is what went wrong on the way; trying again is right, unless the archive itself is not what the host
 * expects. xapi has one task for all of it, so one table serves the stream, the link and the single disk.
 * Source: xen-api ocaml/xapi/import.ml, importexport.ml, stream_vdi.ml, ocaml/xapi-consts/api_errors.ml.
 */
import type { RestoreRefusal } from '../imports.ts';
import type { Direction } from './direction.ts';
import { isXapiError, type Meaning, meaningOf, toError, translateExport } from './errors.ts';

function refused(reason: RestoreRefusal, text: string, retry: Meaning['retry'] = 'after-fix') {
  return { code: 'restore_refused', retry, text, details: { reason } } as const;
}

function failed(text: string, retry: Meaning['retry'] = 'later') {
  return { code: 'target_failed', retry, text } as const;
}

const FULL = refused(
  'sr_full',
  'the storage has too little free space; free space there, or choose another with sr',
);
const NO_SR = refused(
  'sr_unsuitable',
  'the storage is not there or not attached; plug it, or choose another with sr',
);
const STRANGE = failed('the archive is not what this host expects of one', 'never');

const MEANINGS: Readonly<Record<string, Meaning>> = {
  SR_FULL: FULL,
  SR_BACKEND_FAILURE_44: FULL,
  SR_OPERATION_NOT_SUPPORTED: refused(
    'sr_unsuitable',
    'the storage takes no disks (an ISO library?); choose another with sr',
  ),
  SR_BACKEND_FAILURE_79: refused(
    'sr_unsuitable',
    'the storage cannot make a disk of this size; choose another with sr',
  ),
  DEFAULT_SR_NOT_FOUND: refused(
    'sr_unsuitable',
    'the pool has no default storage; choose one with sr',
  ),
  SR_HAS_NO_PBDS: NO_SR,
  SR_NOT_ATTACHED: NO_SR,
  SR_UNKNOWN_DRIVER: NO_SR,
  NO_HOSTS_AVAILABLE: refused(
    'sr_unsuitable',
    'no live host holds this storage attached; plug it, or choose another with sr',
  ),
  DUPLICATE_MAC_SEED: refused(
    'mac_conflict',
    'the machine it was made from (or a snapshot or copy of it) is there; restore with new MACs, or remove that one first',
  ),
  DUPLICATE_VM: refused(
    'mac_conflict',
    'the machine it was made from (or a copy of it) is there; restore with new MACs, or remove that one first',
  ),
  VM_TO_IMPORT_IS_NOT_NEWER_VERSION: refused(
    'machine_exists',
    'the machine is there and was restored as often as this backup, so the pool does not replace it; remove it first, or restore a copy',
  ),
  VM_BAD_POWER_STATE: refused(
    'machine_exists',
    'the machine to be replaced is not halted; shut it down, or restore a copy',
  ),
  IMPORT_INCOMPATIBLE_VERSION: refused(
    'pool_too_old',
    'the archive is of a newer release than this pool; restore into a newer pool',
  ),
  NOT_SUPPORTED_DURING_UPGRADE: refused(
    'upgrading',
    'the pool is being upgraded; try again when that is over',
    'later',
  ),
  RBAC_PERMISSION_DENIED: refused(
    'unsupported',
    "the user's role does not allow it; vm-power-admin is enough for a restore by stream, pool-operator for one by link",
  ),
  IMPORT_ERROR_CANNOT_HANDLE_CHUNKED: failed('the data arrived in chunks; is a proxy between?'),
  IMPORT_ERROR_PREMATURE_EOF: failed('the data ended before their end'),
  IMPORT_ERROR_SOME_CHECKSUMS_FAILED: failed('a block arrived damaged'),
  IMPORT_ERROR_UNEXPECTED_FILE: STRANGE,
  IMPORT_ERROR_FAILED_TO_FIND_OBJECT: STRANGE,
  IMPORT_ERROR_ATTACHED_DISKS_NOT_FOUND: STRANGE,
  VDI_IO_ERROR: failed('the host could not write to the storage'),
  TASK_CANCELLED: failed('the task was cancelled in the pool'),
  HANDLE_INVALID: failed('something it needs vanished meanwhile'),
};

/** Objects of hardware or licence that not every pool has: VGPU_TYPE_NOT_COMPATIBLE…, PVS_…, VTPM_… */
const HARDWARE = /^(VGPU|PGPU|GPU|PVS|VTPM|VUSB|PCI)_/;

/** The BackupError of a refusal or failure of an import; anything else is given back as it is. */
export function translateImport(error: unknown, verb: string): unknown {
  return isXapiError(error) ? toError(error, verb, importMeaning(error)) : error;
}

function importMeaning({ code, params }: { code: string; params: readonly string[] }): Meaning {
  if (/^(HANDLE|UUID)_INVALID$/.test(code) && params[0] === 'SR') return NO_SR;
  const known = MEANINGS[code] ?? meaningOf(code);
  if (known !== undefined) return known;
  if (HARDWARE.test(code)) {
    return refused('unsupported', 'the pool does not have a device of this machine, or too few');
  }
  return failed('the host reported an error');
}

/** The error of a running transfer's task. */
export function translateTransfer({ method }: Direction, error: unknown): unknown {
  return method === 'GET'
    ? translateExport(error, 'export machine')
    : translateImport(error, 'import machine');
}
