import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { test } from 'node:test';
import { createSimClock } from '../test/sim/clock.ts';
import { BackupError } from './errors.ts';
import { createLog } from './log.ts';
import type { Clock } from './ports.ts';
import { readTraceSettings } from './settings-traces.ts';
import { startTraces } from './traces.ts';

const ENDPOINT = { OTEL_EXPORTER_OTLP_ENDPOINT: 'http://collector:4318' };
const EVERYTHING = { sampler: { kind: 'on', ratio: 1, parentBased: true } };

test('an endpoint turns traces on, the standard’s switches turn them off', () => {
  const on = { traces: EVERYTHING, warnings: [] };
  assert.deepEqual(readTraceSettings(ENDPOINT), on);
  const own = { OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: 'https://collector/x' };
  assert.deepEqual(readTraceSettings(own), on);
  for (const env of [
    {},
    { OTEL_EXPORTER_OTLP_ENDPOINT: ' ' },
    { ...ENDPOINT, OTEL_SDK_DISABLED: 'True' },
    { ...ENDPOINT, OTEL_TRACES_EXPORTER: 'none' },
  ]) {
    assert.deepEqual(readTraceSettings(env), { warnings: [] });
  }
});

test('what cannot be followed is a warning and no reason not to start, and shows no address', () => {
  for (const [env, says] of [
    [{ OTEL_TRACES_EXPORTER: 'zipkin' }, /zipkin/],
    [{ OTEL_EXPORTER_OTLP_PROTOCOL: 'grpc' }, /grpc.*4318/],
    [{ OTEL_EXPORTER_OTLP_ENDPOINT: 'user:secret@collector' }, /no http or https address/],
  ] as const) {
    const { traces, warnings } = readTraceSettings({ ...ENDPOINT, ...env });
    assert.equal(traces, undefined);
    assert.match(warnings.join(), says);
    assert.doesNotMatch(warnings.join(), /secret/);
  }
});

test('the sampler is read as the standard has it', () => {
  const sampler = (name: string, arg?: string) =>
    readTraceSettings({ ...ENDPOINT, OTEL_TRACES_SAMPLER: name, OTEL_TRACES_SAMPLER_ARG: arg });
  assert.deepEqual(sampler('parentbased_traceidratio', '0.25').traces?.sampler, {
    kind: 'ratio',
    ratio: 0.25,
    parentBased: true,
  });
  assert.equal(sampler('always_off').traces?.sampler.kind, 'off');
  for (const wrong of [sampler('sometimes'), sampler('traceidratio', '7')]) {
    assert.equal(wrong.traces?.sampler.ratio, 1);
    assert.equal(wrong.warnings.length, 1);
  }
});

/** Time goes by at once: nothing is waited for. */
const HASTY = { now: Date.now, elapsed: () => 0, sleep: async () => {} };

async function start(lines: string[] = [], clock: Clock = HASTY) {
  const log = createLog({ level: 'info', write: (line) => lines.push(line) });
  return await startTraces(EVERYTHING as never, { log, clock, version: '0' });
}

test('a collector that is away costs neither the work nor its end, and is told of', async () => {
  // nobody listens on the discard port
  process.env.OTEL_EXPORTER_OTLP_ENDPOINT = 'http://user:secret@127.0.0.1:9';
  const lines: string[] = [];
  const clock = createSimClock();
  const { tracer, stop } = await start(lines, clock);
  const answer = await tracer.span('work', { root: true }, async () => 42);
  assert.equal(answer, 42);
  assert.deepEqual(lines, []);
  const stopped = stop();
  await clock.advance(3000);
  await stopped;
  assert.equal(lines.length, 1);
  assert.match(
    String(lines),
    /"level":"warn".*no answer before the process ended.*traces not sent/,
  );
  assert.doesNotMatch(String(lines), /secret/);
});

test('a collector whose answer never ends is told of', async (t) => {
  const asked = Promise.withResolvers<void>();
  const server = createServer((request, response) => {
    response.writeHead(200).write('x');
    request.resume().on('end', asked.resolve);
  });
  await once(server.listen(0, '127.0.0.1'), 'listening');
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  const { port } = server.address() as AddressInfo;
  process.env.OTEL_EXPORTER_OTLP_ENDPOINT = `http://127.0.0.1:${port}`;
  const lines: string[] = [];
  const clock = createSimClock();
  const { tracer, stop } = await start(lines, clock);
  // as many as leave at once
  for (let n = 0; n < 512; n++) await tracer.span('work', { root: true }, async () => n);
  await asked.promise;
  await clock.advance(29_999);
  assert.deepEqual(lines, []);
  await clock.advance(1);
  assert.equal(lines.length, 1);
  assert.match(String(lines), /"level":"warn".*"spans":512,"reason":"no whole answer in 30 s"/);
  const stopped = stop();
  await clock.advance(3000);
  await stopped;
});

test('work goes on from its parent, in its own frame, and log lines say which', async () => {
  const lines: string[] = [];
  const { tracer, log, stop } = await start(lines);
  const traceId = 'c'.repeat(32);
  const parent = `00-${traceId}-${'d'.repeat(16)}-01`;
  await tracer.span('request', { root: true, parent }, async () => {
    assert.equal(tracer.active()?.traceId, traceId);
    log.child({ job_id: 'j' }).info('inside');
    tracer.outside(() => assert.equal(tracer.active(), undefined));
    await tracer.span('other', { root: true }, async () => {
      assert.notEqual(tracer.active()?.traceId, traceId);
    });
    const outer = tracer.active()?.spanId;
    await tracer.quietly(() =>
      tracer.span('call', { kind: 'client' }, async () => {
        assert.equal(tracer.active()?.spanId, outer, 'a quiet call is no span');
      }),
    );
    const fails = tracer.span('call', { quiet: true }, async () => {
      throw new BackupError('store_refused', 'put object');
    });
    await assert.rejects(fails, { code: 'store_refused' });
  });
  log.info('outside');
  const [inside, outside] = lines.map((line) => JSON.parse(line));
  assert.equal(inside.trace_id, traceId);
  assert.match(inside.span_id, /^[0-9a-f]{16}$/);
  assert.equal(outside.trace_id, undefined);
  await stop();
});

test('a traceparent that is none begins a trace of its own', async () => {
  const { tracer, stop } = await start();
  for (const parent of [
    '',
    'x',
    `00-${'0'.repeat(32)}-${'d'.repeat(16)}-01`,
    `ff-${'c'.repeat(32)}-${'d'.repeat(16)}-01`,
  ]) {
    await tracer.span('request', { root: true, parent }, async () => {
      assert.notEqual(tracer.active()?.traceId, 'c'.repeat(32));
    });
  }
  await stop();
});
