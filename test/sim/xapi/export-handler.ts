/**
 * GET /export and /export_metadata.
 *
 * Source: xen-api `ocaml/xapi/export.ml`. Order: credentials; machine; can this host see the storage (else 302, or no
 * answer at all when none can); the machine's lock; headers; body. Errors before the headers are an HTTP 500 page and
 * fail the task; later ones are appended to the body. An unknown machine fails before the task is taken: it stays
 * pending.
 */
import type { IncomingMessage } from 'node:http';
import type { Socket } from 'node:net';
import type { Writable } from 'node:stream';
import { createGzip, createZstdCompress } from 'node:zlib';
import { ovaMember, writeArchive } from './archive.ts';
import { planAccidents, planBlockFaults, settleTask } from './export-faults.ts';
import { hostFor } from './export-host.ts';
import { authenticate, type HandlerRequest, parameter, readRequest } from './http-auth.ts';
import { duringOperation } from './operations.ts';
import { buildOva, type Ova } from './ova.ts';
import { exportHead, finish, internalError, redirect, refusal } from './raw-answer.ts';
import { type Sim, type SimHost, serverName } from './sim.ts';
import { createSink } from './sink.ts';
import { liveUuid } from './snapshot.ts';
import { createTask, endTask, isCancelled, setProgress } from './tasks.ts';
import { emptyDisk } from './tracked-disk.ts';
import { flag, int, map, text, toXenError, XenError } from './values.ts';

/** /export waits so long for another operation on the machine. */
const EXPORT_WAIT_MS = 120_000;

interface Exchange {
  sim: Sim;
  host: SimHost;
  socket: Socket;
  request: HandlerRequest;
  httpVersion: string;
  /** Aborted when the client hangs up or the pool closes. */
  signal: AbortSignal;
  task: string;
  vm: string;
}

function findVm(sim: Sim, request: HandlerRequest): string {
  const ref = request.query.get('ref');
  const uuid = request.query.get('uuid');
  if (ref !== undefined) {
    sim.world.get('VM', ref);
    return ref;
  }
  if (uuid === undefined) throw new XenError('INTERNAL_ERROR', ['missing ref or uuid']);
  const found = sim.world.findByUuid('VM', uuid);
  if (found === undefined) throw new XenError('UUID_INVALID', ['VM', uuid]);
  return found.ref;
}

/** Handles one request; the socket is ours until it closes. */
export async function handleExport(
  sim: Sim,
  host: SimHost,
  message: IncomingMessage,
  signal: AbortSignal,
): Promise<void> {
  const { socket, httpVersion } = message;
  const request = readRequest(sim, message);
  const header = message.headers.authorization;
  const caller = await authenticate(sim, { host, request, header, signal });
  if (caller === 'unauthorised') {
    const challenge = ['WWW-Authenticate', 'Basic realm="XenServer"'] as const;
    return finish(socket, refusal('401 Unauthorized', [challenge]));
  }
  try {
    const vm = request.query.get('all') === 'true' ? '' : findVm(sim, request);
    const given = parameter(request, 'task_id');
    if (given !== undefined) sim.world.get('task', given);
    const own = given === undefined;
    const task = given ?? createTask(sim, 'VM.export');
    const exchange = { sim, host, socket, request, httpVersion, signal, task, vm };
    try {
      if (request.path.startsWith('/export_metadata')) await exportMetadata(exchange);
      else await exportVm(exchange);
    } finally {
      if (own && sim.world.find('task', task) !== undefined) sim.world.destroy('task', task);
    }
  } catch (error) {
    await finish(socket, internalError(httpVersion, toXenError(error).message));
  } finally {
    if (caller.own && sim.world.find('session', caller.session) !== undefined) {
      sim.world.destroy('session', caller.session);
    }
  }
}

async function exportMetadata(exchange: Exchange): Promise<void> {
  const { sim, host, socket, request, task, vm } = exchange;
  const excluded = (request.query.get('excluded_device_types') ?? '').split(',');
  const vms = vm === '' ? sim.world.all('VM').map(([ref]) => ref) : [vm];
  const ova = buildOva(sim, host, vms, {
    preservePowerState: true,
    withSnapshots: request.query.get('export_snapshots') !== 'false',
    excluded: new Set(excluded),
  });
  const member = ovaMember(sim.persona, ova.xml, sim.clock.now());
  const server = serverName(sim);
  socket.write(exportHead({ task, server, lengthBytes: member.length + 1024 }));
  socket.write(member);
  socket.end(Buffer.alloc(1024));
  endTask(sim, task, { status: 'success' });
  await new Promise<void>((resolve) => socket.once('close', () => resolve()));
}

