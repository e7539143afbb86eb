import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type BackupError, isBackupError } from '../errors.ts';
import {
  translate,
  translateExport,
  translateQuiesce,
  translateSnapshot,
  XapiError,
} from './errors.ts';
import { createRedactor } from './redact.ts';

test("a refusal keeps XenAPI's code and params, and says what was tried", () => {
  const cause = new XapiError('SOMETHING_NEW', ['a', 'b']);
  const error = translate(cause, 'list machines') as BackupError;
  assert.equal(error.code, 'pool_refused');
  assert.deepEqual(error.details, { xapi_code: 'SOMETHING_NEW', xapi_params: ['a', 'b'] });
  assert.match(error.message, /^list machines: .*code=SOMETHING_NEW$/);
  assert.equal(error.cause, cause);
});

test('errors that are no refusal pass unchanged', () => {
  const error = new Error('x');
  assert.equal(translate(error, 'list machines'), error);
  assert.equal(translateSnapshot(error, 'make snapshot'), error);
});

for (const [code, expected, retry] of [
  ['SESSION_AUTHENTICATION_FAILED', 'pool_credentials', 'after-fix'],
  ['HOST_STILL_BOOTING', 'pool_unavailable', 'later'],
  ['TOO_MANY_PENDING_TASKS', 'pool_unavailable', 'later'],
  ['OTHER_OPERATION_IN_PROGRESS', 'pool_refused', 'later'],
  ['RBAC_PERMISSION_DENIED', 'pool_refused', 'after-fix'],
] as const) {
  test(`${code} becomes ${expected}, retry ${retry}`, () => {
    const error = translate(new XapiError(code, []), 'call');
    assert.ok(isBackupError(error, expected));
    assert.equal(error.retry, retry);
  });
}

for (const [code, params, retry, words] of [
  ['SR_OPERATION_NOT_SUPPORTED', ['OpaqueRef:sr'], 'after-fix', /cannot make snapshots/],
  ['VDI_IS_SHARABLE', ['OpaqueRef:1'], 'after-fix', /shared between machines/],
  ['VDI_ON_BOOT_MODE_INCOMPATIBLE_WITH_OPERATION', [], 'after-fix', /reset at every boot/],
  ['VM_HAS_VUSBS', ['OpaqueRef:1'], 'after-fix', /USB device/],
  ['OPERATION_BLOCKED', ['OpaqueRef:1', 'why'], 'after-fix', /blocked/],
  ['OTHER_OPERATION_IN_PROGRESS', ['VM', 'x', 'y'], 'later', /another operation/],
  ['SR_BACKEND_FAILURE_109', ['', 'too long', ''], 'later', /chain is too long.*reason="too long"/],
  ['SR_BACKEND_FAILURE_44', ['', 'insufficient', ''], 'after-fix', /free space/],
  ['SR_BACKEND_FAILURE_46', ['', 'not available', ''], 'later', /not available/],
  ['SR_BACKEND_FAILURE_999', ['', 'odd', ''], 'after-fix', /storage refused it.*reason="odd"/],
  ['NOT_SUPPORTED_DURING_UPGRADE', [], 'later', /being upgraded/],
] as const) {
  test(`a snapshot refused with ${code} says what is in the way`, () => {
    const error = translateSnapshot(new XapiError(code, params), 'make snapshot');
    assert.ok(isBackupError(error, 'snapshot_refused'));
    assert.equal(error.retry, retry);
    assert.match(error.message, words);
    assert.equal(error.details.xapi_code, code);
  });
}

test('an error of the host while exporting is the source failing, a wrong power state is not', () => {
  const io = translateExport(new XapiError('VDI_IO_ERROR', ['x']), 'export machine');
  assert.ok(isBackupError(io, 'source_failed'));
  const state = translateExport(new XapiError('VM_BAD_POWER_STATE', ['x']), 'start export');
  assert.ok(isBackupError(state, 'pool_refused'));
  const nowhere = translateExport(new XapiError('NO_HOSTS_AVAILABLE', []), 'start export');
  assert.ok(isBackupError(nowhere, 'pool_refused'));
  assert.match(nowhere.message, /no live host sees all storage/);
});

test('session references and passwords never stay in what the pool said', () => {
  const redactor = createRedactor();
  redactor.add('hunter22');
  redactor.add('OpaqueRef:session-1');
  const error = redactor.error(
    new XapiError('CLIENT_ERROR', [
      'GET /export?ref=1&session_id=OpaqueRef:other&task_id=2 by hunter22',
      'OpaqueRef:session-1',
    ]),
  ) as XapiError;
  assert.deepEqual(error.params, ['GET /export?ref=1&session_id=***&task_id=2 by ***', '***']);
  assert.doesNotMatch(error.message, /hunter22|session-1|other/);
});

test('the password stays masked however many sessions follow', () => {
  const redactor = createRedactor();
  redactor.add('hunter22');
  for (let at = 0; at < 500; at += 1) redactor.add(`OpaqueRef:${at}`);
  assert.equal(redactor.text('hunter22 OpaqueRef:499'), '*** ***');
});

for (const [code, retry] of [
  ['VM_SNAPSHOT_WITH_QUIESCE_FAILED', 'after-fix'],
  ['VM_SNAPSHOT_WITH_QUIESCE_TIMEOUT', 'later'],
  ['VM_SNAPSHOT_WITH_QUIESCE_PLUGIN_DEOS_NOT_RESPOND', 'later'],
  ['VM_SNAPSHOT_WITH_QUIESCE_NOT_SUPPORTED', 'after-fix'],
  ['XEN_VSS_REQ_ERROR_PREPARING_WRITERS', 'after-fix'],
  ['MESSAGE_REMOVED', 'after-fix'],
] as const) {
  test(`${code} of a quiesced snapshot is the guest's failure, not the pool's`, () => {
    const error = translateQuiesce(new XapiError(code, ['vm']), 'make quiesced snapshot');
    assert.ok(isBackupError(error, 'quiesce_failed'));
    assert.equal(error.retry, retry);
    assert.match(error.message, new RegExp(`^make quiesced snapshot: .*code=${code}$`));
  });
}

test('what else a quiesced snapshot meets means what it means for a plain one', () => {
  const error = translateQuiesce(new XapiError('SR_BACKEND_FAILURE_44', ['', 'full', '']), 'make');
  assert.ok(isBackupError(error, 'snapshot_refused'));
});
