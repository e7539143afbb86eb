import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BackupError } from '../errors.ts';
import { XapiError } from './errors.ts';
import { translateImport } from './import-errors.ts';

const CASES: [code: string, params: string[], expected: string, retry: string, text: RegExp][] = [
  [
    'SR_BACKEND_FAILURE_44',
    ['', 'There is insufficient space', ''],
    'sr_full',
    'after-fix',
    /free/,
  ],
  ['SR_FULL', ['1', '2'], 'sr_full', 'after-fix', /choose another with sr/],
  ['SR_BACKEND_FAILURE_79', ['', 'VDI Invalid size', ''], 'sr_unsuitable', 'after-fix', /size/],
  ['SR_OPERATION_NOT_SUPPORTED', [], 'sr_unsuitable', 'after-fix', /ISO/],
  ['DEFAULT_SR_NOT_FOUND', ['OpaqueRef:NULL'], 'sr_unsuitable', 'after-fix', /default/],
  ['HANDLE_INVALID', ['SR', 'OpaqueRef:1'], 'sr_unsuitable', 'after-fix', /not there/],
  ['UUID_INVALID', ['SR', 'x'], 'sr_unsuitable', 'after-fix', /not there/],
  ['NO_HOSTS_AVAILABLE', [], 'sr_unsuitable', 'after-fix', /no live host/],
  ['DUPLICATE_MAC_SEED', ['seed'], 'mac_conflict', 'after-fix', /new MACs/],
  [
    'VM_BAD_POWER_STATE',
    ['OpaqueRef:1', 'halted', 'running'],
    'machine_exists',
    'after-fix',
    /halted/,
  ],
  ['VM_TO_IMPORT_IS_NOT_NEWER_VERSION', ['r', '1', '0'], 'machine_exists', 'after-fix', /copy/],
  ['IMPORT_INCOMPATIBLE_VERSION', [], 'pool_too_old', 'after-fix', /newer/],
  ['NOT_SUPPORTED_DURING_UPGRADE', [], 'upgrading', 'later', /upgraded/],
  ['RBAC_PERMISSION_DENIED', ['VM.import'], 'unsupported', 'after-fix', /pool-operator/],
  ['VGPU_TYPE_NOT_COMPATIBLE', ['OpaqueRef:1'], 'unsupported', 'after-fix', /device/],
  ['IMPORT_ERROR_CANNOT_HANDLE_CHUNKED', [], 'target_failed', 'later', /proxy/],
  ['IMPORT_ERROR_PREMATURE_EOF', [], 'target_failed', 'later', /ended/],
  ['IMPORT_ERROR_SOME_CHECKSUMS_FAILED', [], 'target_failed', 'later', /damaged/],
  ['IMPORT_ERROR_UNEXPECTED_FILE', ['ova.xml', 'x'], 'target_failed', 'never', /expects/],
  ['IMPORT_ERROR', ['404 Not Found'], 'target_failed', 'later', /code=IMPORT_ERROR/],
  ['VDI_IO_ERROR', ['Device I/O error'], 'target_failed', 'later', /write/],
  ['TASK_CANCELLED', ['OpaqueRef:1'], 'target_failed', 'later', /cancelled/],
  ['HANDLE_INVALID', ['VM', 'OpaqueRef:1'], 'target_failed', 'later', /vanished/],
  ['INTERNAL_ERROR', ['Unix_error EPIPE'], 'target_failed', 'later', /reported an error/],
  ['LICENCE_RESTRICTION', [], 'pool_refused', 'after-fix', /licence/],
  ['HOST_OFFLINE', ['OpaqueRef:1'], 'pool_unavailable', 'later', /offline/],
];

for (const [code, params, expected, retry, text] of CASES) {
  test(`${code} [${params.join(', ')}] against an import is ${expected}`, () => {
    const error = translateImport(new XapiError(code, params), 'import machine');
    assert.ok(error instanceof BackupError);
    assert.equal(error.code === 'restore_refused' ? error.details.reason : error.code, expected);
    assert.equal(error.retry, retry);
    assert.match(error.message, text);
    assert.equal(error.details.xapi_code, code);
    assert.deepEqual(error.details.xapi_params, params);
  });
}

test('what is no refusal of the pool is given back as it is', () => {
  const error = new Error('x');
  assert.equal(translateImport(error, 'import machine'), error);
});
