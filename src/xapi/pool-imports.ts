/** The import side of the port `Pool` (imports.ts), put together; used by pool.ts alone. */
import type { PoolImports } from '../imports.ts';
import type { Cancellable, PoolFacts } from '../ports.ts';
import { type ImportDeps, openDiskImport, openImport } from './import.ts';
import { attachDisk, createDisk } from './import-disks.ts';
import {
  describeMachine,
  markDisk,
  markMachine,
  renameMachine,
  startVm,
  stopVm,
  waitForGuest,
} from './import-machine.ts';
import { findImported, removeImported } from './import-remains.ts';
import { readTargets } from './import-targets.ts';
import { importFromUrl } from './import-url.ts';

export interface PoolImportsDeps extends ImportDeps {
  facts(options: Cancellable): Promise<PoolFacts>;
  /** Runs a call; what the pool refuses leaves as a BackupError that says what was tried. */
  told<T>(verb: string, work: Promise<T>): Promise<T>;
  /** The same for a machine that may be gone. */
  foundVm<T>(work: Promise<T>): Promise<T>;
}

/** Imports of one pool. */
export function createPoolImports(deps: PoolImportsDeps): PoolImports {
  const { told, foundVm } = deps;
  return {
    importTargets: (o) => told('read import targets', readTargets(deps.session, deps, o)),
    openImport: (input, o) => told('start import', openImport(deps, input, o)),
    importFromUrl: (input, o) => told('import by link', importFromUrl(deps, input, o)),
    createDisk: (input, o) => told('make disk', createDisk(deps, input, o)),
    openDiskImport: (input, o) => told('start import', openDiskImport(deps, input, o)),
    attachDisk: (input, o) => told('attach disk', attachDisk(deps, input, o)),
    describeMachine: (vm, o) => told('look at machine', foundVm(describeMachine(deps, vm, o))),
    markMachine: (input, o) => told('mark machine', markMachine(deps, input, o)),
    markDisk: (input, o) => told('mark disk', markDisk(deps, input, o)),
    renameMachine: (input, o) => told('name machine', renameMachine(deps, input, o)),
    startVm: (vm, o) => told('start machine', startVm(deps, vm, o)),
    stopVm: (vm, o) => told('stop machine', stopVm(deps, vm, o)),
    waitForGuest: (input, o) => told('wait for guest', waitForGuest(deps, input, o)),
    findImported: (input, o) => told('find imports', findImported(deps, input, o)),
    removeImported: (found, o) => told('remove import', removeImported(deps, found, o)),
  };
}