async function exportVm(exchange: Exchange): Promise<void> {
  const { sim, host, socket, request, httpVersion, signal, task, vm } = exchange;
  const target = hostFor(sim, host, vm);
  if (target.kind === 'redirect') {
    // a real host always says https; the plain pool of tests has nothing else than http
    const scheme = 'encrypted' in socket ? 'https' : 'http';
    return finish(socket, redirect(`${scheme}://${target.authority}/export?${request.rawQuery}`));
  }
  if (target.kind === 'none') {
    endTask(sim, task, { status: 'failure', error: target.error });
    socket.destroy();
    return;
  }
  const progress = { headersSent: false };
  setProgress(sim, task, 0);
  try {
    const refused = sim.faults.take('export-refused', { vm: liveUuid(sim, vm) });
    if (refused !== undefined) throw new XenError(refused.code, refused.params);
    const operation = { vm, operation: 'export', taskRef: task, signal, waitMs: EXPORT_WAIT_MS };
    await duringOperation(sim, operation, async () => {
      const look = { method: '/export', params: [liveUuid(sim, vm) ?? ''] };
      const closed = { ...look, method: '/export closed', done: true };
      socket.once('close', () => void sim.faults.watch?.(closed));
      await sim.faults.watch?.({ ...look, done: false });
      try {
        await stream(exchange, progress);
      } finally {
        await sim.faults.watch?.({ ...look, done: true });
      }
    });
    settleTask(sim, task, liveUuid(sim, vm));
  } catch (error) {
    const failure = translate(error, signal);
    if (failure.code === 'TASK_CANCELLED') endTask(sim, task, { status: 'cancelled' });
    else endTask(sim, task, { status: 'failure', error: failure });
    if (socket.destroyed) return;
    await finish(
      socket,
      internalError(progress.headersSent ? '1.1' : httpVersion, failure.message),
    );
  }
}

/** A client that hung up is a CLIENT_ERROR; an accident carries its own error. */
function translate(error: unknown, signal: AbortSignal): XenError {
  if (error instanceof XenError) return error;
  if (signal.aborted || (error instanceof Error && /EPIPE|ECONNRESET/.test(String(error)))) {
    return new XenError('CLIENT_ERROR', ['Unix.Unix_error(Unix.EPIPE, "write", "")']);
  }
  return toXenError(error);
}

function compressor(sim: Sim, request: HandlerRequest): Writable | undefined {
  const wanted = request.query.get('use_compression');
  if (wanted === 'true' || wanted === 'gzip') return createGzip();
  return wanted === 'zstd' && sim.persona.zstd ? createZstdCompress() : undefined;
}

async function stream(exchange: Exchange, state: { headersSent: boolean }): Promise<void> {
  const { sim, host, socket, request, signal, task, vm } = exchange;
  const preservePowerState = request.query.get('preserve_power_state') === 'true';
  const options = { preservePowerState, withSnapshots: false, excluded: new Set<string>() };
  const ova = buildOva(sim, host, [vm], options);
  socket.write(exportHead({ task, server: serverName(sim) }));
  state.headersSent = true;
  const uuid = liveUuid(sim, vm);
  const packer = compressor(sim, request);
  if (packer !== undefined) {
    (packer as unknown as NodeJS.ReadWriteStream).pipe(socket, { end: false });
  }
  const accidents = planAccidents(sim, { socket, task, vm: uuid, signal });
  const sink = createSink(packer ?? socket, { signal, accidents });
  const disks = ova.disks.map(({ id, vdiRef }) => openDisk(sim, host, id, vdiRef));
  await writeArchive(
    {
      persona: sim.persona,
      ova: ova.xml,
      nowMs: sim.clock.now(),
      disks,
      keepAliveBlockMs: sim.settings.keepAliveBlockMs,
      zeroBlockMs: sim.settings.zeroBlockMs,
      faults: planBlockFaults(sim, uuid),
      progress: reporter(sim, task, ova),
    },
    sink,
  );
  await sink.flush();
  await end(packer, socket);
}

/** Ends compressor and socket and waits until the peer has everything. */
async function end(packer: Writable | undefined, socket: Socket): Promise<void> {
  if (packer !== undefined) {
    await new Promise((resolve) => {
      (packer as unknown as NodeJS.ReadWriteStream).once('end', resolve);
      packer.end();
    });
  }
  await new Promise<void>((resolve, reject) => {
    socket.once('error', reject);
    socket.once('close', () => resolve());
    socket.end(() => resolve());
  });
}

function openDisk(sim: Sim, host: SimHost, id: string, vdiRef: string) {
  const vdi = sim.world.get('VDI', vdiRef);
  const disk = sim.disks.get(vdiRef) ?? emptyDisk(int(vdi, 'virtual_size'));
  const dom0 = text(sim.world.get('host', host.ref), 'control_domain');
  let vbd = '';
  return {
    id,
    disk,
    qcow2: map(vdi, 'sm_config')['image-format'] === 'qcow2',
    open: () => {
      const attached = { currently_attached: true, userdevice: 'autodetect', mode: 'RO' };
      vbd = sim.world.create('VBD', { VM: dom0, VDI: vdiRef, ...attached });
    },
    close: () => sim.track(detachLater(sim, vbd)),
  };
}

/** dom0 lets a disk go only some time after the last read. */
async function detachLater(sim: Sim, vbd: string): Promise<void> {
  try {
    await sim.clock.sleep(sim.settings.dom0DetachMs, { signal: sim.closing });
  } catch {
    // The pool closes: nobody will ask any more.
    return;
  }
  const record = sim.world.find('VBD', vbd);
  if (record === undefined) return;
  if (flag(record, 'currently_attached')) sim.world.set('VBD', vbd, { currently_attached: false });
  sim.world.destroy('VBD', vbd);
}

function reporter(sim: Sim, task: string, ova: Ova): (doneBytes: number) => void {
  const total = ova.disks.reduce(
    (sum, { vdiRef }) => sum + int(sim.world.get('VDI', vdiRef), 'virtual_size'),
    0,
  );
  let next = sim.clock.elapsed() + sim.settings.progressIntervalMs;
  return (doneBytes) => {
    if (isCancelled(sim, task)) throw new XenError('TASK_CANCELLED', [task]);
    if (sim.clock.elapsed() < next) return;
    next = sim.clock.elapsed() + sim.settings.progressIntervalMs;
    setProgress(sim, task, Math.min(0.99, doneBytes / Math.max(1, total)));
  };
}
