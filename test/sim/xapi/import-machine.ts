/**
 * One import from its first byte to the machine: reads and checks the stream, makes the objects, fills the disks.
 *
 * Sources: xen-api `ocaml/xapi/import.ml` (stream_import), `stream_vdi.ml` (recv_all_vdi). Order: version; whether a
 * restore is possible; all objects; `object_creation=complete` on the task; disk after disk, each on dom0 meanwhile;
 * the machine's operation ends. Reading stops after the last needed block. The reader is the strict importer of the
 * tests: what a host would let pass in silence is an error here. On an error all that was made goes again, unless the
 * caller forced the import or the host's xapi died on the way. Hosts that write no zstd and no XXH64 read none either.
 */
import type { Socket } from 'node:net';
import type { ExpectedDisk, Inventory } from '../../importer/inventory.ts';
import { ImportRefused, importXva, type WrittenChunk } from '../../importer.ts';
import { decompress } from './decompress.ts';
import { ioError, reset } from './export-faults.ts';
import {
  assertCanRestore,
  createObjects,
  type ImportConfig,
  type ImportState,
  undoObjects,
} from './import-objects.ts';
import { type Sim, type SimHost, waitFor } from './sim.ts';
import type { Accident } from './sink.ts';
import { growDisk } from './storage.ts';
import { endTask, isCancelled, setProgress } from './tasks.ts';
import { emptyDisk } from './tracked-disk.ts';
import { int, map, text, toXenError, XenError } from './values.ts';

export interface ImportInput {
  config: ImportConfig;
  host: SimHost;
  source: AsyncIterable<Uint8Array>;
  /** The client's connection, for accidents; VM.import has none. */
  socket?: Socket;
  /** Aborted when the client hangs up or the pool closes. */
  signal: AbortSignal;
}

/** The host's xapi died: nobody cleans up, nobody answers. */
export class HostDied extends Error {}

interface Run {
  sim: Sim;
  input: ImportInput;
  state: ImportState;
  accidents: Accident[];
  /** Refs of dom0's drives, by VDI. */
  attached: Map<string, string>;
  /** Of the stream, compressed as it came. */
  readBytes: number;
  totalBytes: number;
  /** Sizes of the disks already filled. */
  filledBytes: number;
  reportAtMs: number;
}

/** Imports one machine and returns the refs of what was made; throws XenError or HostDied. */
export async function importMachine(sim: Sim, input: ImportInput): Promise<string[]> {
  const { config, host } = input;
  const { lives } = host;
  const state: ImportState = { config, objects: [], table: new Map(), vms: [], cleanup: [] };
  const run: Run = {
    sim,
    input,
    state,
    accidents: [],
    attached: new Map(),
    readBytes: 0,
    totalBytes: 0,
    filledBytes: 0,
    reportAtMs: sim.clock.elapsed() + sim.settings.progressIntervalMs,
  };
  try {
    const bytes = countBytes(run);
    await importXva(sim.settings.realPrograms ? decompress(bytes) : bytes, {
      opened: (compression) => {
        // an older host knows only gzip, which makes nothing of it
        if (compression !== 'zstd' || sim.persona.zstd) return;
        throw new XenError('IMPORT_ERROR_PREMATURE_EOF');
      },
      planned: (inventory) => plan(run, inventory),
      open: (disk) => attach(run, disk),
      wrote: (disk, chunk) => written(run, disk, chunk),
      filled: (disk) => {
        run.filledBytes += disk.sizeBytes;
        detach(run, vdiOf(run, disk));
      },
      force: config.force,
      stopsEarly: true,
    });
    if (host.lives !== lives) throw new HostDied('killed');
    assertNotCancelled(run);
    const failing = sim.faults.take('import-task-failure', { vm: uuidOf(state) });
    if (failing !== undefined) throw ioError(failing.code, failing.params);
    endOperations(run);
    return [...state.vms];
  } catch (error) {
    for (const vdi of [...run.attached.keys()]) detach(run, vdi);
    if (host.lives !== lives || error instanceof HostDied) {
      endOperations(run);
      throw new HostDied('killed', { cause: error });
    }
    if (!config.force) undoObjects(state);
    throw translate(error);
  }
}

