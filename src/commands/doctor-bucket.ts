/**
 * `doctor` on a bucket: every right and guarantee xvault uses, tried on scratch keys under `<prefix>probe/`.
 *
 * Nothing else is touched, and what was written is removed.
 */

import { isBackupError } from '../errors.ts';
import type { Cancellable, Clock, Ids, ObjectStore, StoreFacts } from '../ports.ts';
import { type Report, runCheck } from './doctor-checks.ts';
import { checkRules, type RulesInput } from './doctor-rules.ts';

/** Writers that try to create one key at once. */
const RACERS = 8;
const RACES = 3;
/** SigV4 refuses from 15 min on; leases allow for 15 s. */
const SKEW_WARN_MS = 10_000;
/** Object times have whole seconds. */
const CLOCK_GRAIN_MS = 2_000;

export interface BucketInput {
  store: ObjectStore;
  prefix: string;
  /** Archives go here; otherwise only state, which needs no multipart. */
  archives: boolean;
  /** Leases and jobs go here. */
  state: boolean;
  /** What its rules are to do; they are not looked at unless given. */
  rules?: RulesInput['wish'];
}

interface Look extends BucketInput, Cancellable {
  report: Report;
  clock: Clock;
  scratch: string;
}

/** Looks at one bucket. */
export async function checkBucket(
  input: BucketInput,
  deps: { report: Report; clock: Clock; ids: Ids },
  { signal }: Cancellable,
): Promise<void> {
  const { report, clock } = deps;
  const scratch = `${input.prefix}probe/doctor-${deps.ids.uuid()}`;
  const look: Look = { ...input, report, clock, scratch, signal };
  if (!(await checkObjects(look))) return;
  const facts = await runCheck({ check: 'store', report, signal }, (options) =>
    input.store.facts(options),
  );
  if (facts !== undefined) {
    report({
      check: 'store',
      state: 'info',
      text: `${facts.provider} at ${facts.endpoint}${facts.equalParts ? ', equal parts only' : ''}`,
    });
    if (input.state) await checkConditions(look, facts);
    if (input.archives) await checkMultipart(look, facts);
  }
  await checkDelete(look);
  const { rules: wish } = input;
  if (wish !== undefined) await checkRules({ ...input, facts, wish }, report, { signal });
}

/** Put, get, head and list; false when nothing further makes sense. */
async function checkObjects(look: Look): Promise<boolean> {
  const { store, scratch, report, signal, clock } = look;
  const before = clock.elapsed();
  const wroteAt = clock.now();
  const put = await runCheck({ check: 'write', report, signal }, (options) =>
    store.put(scratch, 'xvault doctor', options),
  );
  if (put === undefined) return false;
  const ms = Math.round(clock.elapsed() - before);
  report({ check: 'write', state: 'ok', text: `s3:PutObject works (${ms} ms with set-up)` });
  const got = await runCheck({ check: 'read', report, signal }, (options) =>
    store.get(scratch, options),
  );
  if (got !== undefined) {
    const same = Buffer.from(got.bytes).toString() === 'xvault doctor';
    report({
      check: 'read',
      state: same ? 'ok' : 'fail',
      text: same ? 's3:GetObject works' : 'what was written is not what is read',
    });
    reportSkew(look, got.lastModified - wroteAt);
  }
  const listed = await runCheck({ check: 'list', report, signal }, (options) =>
    store.list({ prefix: scratch }, options),
  );
  if (listed !== undefined) {
    const found = listed.objects.some((object) => object.key === scratch);
    report({
      check: 'list',
      state: found ? 'ok' : 'fail',
      text: found ? 's3:ListBucket works' : 'a new object is not listed at once',
    });
  }
  return true;
}

function reportSkew({ report }: Look, skewMs: number): void {
  const seconds = Math.round(Math.abs(skewMs) / 1000);
  const far = Math.abs(skewMs) > SKEW_WARN_MS;
  const text =
    Math.abs(skewMs) <= CLOCK_GRAIN_MS
      ? 'same time as the store'
      : `this clock is ${seconds} s off the store's`;
  report({
    check: 'clock',
    state: far ? 'warn' : 'ok',
    text,
    ...(far ? { mend: 'Run NTP here: signatures and leases depend on the time.' } : {}),
  });
}

