/**
 * What the pool refuses, as it said it, and what that means for the reader.
 *
 * XapiError keeps XenAPI's own code and params; it lives inside this folder only. `translate` turns it, once, into
 * the BackupError that leaves: `details.xapi_code` and `details.xapi_params` are XenAPI's, unchanged but for secrets.
 * Codes: xen-api ocaml/xapi-consts/api_errors.ml; SR_BACKEND_FAILURE_<n> are the storage manager's (sm drivers/XE_SR_ERRORCODES.xml).
 */
import { BackupError, type ErrorCode, type ErrorDetails, type Retry } from '../errors.ts';

/** A refusal of the pool, word for word. */
export class XapiError extends Error {
  readonly code: string;
  readonly params: readonly string[];

  constructor(code: string, params: readonly string[]) {
    super(params.length === 0 ? code : `${code} [${params.join(', ')}]`);
    this.name = 'XapiError';
    this.code = code;
    this.params = params;
  }
}

/** Says whether `error` is a refusal of the pool, optionally of one of the given codes. */
export function isXapiError(error: unknown, ...codes: string[]): error is XapiError {
  return error instanceof XapiError && (codes.length === 0 || codes.includes(error.code));
}

export interface Meaning {
  code: ErrorCode;
  retry?: Retry | undefined;
  /** A sentence for people: what is in the way; what mends it. */
  text: string;
  /** For machines, beside XenAPI's own. */
  details?: ErrorDetails;
}

const LATER = { code: 'pool_refused', retry: 'later' } as const;
const AFTER_FIX = { code: 'pool_refused', retry: 'after-fix' } as const;

/** What any call may meet. Everything else is `pool_refused` with the code as it came. */
const MEANINGS: Readonly<Record<string, Meaning>> = {
  SESSION_AUTHENTICATION_FAILED: {
    code: 'pool_credentials',
    text: 'the pool refused user or password',
  },
  SESSION_AUTHORIZATION_FAILED: {
    code: 'pool_credentials',
    text: 'the user may not log in to this pool; give it a role there',
  },
  SESSION_INVALID: { code: 'pool_unavailable', text: 'the pool lost our session, again' },
  RBAC_PERMISSION_DENIED: {
    ...AFTER_FIX,
    text: "the user's role does not allow it; the role vm-power-admin is enough for backups",
  },
  HOST_STILL_BOOTING: { code: 'pool_unavailable', text: 'the host is still starting' },
  HOST_IS_SLAVE: { code: 'pool_unavailable', text: 'no member of the pool calls itself master' },
  HOST_OFFLINE: { code: 'pool_unavailable', text: 'the host is offline' },
  HOST_NOT_LIVE: { code: 'pool_unavailable', text: 'the host is not live' },
  CANNOT_CONTACT_HOST: { code: 'pool_unavailable', text: 'the master cannot reach the host' },
  TOO_MANY_PENDING_TASKS: { code: 'pool_unavailable', text: 'the pool has too many tasks' },
  OTHER_OPERATION_IN_PROGRESS: { ...LATER, text: 'another operation is running on it' },
  VDI_IN_USE: { ...LATER, text: 'the disk is still attached somewhere' },
  NOT_SUPPORTED_DURING_UPGRADE: { ...LATER, text: 'the pool is being upgraded' },
  HANDLE_INVALID: { ...LATER, text: 'something it needs vanished meanwhile' },
  TASK_CANCELLED: { ...LATER, text: 'the task was cancelled in the pool' },
  LICENCE_RESTRICTION: { ...AFTER_FIX, text: 'the licence of the pool does not include it' },
  LICENSE_RESTRICTION: { ...AFTER_FIX, text: 'the licence of the pool does not include it' },
  NO_HOSTS_AVAILABLE: {
    ...AFTER_FIX,
    text: 'no live host sees all storage of this machine; plug the SRs, or eject an ISO of another host',
  },
  VM_REQUIRES_SR: {
    ...AFTER_FIX,
    text: 'no live host sees all storage of this machine; plug the SRs, or eject an ISO of another host',
  },
  OPERATION_BLOCKED: {
    ...AFTER_FIX,
    text: 'the operation is blocked on this machine (blocked_operations); unblock it there',
  },
};

