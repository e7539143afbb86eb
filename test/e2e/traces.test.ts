/** Traces as a collector gets them from the program itself: off unless asked for, connected, and without a secret. */
import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { startWebReceiver } from '../notify/receiver.ts';
import { startSimPool } from '../sim/pool.ts';
import { startSimS3 } from '../sim/s3/index.ts';
import { type SeenSpan, startCollector } from './otlp.ts';
import { settingsFor, startProgram } from './program.ts';
import { SMALL_MACHINES } from './small-machines.ts';
import { BUCKET } from './world.ts';

const TRACE = 'a'.repeat(32);
const PARENT = 'b'.repeat(16);
const SECRET = 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw';

/** A preloaded module that tells on stderr which of OpenTelemetry's files are loaded. */
const SPY = `data:text/javascript,${encodeURIComponent(
  "import{registerHooks}from'node:module';registerHooks({load(u,c,n){" +
    "if(/sdk-trace|otlp/.test(u)||u.endsWith('/src/traces.ts'))process._rawDebug('LOADED '+u);return n(u,c)}})",
)}`;

async function startGround() {
  const sim = await startSimPool({ machines: SMALL_MACHINES });
  const s3 = await startSimS3({ buckets: [BUCKET], etag: 'fast' });
  const env = { ...settingsFor(sim, s3), NODE_OPTIONS: `--import ${SPY}` };
  return {
    env,
    [Symbol.asyncDispose]: async () => {
      await sim.close();
      await s3.close();
    },
  };
}

async function serve(env: Record<string, string>) {
  const program = startProgram(['serve'], env);
  const { url } = JSON.parse(await program.saw('"listening"'));
  const call = async (method: string, path: string, init: RequestInit = {}) => {
    const headers = { prefer: 'wait=50', ...init.headers };
    const answer = await fetch(`${url}${path}`, { ...init, method, headers });
    return (await answer.json()) as Record<string, unknown>;
  };
  return {
    program,
    call,
    post: (path: string, headers: Record<string, string> = {}, body = {}) =>
      call('POST', path, {
        headers: { 'content-type': 'application/json', ...headers },
        body: JSON.stringify(body),
      }),
    stop: async () => {
      program.child.kill('SIGTERM');
      assert.equal(await program.ended, 0, program.output.err);
      return program.output;
    },
  };
}

test('without an endpoint nothing of it is loaded', async () => {
  await using ground = await startGround();
  const server = await serve(ground.env);
  const job = await server.post('/v1/vms/other/backups', {
    traceparent: `00-${TRACE}-${PARENT}-01`,
  });
  assert.equal(job.status, 'succeeded', JSON.stringify(job));
  const { err } = await server.stop();
  assert.doesNotMatch(err, /LOADED/);
});

test('a backup is one trace, from the caller to the calls; a run and its jobs are linked', async (t) => {
  await using ground = await startGround();
  await using collector = await startCollector();
  await using receiver = await startWebReceiver();
  const folder = await mkdtemp(join(tmpdir(), 'xvault-traces-'));
  t.after(() => rm(folder, { recursive: true, force: true }));
  const [file, ca] = [join(folder, 'notify.json'), join(folder, 'ca.pem')];
  await writeFile(ca, receiver.caPem);
  const hook = {
    name: 'ops',
    kind: 'webhook',
    url: receiver.origin,
    secret: SECRET,
    ca_file: ca,
  };
  const events = { name: 'bus', kind: 'cloudevents', url: `${receiver.origin}/bus`, ca_file: ca };
  await writeFile(file, JSON.stringify([hook, events]));
  const server = await serve({
    ...ground.env,
    XVAULT_NOTIFY_FILE: file,
    OTEL_EXPORTER_OTLP_ENDPOINT: collector.url,
    OTEL_EXPORTER_OTLP_HEADERS: 'authorization=Bearer%20of-the-collector',
    OTEL_RESOURCE_ATTRIBUTES: 'deployment.environment.name=test',
  });
  const job = await server.post('/v1/vms/app/backups', { traceparent: `00-${TRACE}-${PARENT}-01` });
  assert.equal(job.status, 'succeeded', JSON.stringify(job));
  const begun = await server.post('/v1/runs', {}, { select: { names: ['other'] } });
  const run = await server.call('GET', `/v1/runs/${begun.id}`);
  assert.equal(run.status, 'succeeded', JSON.stringify(run));
  const missing = await server.post(`/v1/vms/${'nobody'.repeat(500)}/backups`);
  assert.equal(missing.code, 'not_found');
  const { out, err } = await server.stop();
  assert.match(err, /LOADED .*exporter-trace-otlp-proto/);

  const { spans } = collector;
  const ours = spans.filter(({ traceId }) => traceId === TRACE);
  assertTree(ours);
  assertAttributes(spans, ours, String(job.id));
  assertRun(spans);

  // nothing else is sent: probes, sweeps and heartbeats are nobody's trace, parts and looks are too many
  assert.deepEqual(
    [...new Set(spans.filter(({ parentId }) => parentId === '').map(({ name }) => name))].sort(),
    ['GET /v1/runs/{id}', 'POST /v1/runs', 'POST /v1/vms/{vm}/backups', 'begin job'],
  );
  assert.doesNotMatch(spans.map(({ name }) => name).join(), /UploadPart|task\.get/);
  // whatever strangers send, what waits to be sent is bounded
  const paths = spans.map(({ attributes }) => String(attributes['url.path']));
  assert.equal(Math.max(...paths.map(({ length }) => length)), 1_024);
  for (const { path, headers } of collector.requests) {
    assert.equal(path, '/v1/traces');
    assert.equal(headers.authorization, 'Bearer of-the-collector');
  }
  // lines of that work can be found by it, and programs that are told can go on with it
  const lines = out.split('\n').filter((line) => line.includes(String(job.id)));
  for (const what of ['"job begins"', '"job ended"']) {
    assert.match(lines.find((line) => line.includes(what)) ?? '', RegExp(TRACE), what);
  }
  const told = receiver.posts.filter(({ body }) => body.includes(String(job.id)));
  assert.equal(told.length, 4);
  for (const { path, body, headers } of told) {
    assert.match(String(headers.traceparent), RegExp(`^00-${TRACE}-`));
    if (path === '/bus') assert.equal(JSON.parse(body).traceparent, headers.traceparent);
  }
});

