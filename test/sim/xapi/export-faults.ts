/**
 * Turns armed faults into accidents of one export.
 */
import type { Socket } from 'node:net';
import type { BlockFaults } from './archive.ts';
import { type Sim, waitFor } from './sim.ts';
import type { Accident } from './sink.ts';
import { endTask, isCancelled } from './tasks.ts';
import { XenError } from './values.ts';

/** Resets a connection (RST). TLS sockets cannot be reset directly: the TCP socket below can. */
export function reset(socket: Socket): void {
  const below = (socket as unknown as { _parent?: Socket })._parent ?? socket;
  if (typeof below.resetAndDestroy === 'function') below.resetAndDestroy();
  socket.destroy();
}

/** What the pool says when a disk cannot be read or written, unless a fault wants another error. */
export function ioError(code = 'VDI_IO_ERROR', params: string[] = ['Device I/O error']): XenError {
  return new XenError(code, params);
}

/** Takes the faults that break off or hold up the stream. */
export function planAccidents(
  sim: Sim,
  input: { socket: Socket; task: string; vm: string | undefined; signal: AbortSignal },
): Accident[] {
  const { socket, task, vm, signal } = input;
  const accidents: Accident[] = [];
  const add = (afterBytes: number, happen: () => Promise<void>) =>
    accidents.push({ afterBytes, happen });
  const early = sim.faults.take('export-ends-early', { vm });
  if (early !== undefined) {
    add(early.afterBytes, async () => {
      await new Promise<void>((resolve) => socket.end(() => resolve()));
      socket.destroy();
      throw ioError();
    });
  }
  const cut = sim.faults.take('export-reset', { vm });
  if (cut !== undefined) {
    add(cut.afterBytes, () => {
      reset(socket);
      return Promise.reject(ioError());
    });
  }
  const failing = sim.faults.take('export-error', { vm });
  if (failing !== undefined) {
    add(failing.afterBytes, () => Promise.reject(ioError(failing.code, failing.params)));
  }
  const silent = sim.faults.take('export-silent', { vm });
  if (silent !== undefined) {
    add(silent.afterBytes, async () => {
      const cancelled = () => isCancelled(sim, task) || undefined;
      const { silentMs: timeoutMs, until } = silent;
      const ends = until === undefined ? signal : AbortSignal.any([signal, until]);
      await waitFor(sim, cancelled, { signal: ends, timeoutMs }).catch((reason) => {
        if (until?.aborted !== true) throw reason;
      });
    });
  }
  return accidents;
}

/** Takes the faults of single blocks when the block comes. */
export function planBlockFaults(sim: Sim, vm: string | undefined): BlockFaults {
  const fires =
    (name: 'block-checksum' | 'block-duplicate' | 'block-missing') =>
    (disk: number, block: number) =>
      sim.faults.take(name, {
        vm,
        accepts: (params) => params.block === block && (params.disk ?? 0) === disk,
      }) !== undefined;
  return {
    wrongChecksum: fires('block-checksum'),
    duplicate: fires('block-duplicate'),
    missing: fires('block-missing'),
  };
}

/** Ends the task of a complete export: success, unless a fault wants it otherwise. */
export function settleTask(sim: Sim, task: string, vm: string | undefined): void {
  const failing = sim.faults.take('task-failure', { vm });
  if (failing !== undefined) {
    endTask(sim, task, { status: 'failure', error: ioError(failing.code, failing.params) });
    return;
  }
  if (sim.faults.take('task-vanishes', { vm })) {
    sim.world.destroy('task', task);
    return;
  }
  if (sim.faults.take('task-pending', { vm })) return;
  endTask(sim, task, { status: 'success' });
}