/** Ends the task of a complete import: success with the machines' refs, unless a fault wants otherwise. */
export function settleImport(sim: Sim, task: string, vms: string[]): void {
  const [vm] = vms;
  const uuid = vm === undefined ? undefined : text(sim.world.get('VM', vm), 'uuid');
  if (sim.faults.take('import-task-vanishes', { vm: uuid })) sim.world.destroy('task', task);
  else if (sim.faults.take('import-task-pending', { vm: uuid })) return;
  else endTask(sim, task, { status: 'success', result: vms });
}

/** Ends the task of a failed import. */
export function failImport(sim: Sim, task: string, failure: XenError): void {
  if (failure.code === 'TASK_CANCELLED') endTask(sim, task, { status: 'cancelled' });
  else endTask(sim, task, { status: 'failure', error: failure });
}

function uuidOf({ objects }: ImportState): string | undefined {
  const vm = objects.find((object) => object.class === 'VM');
  return vm === undefined ? undefined : String(vm.record.uuid);
}

function vdiOf({ state }: Run, disk: ExpectedDisk): string {
  const ref = state.table.get(disk.id);
  if (ref === undefined) throw new XenError('IMPORT_ERROR_FAILED_TO_FIND_OBJECT', [disk.id]);
  return ref;
}

/** Hands the stream on and lets the planned accidents happen where they belong. */
async function* countBytes(run: Run): AsyncGenerator<Uint8Array> {
  for await (const piece of run.input.source) {
    run.readBytes += piece.length;
    await strike(run);
    yield piece;
  }
}

/** Accidents whose byte was read: of a small archive it may all be read before they are planned. */
async function strike({ accidents, readBytes }: Run): Promise<void> {
  while ((accidents[0]?.afterBytes ?? Number.POSITIVE_INFINITY) <= readBytes) {
    await accidents.shift()?.happen();
  }
}

function plan(run: Run, inventory: Inventory): void {
  const { sim, input, state } = run;
  state.objects = inventory.objects;
  assertCompatible(sim, inventory);
  if (input.config.fullRestore) assertCanRestore(sim, inventory.objects);
  createObjects(sim, state);
  const { task } = input.config;
  const record = sim.world.find('task', task);
  if (record !== undefined) {
    const otherConfig = { ...map(record, 'other_config'), object_creation: 'complete' };
    sim.world.set('task', task, { other_config: otherConfig });
  }
  run.totalBytes = inventory.disks.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
  run.accidents = planAccidents(sim, { ...input, task }, uuidOf(state));
}

function assertCompatible(sim: Sim, { version }: Inventory): void {
  const { major, minor } = sim.persona.xapi;
  const [wantedMajor, wantedMinor] = [Number(version.xapi_major), Number(version.xapi_minor)];
  if (wantedMajor > major || (wantedMajor === major && wantedMinor > minor)) {
    throw new XenError('IMPORT_INCOMPATIBLE_VERSION');
  }
}

/** Takes the faults that break off or hold up the reading of a body. */
export function planAccidents(
  sim: Sim,
  input: Pick<ImportInput, 'socket' | 'signal' | 'host'> & { task: string },
  vm: string | undefined,
): Accident[] {
  const { socket, signal, host, task } = input;
  const accidents: Accident[] = [];
  const failing = sim.faults.take('import-error', { vm });
  if (failing !== undefined) {
    const error = ioError(failing.code, failing.params);
    accidents.push({ afterBytes: failing.afterBytes, happen: () => Promise.reject(error) });
  }
  const cut = sim.faults.take('import-reset', { vm });
  if (cut !== undefined) {
    const happen = () => {
      if (socket !== undefined) reset(socket);
      return Promise.reject(new XenError('IMPORT_ERROR_PREMATURE_EOF'));
    };
    accidents.push({ afterBytes: cut.afterBytes, happen });
  }
  const killed = sim.faults.take('import-killed', { vm });
  if (killed !== undefined) {
    const happen = () => {
      host.lives += 1;
      if (socket !== undefined) reset(socket);
      return Promise.reject(new HostDied('killed'));
    };
    accidents.push({ afterBytes: killed.afterBytes, happen });
  }
  const silent = sim.faults.take('import-silent', { vm });
  if (silent !== undefined) {
    const cancelled = () => isCancelled(sim, task) || undefined;
    const happen = async () => {
      // a client that hangs up ends the silence too: what follows is then the end of the body
      await waitFor(sim, cancelled, { signal, timeoutMs: silent.silentMs }).catch(() => undefined);
    };
    accidents.push({ afterBytes: silent.afterBytes, happen });
  }
  return accidents.sort((a, b) => a.afterBytes - b.afterBytes);
}