/** Every span hangs on another of the trace, and on the right one. */
function assertTree(spans: readonly SeenSpan[]): void {
  const byId = new Map(spans.map((span) => [span.spanId, span]));
  const pathOf = ({ name, parentId }: SeenSpan): string => {
    if (parentId === PARENT) return name;
    const parent = byId.get(parentId);
    assert.ok(parent, `${name} hangs on nothing`);
    return `${pathOf(parent)} > ${name}`;
  };
  const paths = new Set(spans.map(pathOf));
  const request = 'POST /v1/vms/{vm}/backups';
  const job = `${request} > job backup`;
  for (const path of [
    request,
    job,
    `${job} > phase preparing`,
    `${job} > phase snapshotting > Async.VM.snapshot`,
    `${job} > phase exporting > S3.CreateMultipartUpload`,
    `${job} > phase exporting > S3.CompleteMultipartUpload`,
    `${job} > phase finishing > S3.PutObject`,
    `${job} > phase cleaning > Async.VM.destroy`,
    `${job} > notify webhook`,
    `${job} > notify cloudevents`,
    `${request} > tell end > notify webhook`,
  ]) {
    assert.ok(paths.has(path), `no ${path} in\n${[...paths].sort().join('\n')}`);
  }
}

function assertAttributes(
  all: readonly SeenSpan[],
  ours: readonly SeenSpan[],
  jobId: string,
): void {
  const one = (name: string) => ours.find((span) => span.name === name) as SeenSpan;
  const request = one('POST /v1/vms/{vm}/backups');
  assert.equal(request.kind, 2);
  assert.equal(request.attributes['http.request.method'], 'POST');
  assert.equal(request.attributes['http.route'], '/v1/vms/{vm}/backups');
  assert.ok(Number(request.attributes['http.response.status_code']) < 300);
  const job = one('job backup');
  assert.equal(job.attributes['xvault.job.id'], jobId);
  assert.equal(job.attributes['xvault.job.status'], 'succeeded');
  assert.ok(Number(job.attributes['xvault.sent_bytes']) > 0);
  const complete = one('S3.CompleteMultipartUpload');
  assert.equal(complete.kind, 3);
  assert.equal(complete.attributes['aws.s3.bucket'], BUCKET);
  assert.match(String(complete.attributes['aws.s3.key']), /\.xva$/);
  for (const { resource, startNs, endNs, name } of all) {
    assert.equal(resource['service.name'], 'xvault');
    assert.equal(resource['deployment.environment.name'], 'test');
    assert.ok(endNs >= startNs, name);
  }
}

/** A night of hundreds of machines is not one trace: each job has its own, linked to the run's. */
function assertRun(spans: readonly SeenSpan[]): void {
  const run = spans.find(({ name }) => name === 'run') as SeenSpan;
  assert.equal(run.attributes['xvault.run.status'], 'succeeded');
  const begun = spans.find(({ name }) => name === 'begin job') as SeenSpan;
  assert.notEqual(begun.traceId, run.traceId);
  assert.deepEqual(begun.links, [{ traceId: run.traceId, spanId: run.spanId }]);
  const job = spans.find(({ name, traceId }) => name === 'job backup' && traceId === begun.traceId);
  assert.equal(job?.parentId, begun.spanId);
}
