/**
 * PUT /import: a machine from a stream.
 *
 * Source: xen-api `ocaml/xapi/import.ml` (handler), `xapi_http.ml`. Order: credentials; the storage (sr_id, sr_uuid, else
 * the pool's default), whose errors are an HTTP 500 page and leave the task alone, so that it stays pending; can this
 * host see the storage (else 302, decided without a byte of the body); only then the task is taken, progress 0. Refusals
 * are a bare head (400, 403) with a whole HTTP 500 behind it. Else `200 OK` goes out before the body is read, errors are
 * appended to it, and the connection is dropped after the last needed block. Only the task tells how it ended.
 *
 * Not simulated: a body with neither Content-Length nor chunks (node:http reads none then), /import_metadata.
 */
import type { IncomingMessage } from 'node:http';
import type { Socket } from 'node:net';
import { misdirected } from './export-host.ts';
import { authenticate, type HandlerRequest, parameter, readRequest } from './http-auth.ts';
import { failImport, HostDied, importMachine, settleImport } from './import-machine.ts';
import { bareRefusal, drop, importHead, internalError, redirect, refusal } from './raw-answer.ts';
import { type Sim, type SimHost, seesStorage, serverName } from './sim.ts';
import { createTask, endTask, setProgress } from './tasks.ts';
import { map, text, toXenError, XenError } from './values.ts';

/** One request of an import, of a machine or of a disk. */
export interface ImportExchange {
  sim: Sim;
  host: SimHost;
  message: IncomingMessage;
  socket: Socket;
  request: HandlerRequest;
  /** Aborted when the client hangs up or the pool closes. */
  signal: AbortSignal;
}

/** Finds out who calls, then runs `work`; what it throws becomes a page. */
export async function withCaller(
  sim: Sim,
  input: { host: SimHost; message: IncomingMessage; signal: AbortSignal },
  work: (exchange: ImportExchange) => Promise<void>,
): Promise<void> {
  const { host, message, signal } = input;
  const { socket, httpVersion } = message;
  const request = readRequest(sim, message);
  const header = message.headers.authorization;
  const caller = await authenticate(sim, { host, request, header, signal });
  if (caller === 'unauthorised') {
    const challenge = ['WWW-Authenticate', 'Basic realm="XenServer"'] as const;
    return drop(socket, refusal('401 Unauthorized', [challenge]));
  }
  try {
    await work({ sim, host, message, socket, request, signal });
  } catch (error) {
    if (error instanceof HostDied) socket.destroy();
    else await drop(socket, internalError(httpVersion, toXenError(error).message));
  } finally {
    if (caller.own && sim.world.find('session', caller.session) !== undefined) {
      sim.world.destroy('session', caller.session);
    }
  }
}

/** PUT /import; the socket is the handler's until it closes. */
export function handleImport(
  sim: Sim,
  host: SimHost,
  message: IncomingMessage,
  signal: AbortSignal,
): Promise<void> {
  return withCaller(sim, { host, message, signal }, async (exchange) => {
    const sr = storageOf(sim, exchange.request) ?? defaultStorage(sim);
    const elsewhere = redirectFor(exchange, sr);
    if (elsewhere !== undefined) return drop(exchange.socket, elsewhere);
    if (sim.faults.take('import-no-response') !== undefined) return drop(exchange.socket);
    await withTask(sim, exchange.request, 'VM.import', (task) => importVm(exchange, sr, task));
  });
}

/** The storage a request names: HANDLE_INVALID never (a wrong ref is seen by no host), UUID_INVALID. */
export function storageOf(sim: Sim, request: HandlerRequest): string | undefined {
  const ref = parameter(request, 'sr_id');
  if (ref !== undefined) return ref;
  const uuid = parameter(request, 'sr_uuid');
  if (uuid === undefined) return undefined;
  const found = sim.world.findByUuid('SR', uuid);
  if (found === undefined) throw new XenError('UUID_INVALID', ['SR', uuid]);
  return found.ref;
}

function defaultStorage(sim: Sim): string {
  const ref = text(sim.world.get('pool', sim.poolRef), 'default_SR');
  if (sim.world.find('SR', ref) === undefined) throw new XenError('DEFAULT_SR_NOT_FOUND', [ref]);
  return ref;
}