/** Leases need writes that exactly one of several wins. */
async function checkConditions(look: Look, facts: StoreFacts): Promise<void> {
  const { store, report, signal } = look;
  const mend =
    'Run one instance only, or set XVAULT_STATE_BUCKET to a bucket whose conditional writes are atomic (unversioned).';
  if (!facts.conditionalWrites) {
    const text = 'conditional writes are not honoured: two instances could work on one machine';
    report({ check: 'conditional writes', state: 'warn', text, mend });
    return;
  }
  for (let race = 0; race < RACES; race++) {
    const key = `${look.scratch}-race-${race}`;
    const wins = await runCheck({ check: 'conditional writes', report, signal }, (options) =>
      countWinners(store, key, options),
    );
    if (wins === undefined) return;
    if (wins !== 1) {
      const text = `${wins} of ${RACERS} racing creates succeeded, it must be one`;
      report({ check: 'conditional writes', state: 'fail', text, mend });
      return;
    }
  }
  const text = `honoured and atomic in ${RACES} races of ${RACERS}`;
  report({ check: 'conditional writes', state: 'ok', text });
}

async function countWinners(
  store: ObjectStore,
  key: string,
  options: Cancellable,
): Promise<number> {
  const racers = Array.from({ length: RACERS }, async (_, at) => {
    try {
      await store.put(key, `racer ${at}`, { ...options, ifAbsent: true });
      return true;
    } catch (error) {
      if (isBackupError(error, 'precondition_failed')) return false;
      throw error;
    }
  });
  const results = await Promise.all(racers);
  await store.delete(key, options).catch(() => undefined); // reported by its own check
  return results.filter(Boolean).length;
}

async function checkMultipart(look: Look, facts: StoreFacts): Promise<void> {
  const { store, report, signal, scratch } = look;
  const input = { contentType: 'application/octet-stream', stagingPrefix: `${scratch}-staging/` };
  const bytes = Buffer.alloc(1000, 7);
  const stored = await runCheck({ check: 'multipart', report, signal }, async (options) => {
    await using upload = await store.beginUpload({ ...input, key: `${scratch}-parts` }, options);
    await upload.write(bytes, options);
    return await upload.complete(options);
  });
  if (stored !== undefined) {
    const sum = stored.checksum === undefined ? '' : ', with a checksum of the whole object';
    report({ check: 'multipart', state: 'ok', text: `multipart uploads work${sum}` });
    await store.delete(`${scratch}-parts`, { signal }).catch(() => undefined);
  }
  await runCheck({ check: 'abort', report, signal }, async (options) => {
    const key = `${scratch}-aborted`;
    const upload = await store.beginUpload({ ...input, key }, options);
    await upload[Symbol.asyncDispose]();
    const left = await store.listUploads(scratch, options);
    const gone = !left.some((one) => one.key === key);
    report({
      check: 'abort',
      state: gone ? 'ok' : 'warn',
      text: gone ? 'aborted uploads leave nothing' : 'an aborted upload is still listed',
      ...(gone
        ? {}
        : {
            mend: 'Allow s3:AbortMultipartUpload, or what failed backups have sent is paid for until a rule of the bucket removes it.',
          }),
    });
  });
  report({
    check: 'part copy',
    state: 'info',
    text: facts.copyParts
      ? 'parts can be copied inside the store'
      : 'parts cannot be copied: archives are limited to 10,000 parts and sent whole',
  });
}

async function checkDelete({ store, report, signal, scratch }: Look): Promise<void> {
  try {
    await store.delete(scratch, { signal });
    report({ check: 'delete', state: 'ok', text: 's3:DeleteObject works for state and probes' });
  } catch (error) {
    if (!isBackupError(error)) throw error;
    report({
      check: 'delete',
      state: 'warn',
      text: error.message,
      code: error.code,
      mend: 'Allow s3:DeleteObject on leases/, staging/ and probe/; it is not needed on backups/.',
    });
  }
}
