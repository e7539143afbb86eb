import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Clock } from '../ports.ts';
import { classify, errorFacts, type Failure, retry } from './retry.ts';

const { signal } = new AbortController();
const budget = { attempts: 4, baseMs: 100, capMs: 300 };

function answered(status: number, code: string, headers: Record<string, string> = {}): Error {
  return Object.assign(new Error(code), {
    name: code,
    $metadata: { httpStatusCode: status },
    $response: { statusCode: status, headers },
  });
}

const broken = (code: string) => Object.assign(new Error(code), { code });

function recordingClock() {
  const waits: number[] = [];
  const clock: Clock = {
    now: () => 0,
    elapsed: () => 0,
    sleep: async (ms) => {
      waits.push(ms);
    },
  };
  return { clock, waits };
}

test('every failure has one meaning', () => {
  const cases: [unknown, Failure][] = [
    [answered(503, 'SlowDown'), 'refused'],
    [answered(503, 'ServiceUnavailable'), 'unclear'],
    [answered(500, 'InternalError'), 'unclear'],
    [answered(200, 'InternalError'), 'unclear'],
    [answered(502, 'Unknown'), 'unclear'],
    [answered(429, 'TooManyRequests'), 'refused'],
    [answered(400, 'RequestTimeout'), 'refused'],
    [answered(400, 'BadDigest'), 'refused'],
    [answered(400, 'InvalidPart'), 'final'],
    [answered(403, 'AccessDenied'), 'final'],
    [answered(404, 'NoSuchUpload'), 'final'],
    [answered(412, 'PreconditionFailed'), 'final'],
    [answered(501, 'NotImplemented'), 'final'],
    [answered(200, 'SyntaxError'), 'unclear'],
    [broken('ECONNREFUSED'), 'refused'],
    [broken('ECONNRESET'), 'unclear'],
    [broken('HPE_INVALID_HEADER_TOKEN'), 'unclear'],
    [Object.assign(new Error('idle'), { name: 'TimeoutError' }), 'unclear'],
    [Object.assign(new AggregateError([broken('ECONNREFUSED')]), {}), 'refused'],
    [broken('DEPTH_ZERO_SELF_SIGNED_CERT'), 'final'],
    [new TypeError('a bug'), 'final'],
  ];
  for (const [error, expected] of cases) {
    assert.equal(classify(errorFacts(error)), expected, String(error));
  }
});

test('waits double up to the cap, their upper half at random', async () => {
  const { clock, waits } = recordingClock();
  const draws = [0, 1, 0.5];
  const random = () => draws.shift() ?? 0;
  const failing = async () => {
    throw answered(503, 'ServiceUnavailable');
  };
  await assert.rejects(retry(failing, { clock, random }, { budget, signal }), {
    name: 'ServiceUnavailable',
  });
  assert.deepEqual(waits, [50, 200, 225]);
});

test('a longer wait asked for by the store is kept, up to a minute', async () => {
  const { clock, waits } = recordingClock();
  const errors = [
    answered(503, 'SlowDown', { 'retry-after': '7' }),
    answered(503, 'SlowDown', { 'retry-after': '7200' }),
  ];
  const attempt = async () => {
    const error = errors.shift();
    if (error) throw error;
    return 'done';
  };
  assert.equal(await retry(attempt, { clock, random: () => 0 }, { budget, signal }), 'done');
  assert.deepEqual(waits, [7000, 60_000]);
});

test('a skewed clock is signed anew once, and no more', async () => {
  const { clock } = recordingClock();
  let tries = 0;
  const attempt = async () => {
    tries += 1;
    throw answered(403, 'RequestTimeTooSkewed');
  };
  await assert.rejects(retry(attempt, { clock, random: () => 0 }, { budget, signal }));
  assert.equal(tries, 2);
});

test('what cannot help is not repeated', async () => {
  const { clock, waits } = recordingClock();
  const attempt = async () => {
    throw answered(403, 'AccessDenied');
  };
  await assert.rejects(retry(attempt, { clock, random: () => 0 }, { budget, signal }));
  assert.deepEqual(waits, []);
});

test('an abort between tries ends them with its reason', async () => {
  const { clock } = recordingClock();
  const controller = new AbortController();
  const attempt = async () => {
    controller.abort(new Error('enough'));
    throw answered(503, 'SlowDown');
  };
  await assert.rejects(
    retry(attempt, { clock, random: () => 0 }, { budget, signal: controller.signal }),
    /enough/,
  );
});