/** dom0 gets the disk while it is filled; returns the drive. */
export function attachDisk(sim: Sim, host: SimHost, vdi: string): string {
  const dom0 = text(sim.world.get('host', host.ref), 'control_domain');
  const drive = { currently_attached: true, userdevice: 'autodetect', mode: 'RW' };
  return sim.world.create('VBD', { VM: dom0, VDI: vdi, ...drive });
}

/** dom0 lets it go. */
export function detachDisk(sim: Sim, vbd: string): void {
  if (sim.world.find('VBD', vbd) === undefined) return;
  sim.world.set('VBD', vbd, { currently_attached: false });
  sim.world.destroy('VBD', vbd);
}

function attach(run: Run, disk: ExpectedDisk) {
  const { sim, input, attached } = run;
  const vdi = vdiOf(run, disk);
  attached.set(vdi, attachDisk(sim, input.host, vdi));
  return sim.disks.get(vdi) ?? emptyDisk(int(sim.world.get('VDI', vdi), 'virtual_size'));
}

function detach({ sim, attached }: Run, vdi: string): void {
  const vbd = attached.get(vdi);
  attached.delete(vdi);
  if (vbd !== undefined) detachDisk(sim, vbd);
}

function assertNotCancelled({ sim, input }: Run): void {
  const { task } = input.config;
  if (isCancelled(sim, task)) throw new XenError('TASK_CANCELLED', [task]);
}

async function written(run: Run, disk: ExpectedDisk, chunk: WrittenChunk): Promise<void> {
  const { sim, input } = run;
  await strike(run);
  if (chunk.checksum === 'xxhash' && sim.persona.checksum === 'sha1') {
    const text = 'Expected to find an inline checksum, instead found a file called: ';
    throw new XenError('IMPORT_ERROR', [`${text}${disk.id}`]);
  }
  if (!growDisk(sim, vdiOf(run, disk), chunk.lengthBytes)) throw ioError();
  if (sim.clock.elapsed() < run.reportAtMs) return;
  assertNotCancelled(run);
  run.reportAtMs = sim.clock.elapsed() + sim.settings.progressIntervalMs;
  const done = run.filledBytes + chunk.offset + chunk.lengthBytes;
  setProgress(sim, input.config.task, Math.min(0.99, done / Math.max(1, run.totalBytes)));
}

function endOperations({ sim, input, state }: Run): void {
  for (const ref of state.vms) {
    const vm = sim.world.find('VM', ref);
    if (vm === undefined) continue;
    const { [input.config.task]: _ended, ...rest } = map(vm, 'current_operations');
    sim.world.set('VM', ref, { current_operations: rest });
  }
}

/** The strict importer's sentences as xapi's codes. */
function translate(error: unknown): XenError {
  if (!(error instanceof ImportRefused)) return toXenError(error);
  const { message } = error;
  if (/ ends (in|with)|is empty$|^neither a plain|unexpected end of file/.test(message)) {
    return new XenError('IMPORT_ERROR_PREMATURE_EOF');
  }
  const missing = / names the \w+ (\S+), which is not in the archive$/.exec(message)?.[1];
  if (missing !== undefined) return new XenError('IMPORT_ERROR_FAILED_TO_FIND_OBJECT', [missing]);
  const found = /^the first member is "(.*)", not ova\.xml$/.exec(message)?.[1];
  if (found !== undefined) return new XenError('IMPORT_ERROR_UNEXPECTED_FILE', ['ova.xml', found]);
  return new XenError('IMPORT_ERROR', [message]);
}