const REFUSED = { code: 'snapshot_refused', retry: 'after-fix' } as const;
const REFUSED_NOW = { code: 'snapshot_refused', retry: 'later' } as const;
const LEAVE_OUT = 'leave the disk out with exclude_disks (needs xapi 21.4 or newer), or move it';

/** What `VM.snapshot` may meet: xen-api ocaml/xapi/xapi_vm_lifecycle.ml and xapi_vm_clone.ml, sm drivers. */
const SNAPSHOT_MEANINGS: Readonly<Record<string, Meaning>> = {
  SR_OPERATION_NOT_SUPPORTED: {
    ...REFUSED,
    text: `one of its storage repositories cannot make snapshots; ${LEAVE_OUT}`,
  },
  UNIMPLEMENTED_IN_SM_BACKEND: {
    ...REFUSED,
    text: `one of its disks is a raw volume or on storage without snapshots; ${LEAVE_OUT}`,
  },
  VDI_IS_SHARABLE: {
    ...REFUSED,
    text: `one of its disks is shared between machines; ${LEAVE_OUT}`,
  },
  VDI_ON_BOOT_MODE_INCOMPATIBLE_WITH_OPERATION: {
    ...REFUSED,
    text: 'one of its disks is reset at every boot (on_boot=reset); set it to persist, or leave it out',
  },
  VM_HAS_VUSBS: {
    ...REFUSED,
    text: 'a USB device is passed through to the machine; unplug it for the backup',
  },
  VM_HAS_VGPU: { ...REFUSED, text: 'the machine has a virtual GPU that cannot be snapshotted' },
  VM_HAS_PCI_ATTACHED: { ...REFUSED, text: 'a PCI device is passed through to the machine' },
  VM_LACKS_FEATURE: { ...REFUSED, text: 'the guest lacks what the snapshot needs' },
  VM_IS_TEMPLATE: { ...REFUSED, code: 'vm_not_supported', text: 'it is a template' },
  VM_IS_SNAPSHOT: { ...REFUSED, code: 'vm_not_supported', text: 'it is a snapshot itself' },
  OPERATION_NOT_ALLOWED: { ...REFUSED_NOW, text: 'the pool does not allow it at the moment' },
  OPERATION_BLOCKED: {
    ...REFUSED,
    text: 'snapshots are blocked on this machine (blocked_operations); unblock them there',
  },
  OTHER_OPERATION_IN_PROGRESS: {
    ...REFUSED_NOW,
    text: 'another operation is running on the machine (a migration?); try again when it is over',
  },
  NOT_SUPPORTED_DURING_UPGRADE: {
    ...REFUSED_NOW,
    text: 'the pool is being upgraded; try again when that is over',
  },
  SR_FULL: {
    ...REFUSED,
    text: 'the storage has too little free space; free space there, or delete old snapshots',
  },
  SR_BACKEND_FAILURE_44: {
    ...REFUSED,
    text: 'the storage has too little free space; free space there, or delete old snapshots',
  },
  SR_BACKEND_FAILURE_109: {
    ...REFUSED_NOW,
    text: 'the snapshot chain is too long (30); delete old snapshots and wait until the storage has coalesced',
  },
  SR_BACKEND_FAILURE_46: {
    ...REFUSED_NOW,
    text: 'the storage says the disk is not available; if it stays so, look for a host that did not detach it',
  },
  VDI_IN_USE: { ...REFUSED_NOW, text: 'one of its disks is in use elsewhere; try again later' },
};

