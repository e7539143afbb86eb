/**
 * A guest's hook receiver: a real HTTPS server that checks every signature by itself.
 *
 * The check is written from the Standard Webhooks specification with node:crypto and shares nothing with the library
 * that signs. What is answered is decided by the test, call by call.
 */
import { createHmac, timingSafeEqual } from 'node:crypto';
import type { IncomingHttpHeaders, IncomingMessage, ServerResponse } from 'node:http';
import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { createCertificate } from '../sim/xapi/certificate.ts';

export const HOOK_SECRET = 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw';
/** As the specification recommends. */
const TOLERANCE_SECONDS = 300;

export interface ReceivedHook {
  path: string;
  headers: IncomingHttpHeaders;
  body: string;
  /** False when the signature is wrong or too old. */
  verified: boolean;
  id: string;
  phase: 'before_snapshot' | 'after_snapshot' | 'verdict';
  data: Record<string, unknown> & { round: number; snapshot_taken?: boolean };
}

export interface HookAnswer {
  status?: number;
  headers?: Record<string, string>;
  body?: string;
}

/** Decides the answer; may wait, and 'silent' never answers. */
export type Respond = (
  call: ReceivedHook,
) => HookAnswer | 'silent' | undefined | Promise<HookAnswer | undefined>;

export interface HookReceiver extends AsyncDisposable {
  /** https://<name>:<port> */
  readonly origin: string;
  readonly port: number;
  readonly caPem: string;
  readonly calls: ReceivedHook[];
  respond: Respond;
}

/** True when one of the signatures is right and the stamp is recent. */
export function verifySignature(
  { headers, body }: { headers: IncomingHttpHeaders; body: string },
  { secret, nowSeconds }: { secret: string; nowSeconds: number },
): boolean {
  const id = String(headers['webhook-id']);
  const stamp = String(headers['webhook-timestamp']);
  if (Math.abs(Number(stamp) - nowSeconds) > TOLERANCE_SECONDS) return false;
  const key = Buffer.from(secret.replace(/^whsec_/, ''), 'base64');
  const wanted = createHmac('sha256', key).update(`${id}.${stamp}.${body}`).digest();
  return String(headers['webhook-signature'])
    .split(' ')
    .filter((one) => one.startsWith('v1,'))
    .map((one) => Buffer.from(one.slice(3), 'base64'))
    .some((given) => given.length === wanted.length && timingSafeEqual(given, wanted));
}

/** Starts a receiver on a free loopback port, with a certificate for `name`. */
export async function startHookReceiver(
  input: { name?: string; secret?: string; respond?: Respond } = {},
): Promise<HookReceiver> {
  const { name = '127.0.0.1', secret = HOOK_SECRET } = input;
  const { certPem, keyPem } = createCertificate({ address: name, serial: 77, nowMs: Date.now() });
  const calls: ReceivedHook[] = [];
  const handle = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const call = await receive(request, secret);
    calls.push(call);
    const answer = await self.respond(call);
    if (answer === 'silent') return;
    response.writeHead(answer?.status ?? 204, answer?.headers).end(answer?.body);
  };
  const server = createServer({ cert: certPem, key: keyPem }, (request, response) => {
    handle(request, response).catch((error) => response.destroy(error));
  });
  const { promise, resolve } = Promise.withResolvers<void>();
  server.listen(0, '127.0.0.1', resolve);
  await promise;
  const { port } = server.address() as AddressInfo;
  const self: HookReceiver = {
    origin: `https://${name}:${port}`,
    port,
    caPem: certPem,
    calls,
    respond: input.respond ?? (() => undefined),
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections();
      await new Promise((done) => server.close(done));
    },
  };
  return self;
}

async function receive(request: IncomingMessage, secret: string): Promise<ReceivedHook> {
  const { headers, url: path = '' } = request;
  let body = '';
  for await (const piece of request.setEncoding('utf8')) body += piece;
  const nowSeconds = Date.now() / 1000;
  const { data } = JSON.parse(body) as { data: ReceivedHook['data'] };
  return {
    path,
    headers,
    body,
    data,
    id: String(headers['webhook-id']),
    phase: data.phase as ReceivedHook['phase'],
    verified: verifySignature({ headers, body }, { secret, nowSeconds }),
  };
}