/** A 302 to a host that sees the storage, or undefined when this one does; NO_HOSTS_AVAILABLE when none does. */
export function redirectFor(exchange: ImportExchange, sr: string): string | undefined {
  const { sim, host, socket, request } = exchange;
  // a real host always says https; the plain pool of tests has nothing else than http
  const scheme = 'encrypted' in socket ? 'https' : 'http';
  const to = (authority: string) =>
    redirect(`${scheme}://${authority}${request.path}?${request.rawQuery}`);
  const wrong = misdirected(sim, host);
  if (wrong !== undefined) return to(wrong);
  if (seesStorage(sim, host.ref, [sr])) return undefined;
  const other = sim.hosts.find((candidate) => seesStorage(sim, candidate.ref, [sr]));
  if (other === undefined) throw new XenError('NO_HOSTS_AVAILABLE');
  return to(`${other.address}:${other.port}`);
}

/** Takes the client's task over, or makes one that goes with the request. */
export async function withTask(
  sim: Sim,
  request: HandlerRequest,
  label: string,
  work: (task: string) => Promise<void>,
): Promise<void> {
  const given = parameter(request, 'task_id');
  if (given !== undefined) sim.world.get('task', given);
  const task = given ?? createTask(sim, label);
  setProgress(sim, task, 0);
  try {
    await work(task);
  } finally {
    if (given === undefined && sim.world.find('task', task) !== undefined) {
      sim.world.destroy('task', task);
    }
  }
}

/** What is wrong with the request itself: a head to send and the error of the task. */
function refuse(
  exchange: ImportExchange,
  sr: string,
): [status: string, error: XenError] | undefined {
  const { sim, message } = exchange;
  const pool = sim.world.get('pool', sim.poolRef);
  if ('rolling_upgrade_in_progress' in map(pool, 'other_config')) {
    return ['400 Bad Request', new XenError('NOT_SUPPORTED_DURING_UPGRADE')];
  }
  if (text(sim.world.get('SR', sr), 'content_type') === 'iso') {
    return ['400 Bad Request', new XenError('SR_OPERATION_NOT_SUPPORTED')];
  }
  if (message.headers['transfer-encoding'] !== undefined) {
    return ['403 Forbidden', new XenError('IMPORT_ERROR_CANNOT_HANDLE_CHUNKED')];
  }
  return undefined;
}

async function importVm(exchange: ImportExchange, sr: string, task: string): Promise<void> {
  const { sim, host, message, socket, request, signal } = exchange;
  const fault = sim.faults.take('import-refused');
  if (fault !== undefined) {
    const error = new XenError(fault.code, fault.params);
    endTask(sim, task, { status: 'failure', error });
    const page = internalError(message.httpVersion, error.message);
    return drop(socket, fault.forbidden === true ? refusal('403 Forbidden') : page);
  }
  const refused = refuse(exchange, sr);
  if (refused !== undefined) {
    const [status, error] = refused;
    endTask(sim, task, { status: 'failure', error });
    return drop(socket, bareRefusal(status) + internalError('1.1', error.message));
  }
  if (sim.faults.take('import-hangs') !== undefined) return hang(message);
  const look = { method: '/import', params: [text(sim.world.get('SR', sr), 'uuid')] };
  await sim.faults.watch?.({ ...look, done: false });
  socket.write(importHead({ task, server: serverName(sim) }));
  const flagged = (key: string) => request.query.get(key) === 'true';
  const config = { sr, fullRestore: flagged('restore'), force: flagged('force'), task };
  try {
    const source = bodyOf(message);
    settleImport(sim, task, await importMachine(sim, { config, host, source, socket, signal }));
    await drop(socket);
  } catch (error) {
    if (error instanceof HostDied) throw error;
    const failure = toXenError(error);
    failImport(sim, task, failure);
    await drop(socket, internalError('1.1', failure.message));
  } finally {
    await sim.faults.watch?.({ ...look, done: true });
  }
}

/** The bytes of a request; a client that hangs up is an end, as a host behind its TLS proxy sees it. */
export async function* bodyOf(message: IncomingMessage): AsyncGenerator<Uint8Array> {
  // leaving the loop must not destroy the request: the answer's last bytes go out on the same socket
  const pieces = message.iterator({ destroyOnReturn: false });
  try {
    for await (const piece of pieces) yield piece as Uint8Array;
  } catch (error) {
    if (!message.destroyed && !message.socket.destroyed) throw error;
  }
}

/** Swallows the body without a word. It has to be read: node:http does not see the end of what it does not read. */
function hang(message: IncomingMessage): Promise<void> {
  const { socket } = message;
  message.on('error', () => undefined); // the client hung up, which is what this waits for
  message.resume();
  return new Promise((resolve) => {
    if (socket.destroyed) resolve();
    else socket.once('close', () => resolve());
  });
}
