/**
 * A pool or store that is made when it is first used.
 *
 * The AWS SDK and undici take longer to load than all the rest of a start: with these in their place the service
 * listens, and answers its probes, before they are there.
 */
import type { Hooks, ObjectStore, Pool, PoolImports } from '../ports.ts';

/** The same promise for every caller. */
export function once<T>(make: () => Promise<T>): () => Promise<T> {
  let made: Promise<T> | undefined;
  return () => {
    made ??= make();
    return made;
  };
}

/** A store whose every call waits for `load`. `close` closes only what was made. */
export function lazyStore(load: () => Promise<ObjectStore>): ObjectStore {
  let made: ObjectStore | undefined;
  const store = async () => {
    made = await load();
    return made;
  };
  return {
    facts: async (options) => (await store()).facts(options),
    put: async (key, body, options) => (await store()).put(key, body, options),
    get: async (key, options) => (await store()).get(key, options),
    read: async function* (input, options) {
      yield* (await store()).read(input, options);
    },
    fill: async (input, target, options) => (await store()).fill(input, target, options),
    head: async (key, options) => (await store()).head(key, options),
    list: async (input, options) => (await store()).list(input, options),
    delete: async (key, options) => (await store()).delete(key, options),
    beginUpload: async (input, options) => (await store()).beginUpload(input, options),
    copy: async (input, options) => (await store()).copy(input, options),
    listUploads: async (prefix, options) => (await store()).listUploads(prefix, options),
    abortUpload: async (input, options) => (await store()).abortUpload(input, options),
    lifecycle: async (options) => (await store()).lifecycle(options),
    putLifecycle: async (input, options) => (await store()).putLifecycle(input, options),
    versioning: async (options) => (await store()).versioning(options),
    presignGet: async (input) => (await store()).presignGet(input),
    bucketEncryption: async (options) => (await store()).bucketEncryption(options),
    bucketLock: async (options) => (await store()).bucketLock(options),
    close: () => made?.close(),
  };
}

/** A pool whose every call waits for `load`. `close` closes only what was made. */
export function lazyPool(name: string, load: () => Promise<Pool>): Pool {
  let made: Pool | undefined;
  const pool = async () => {
    made = await load();
    return made;
  };
  return {
    ...lazyImports(pool),
    name,
    facts: async (options) => (await pool()).facts(options),
    listVms: async (options) => (await pool()).listVms(options),
    findVms: async (nameOrUuid, options) => (await pool()).findVms(nameOrUuid, options),
    inspectVm: async (vm, options) => (await pool()).inspectVm(vm, options),
    snapshotVm: async (input, options) => (await pool()).snapshotVm(input, options),
    markSnapshot: async (snapshot, marker, options) =>
      (await pool()).markSnapshot(snapshot, marker, options),
    findSnapshots: async (input, options) => (await pool()).findSnapshots(input, options),
    removeSnapshot: async (snapshot, options) => (await pool()).removeSnapshot(snapshot, options),
    findLeftovers: async (input, options) => (await pool()).findLeftovers(input, options),
    removeLeftover: async (leftover, options) => (await pool()).removeLeftover(leftover, options),
    openExport: async (input, options) => (await pool()).openExport(input, options),
    close: async () => await made?.close(),
  };
}

function lazyImports(pool: () => Promise<PoolImports>): PoolImports {
  return {
    importTargets: async (options) => (await pool()).importTargets(options),
    openImport: async (input, options) => (await pool()).openImport(input, options),
    importFromUrl: async (input, options) => (await pool()).importFromUrl(input, options),
    createDisk: async (input, options) => (await pool()).createDisk(input, options),
    openDiskImport: async (input, options) => (await pool()).openDiskImport(input, options),
    attachDisk: async (input, options) => (await pool()).attachDisk(input, options),
    describeMachine: async (vm, options) => (await pool()).describeMachine(vm, options),
    markMachine: async (input, options) => (await pool()).markMachine(input, options),
    markDisk: async (input, options) => (await pool()).markDisk(input, options),
    renameMachine: async (input, options) => (await pool()).renameMachine(input, options),
    startVm: async (vm, options) => (await pool()).startVm(vm, options),
    stopVm: async (vm, options) => (await pool()).stopVm(vm, options),
    waitForGuest: async (input, options) => (await pool()).waitForGuest(input, options),
    findImported: async (input, options) => (await pool()).findImported(input, options),
    removeImported: async (found, options) => (await pool()).removeImported(found, options),
  };
}

/** Hooks whose every call waits for `load`. */
export function lazyHooks(load: () => Promise<Hooks>): Hooks {
  return {
    check: async (input, options) => (await load()).check(input, options),
    call: async (input, options) => (await load()).call(input, options),
    ask: async (input, options) => (await load()).ask(input, options),
  };
}