/** What `VM.snapshot_with_quiesce` may meet besides: xen-api ocaml/xapi/xapi_vm_snapshot.ml. The misspelling is XenAPI's. */
const QUIESCE_MEANINGS: Readonly<Record<string, string>> = {
  VM_SNAPSHOT_WITH_QUIESCE_FAILED: 'the guest failed to bring its volumes to rest',
  VM_SNAPSHOT_WITH_QUIESCE_TIMEOUT: 'the guest took too long to bring its volumes to rest',
  VM_SNAPSHOT_WITH_QUIESCE_PLUGIN_DEOS_NOT_RESPOND: "the guest's VSS provider does not answer",
  VM_SNAPSHOT_WITH_QUIESCE_NOT_SUPPORTED: 'the guest has no VSS provider running',
  MESSAGE_REMOVED: 'this pool has no quiesced snapshots any more',
  MESSAGE_METHOD_UNKNOWN: 'this pool has no quiesced snapshots',
};
const QUIESCE_LATER = /_TIMEOUT$|_NOT_RESPOND$/;

/**
 * Turns a refusal into the BackupError that leaves this folder; anything else is given back as it is.
 *
 * `verb` says what was tried, as "verb object".
 */
export function translate(error: unknown, verb: string): unknown {
  return isXapiError(error) ? toError(error, verb, MEANINGS[error.code]) : error;
}

/** The same for `VM.snapshot`, whose refusals name a disk or a state that can be mended. */
export function translateSnapshot(error: unknown, verb: string): unknown {
  if (!isXapiError(error)) return error;
  const known = SNAPSHOT_MEANINGS[error.code] ?? MEANINGS[error.code];
  if (known !== undefined) return toError(error, verb, known);
  const storage = /^SR_BACKEND_FAILURE|^SR_|^VDI_/.test(error.code);
  return toError(error, verb, {
    ...REFUSED,
    text: storage ? 'the storage refused it' : 'the pool refused it',
  });
}

/** The same for `VM.snapshot_with_quiesce`: `quiesce_failed` where it is the guest that could not. */
export function translateQuiesce(error: unknown, verb: string): unknown {
  if (!isXapiError(error)) return error;
  const guest = error.code.startsWith('XEN_VSS_REQ_ERROR_');
  const text = QUIESCE_MEANINGS[error.code] ?? (guest ? "the guest's VSS reports an error" : '');
  if (text === '') return translateSnapshot(error, verb);
  const retry = QUIESCE_LATER.test(error.code) ? 'later' : 'after-fix';
  return toError(error, verb, { code: 'quiesce_failed', retry, text });
}

/** What a host said while it exported: always about this export, so `source_failed` unless it can be mended. */
export function translateExport(error: unknown, verb: string): unknown {
  if (!isXapiError(error)) return error;
  const known = MEANINGS[error.code];
  if (known !== undefined && error.code !== 'TASK_CANCELLED') return toError(error, verb, known);
  const refused = /^VM_|^OPERATION_|^HANDLE_INVALID$|^UUID_INVALID$/.test(error.code);
  return toError(error, verb, {
    code: refused ? 'pool_refused' : 'source_failed',
    text: refused ? 'the pool refused it' : 'the host reported an error',
  });
}

/** What a code means whatever was tried; undefined for those of one call only. */
export function meaningOf(code: string): Meaning | undefined {
  return MEANINGS[code];
}

/** The BackupError of a refusal with this meaning. */
export function toError(error: XapiError, verb: string, meaning: Meaning | undefined): BackupError {
  const { code, text, retry, details }: Meaning = meaning ?? {
    code: 'pool_refused',
    text: 'the pool refused it',
  };
  return new BackupError(code, `${verb}: ${text}, code=${error.code}${reason(error)}`, {
    details: { ...details, xapi_code: error.code, xapi_params: error.params },
    cause: error,
    ...(retry === undefined ? {} : { retry }),
  });
}

/** The storage manager puts its sentence into the second param: ["", reason, stderr]. */
function reason(error: XapiError): string {
  const said = error.code.startsWith('SR_BACKEND_FAILURE') ? error.params[1] : undefined;
  return said ? ` reason="${said.slice(0, 200)}"` : '';
}
