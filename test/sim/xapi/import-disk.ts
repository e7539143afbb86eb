/**
 * PUT /import_raw_vdi: the bytes of one disk, into one that is there or into a new one.
 *
 * Source: xen-api `ocaml/xapi/import_raw_vdi.ml`. `vdi` (ref or uuid), or raw with `sr_id` and a Content-Length makes a
 * disk of that size. Redirect as /import, by the disk's storage. The task is taken, then: unknown format or any transfer
 * coding fail it with INTERNAL_ERROR and answer 404; else 200 before the body is read, which is written from the
 * disk's beginning; what is behind it stays. Result of the task: the disk's ref. An error leaves the disk as it then is.
 * Formats other than raw are not simulated.
 */
import type { IncomingMessage } from 'node:http';
import { ioError } from './export-faults.ts';
import { parameter } from './http-auth.ts';
import {
  bodyOf,
  type ImportExchange,
  redirectFor,
  storageOf,
  withCaller,
  withTask,
} from './import-handler.ts';
import { attachDisk, detachDisk, planAccidents } from './import-machine.ts';
import { bareRefusal, drop, importHead, internalError } from './raw-answer.ts';
import { EMPTY_RECORDS } from './records.ts';
import { type Sim, type SimHost, serverName } from './sim.ts';
import { createDisk, growDisk } from './storage.ts';
import { endTask, isCancelled, setProgress } from './tasks.ts';
import { emptyDisk } from './tracked-disk.ts';
import { int, list, text, toXenError, XenError } from './values.ts';

const PAGE_BYTES = 65_536;

function diskOf({ sim, request }: ImportExchange): string | undefined {
  const name = parameter(request, 'vdi');
  if (name === undefined || sim.world.find('VDI', name) !== undefined) return name;
  const found = sim.world.findByUuid('VDI', name);
  if (found === undefined) throw new XenError('UUID_INVALID', ['VDI', name]);
  return found.ref;
}

/** PUT /import_raw_vdi. */
export function handleDiskImport(
  sim: Sim,
  host: SimHost,
  message: IncomingMessage,
  signal: AbortSignal,
): Promise<void> {
  return withCaller(sim, { host, message, signal }, async (exchange) => {
    const { socket, request } = exchange;
    const vdi = diskOf(exchange);
    const sr = vdi === undefined ? storageOf(sim, request) : text(sim.world.get('VDI', vdi), 'SR');
    if (sr === undefined) {
      const task = parameter(request, 'task_id');
      const error = new XenError('VDI_MISSING');
      if (task !== undefined) endTask(sim, task, { status: 'failure', error });
      return drop(socket, bareRefusal('400 Bad Request'));
    }
    const elsewhere = redirectFor(exchange, sr);
    if (elsewhere !== undefined) return drop(socket, elsewhere);
    await withTask(sim, request, 'VDI.import', (task) => importDisk(exchange, { vdi, sr, task }));
  });
}

interface DiskImport {
  vdi: string | undefined;
  sr: string;
  task: string;
}

/** What is wrong with the request: the status and the words of its INTERNAL_ERROR. */
function refuse({ message, request }: ImportExchange, vdi: string | undefined) {
  const format = parameter(request, 'format') ?? 'raw';
  const coding = message.headers['transfer-encoding'];
  if (coding !== undefined) return ['404 Not Found', `Cannot handle encoding: ${coding}`] as const;
  if (format.toLowerCase() !== 'raw') return ['404 Not Found', `Unknown format ${format}`] as const;
  if (vdi === undefined && message.headers['content-length'] === undefined) {
    return ['400 Bad Request', 'Not enough info supplied to import'] as const;
  }
  return undefined;
}

async function importDisk(exchange: ImportExchange, input: DiskImport): Promise<void> {
  const { sim, message, socket } = exchange;
  const { task } = input;
  const refused = refuse(exchange, input.vdi);
  if (refused !== undefined) {
    const [status, words] = refused;
    endTask(sim, task, { status: 'failure', error: new XenError('INTERNAL_ERROR', [words]) });
    return drop(socket, bareRefusal(status));
  }
  let answered = false;
  try {
    const lengthBytes = Number(message.headers['content-length'] ?? 0);
    const vdi = input.vdi ?? createImported(sim, input.sr, lengthBytes);
    assertFree(sim, vdi);
    socket.write(importHead({ task, server: serverName(sim) }));
    answered = true;
    await fill(exchange, { vdi, task, lengthBytes });
    settle(sim, task, vdi);
    await drop(socket);
  } catch (error) {
    const failure = toXenError(error);
    if (failure.code === 'TASK_CANCELLED') endTask(sim, task, { status: 'cancelled' });
    else endTask(sim, task, { status: 'failure', error: failure });
    await drop(socket, internalError(answered ? '1.1' : message.httpVersion, failure.message));
  }
}

function createImported(sim: Sim, sr: string, sizeBytes: number): string {
  const empty = EMPTY_RECORDS.VDI?.() ?? {};
  return createDisk(sim, sr, { ...empty, name_label: 'Imported VDI', virtual_size: sizeBytes });
}

function assertFree(sim: Sim, vdi: string): void {
  const attached = list(sim.world.get('VDI', vdi), 'VBDs').some(
    (ref) => sim.world.find('VBD', ref)?.currently_attached === true,
  );
  if (attached) throw new XenError('VDI_IN_USE', [vdi, 'attach']);
}

function settle(sim: Sim, task: string, vdi: string): void {
  const failing = sim.faults.take('import-task-failure');
  if (failing !== undefined) throw ioError(failing.code, failing.params);
  if (sim.faults.take('import-task-vanishes')) sim.world.destroy('task', task);
  else if (sim.faults.take('import-task-pending')) return;
  else endTask(sim, task, { status: 'success', result: vdi });
}

/** Writes the body; pages of zeros are skipped, as on storage that begins with zeros. */
async function fill(
  exchange: ImportExchange,
  { vdi, task, lengthBytes }: { vdi: string; task: string; lengthBytes: number },
): Promise<void> {
  const { sim, host, message, socket, signal } = exchange;
  const sizeBytes = int(sim.world.get('VDI', vdi), 'virtual_size');
  const disk = sim.disks.get(vdi) ?? emptyDisk(sizeBytes);
  sim.disks.set(vdi, disk);
  const accidents = planAccidents(sim, { host, socket, signal, task }, undefined);
  const vbd = attachDisk(sim, host, vdi);
  let at = 0;
  try {
    for await (const piece of bodyOf(message)) {
      if (at + piece.length > sizeBytes) throw ioError('VDI_IO_ERROR', ['Device I/O errors']);
      for (let from = 0; from < piece.length; from += PAGE_BYTES) {
        const page = piece.subarray(from, from + PAGE_BYTES);
        if (page.every((byte) => byte === 0)) continue;
        if (!growDisk(sim, vdi, page.length)) throw ioError('VDI_IO_ERROR', ['Device I/O errors']);
        disk.write(at + from, page);
      }
      at += piece.length;
      while ((accidents[0]?.afterBytes ?? Number.POSITIVE_INFINITY) <= at) {
        await accidents.shift()?.happen();
      }
      if (isCancelled(sim, task)) throw new XenError('TASK_CANCELLED', [task]);
      setProgress(sim, task, Math.min(0.99, at / Math.max(1, lengthBytes)));
    }
    if (at < lengthBytes) throw ioError('VDI_IO_ERROR', ['Device I/O errors']);
  } finally {
    detachDisk(sim, vbd);
  }
}
