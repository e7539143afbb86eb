/** What only a real socket shows of the HTTP front: callers that leave, HEAD, bodies cut off, closing. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { type TestContext, test } from 'node:test';
import { serve } from '@hono/node-server';
import { ALL, createHarness } from './harness.ts';
import { exampleJob } from './records.ts';

const ID = exampleJob().id;

async function listening(t: TestContext) {
  const harness = createHarness();
  const server = serve({ fetch: harness.app.fetch, port: 0, hostname: '127.0.0.1' }) as http.Server;
  await once(server, 'listening');
  const agent = new http.Agent({ keepAlive: false });
  t.after(() => {
    agent.destroy();
    server.closeAllConnections();
    server.close();
  });
  const { port } = server.address() as AddressInfo;
  const open = (method: string, path: string, headers: Record<string, string> = {}) =>
    http.request({ port, host: '127.0.0.1', agent, method, path, headers: { ...ALL, ...headers } });
  const answer = async (request: http.ClientRequest): Promise<http.IncomingMessage> => {
    request.end();
    const [response] = (await once(request, 'response')) as [http.IncomingMessage];
    return response;
  };
  return { ...harness, open, answer };
}

async function until(condition: () => boolean): Promise<void> {
  for (let turn = 0; turn < 100_000 && !condition(); turn++) await new Promise(setImmediate);
  assert.ok(condition());
}

test('events arrive as they happen, and a reader that hangs up is forgotten', async (t) => {
  const { open, answer, service, clock } = await listening(t);
  service.change(ID, exampleJob());
  const request = open('GET', `/v1/jobs/${ID}/events`);
  const response = await answer(request);
  assert.equal(response.headers['cache-control'], 'no-store');
  const [first] = (await once(response, 'data')) as [Buffer];
  assert.match(first.toString(), /^retry: 5000\nevent: state\ndata: \{/);
  service.change(ID, { phase: 'finishing' });
  const [second] = (await once(response, 'data')) as [Buffer];
  assert.match(second.toString(), /^event: phase\n/);
  await until(() => service.watchers === 1);
  request.destroy();
  await until(() => service.watchers === 0 && clock.sleepers === 0);
});

test('a caller that stops waiting is forgotten', async (t) => {
  const { open, service } = await listening(t);
  service.change(ID, exampleJob());
  const request = open('GET', `/v1/jobs/${ID}`, { prefer: 'wait=50' });
  request.on('error', () => undefined); // its own hanging up
  request.end();
  await until(() => service.watchers === 1);
  request.destroy();
  await until(() => service.watchers === 0);
});

test('HEAD has the headers of GET and keeps no stream open', async (t) => {
  const { open, answer, service, clock } = await listening(t);
  service.change(ID, exampleJob());
  const job = await answer(open('HEAD', `/v1/jobs/${ID}`));
  assert.equal(job.statusCode, 200);
  assert.match(String(job.headers.etag), /^W\//);
  job.resume();
  const events = await answer(open('HEAD', `/v1/jobs/${ID}/events`));
  assert.equal(events.headers['content-type'], 'text/event-stream');
  events.resume();
  await until(() => service.watchers === 0 && clock.sleepers === 0);
});

test('too large a body is refused, whether its length was told or not', async (t) => {
  const { open } = await listening(t);
  const body = Buffer.alloc(1024 * 1024 + 1, 0x20);
  for (const headers of [{ 'content-length': String(body.length) }, {}]) {
    const request = open('POST', '/v1/vms/web-1/backups', {
      'content-type': 'application/json',
      ...headers,
    });
    request.on('error', () => undefined); // the rest of the body may meet a closed socket
    request.end(body);
    const [response] = (await once(request, 'response')) as [http.IncomingMessage];
    assert.equal(response.statusCode, 413);
    assert.equal(response.headers['content-type'], 'application/problem+json');
    response.resume();
  }
});

test('a loopback instance without tokens looks at the Host of the request itself', async (t) => {
  const harness = createHarness({ loopbackWithoutToken: true }, []);
  const server = serve({ fetch: harness.app.fetch, port: 0, hostname: '127.0.0.1' }) as http.Server;
  await once(server, 'listening');
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  const { port } = server.address() as AddressInfo;
  for (const [host, status] of [
    [`localhost:${port}`, 200],
    [`evil.example:${port}`, 403],
  ] as const) {
    const request = http.get({ port, host: '127.0.0.1', path: '/v1/jobs', headers: { host } });
    const [response] = (await once(request, 'response')) as [http.IncomingMessage];
    assert.equal(response.statusCode, status);
    response.resume();
  }
});
