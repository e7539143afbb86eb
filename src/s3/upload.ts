/**
 * The writer of ports.ts: one archive of unknown length into one object, through memory of the process-wide budget.
 *
 * How pieces become parts is in growing.ts and, over a base, in window.ts; which part goes where (direct, staged) in
 * outlet.ts and layout.ts; sections that come in another order than they lie in assembly.ts; what the store must prove
 * in multipart.ts; joining in joiner.ts. Here: the order of calls, and the end, good or bad.
 */
import assert from 'node:assert/strict';
import { crc32 } from 'node:zlib';
import { BackupError, blameBase } from '../errors.ts';
import {
  type Cancellable,
  MAX_RESERVE_BYTES,
  type ObjectUpload,
  type PlanLimits,
  type StoredObject,
  type UploadCounters,
  type UploadInput,
} from '../ports.ts';
import { untilAborted } from '../signals.ts';
import {
  type Assembly,
  addToTail,
  arrange,
  createAssembly,
  digest,
  endSection,
  enter,
  finalSink,
  finish,
  isTail,
  wholeCrc,
} from './assembly.ts';
import { createBaseGuard } from './base.ts';
import { abandon, removeStaged } from './cleanup.ts';
import { createGrowing } from './growing.ts';
import { joinStaged } from './joiner.ts';
import { type Layout, partsInFlight, planLayout, planWindow } from './layout.ts';
import { createMultipart, type Multipart, type Watch } from './multipart.ts';
import { createOutlet } from './outlet.ts';
import { differs } from './proof.ts';
import { createSeams } from './seams.ts';
import {
  budgetOf,
  type Delivery,
  patientCall,
  sectionOf,
  type UploadContext,
  uniqueName,
} from './section.ts';
import { createSender } from './sender.ts';
import { createWindow } from './window.ts';

/** AWS copies ranges of objects above 5 MB only; a smaller base is not worth a request anyway. */
const BASE_LEAST_BYTES = 5 * 1024 ** 2;

interface State {
  delivery: Delivery;
  layout: Layout;
  final: Multipart;
  assembly: Assembly;
  reserved: Buffer | undefined;
  /** `ended`: completed or disposed; nothing may be called any more. */
  phase: 'writing' | 'completing' | 'ended';
}

/** Creates the upload at the store; see ports.ts. Errors: `store_refused` for a base where parts cannot be copied. */
export async function beginUpload(
  context: UploadContext,
  input: UploadInput,
  options: Cancellable,
): Promise<ObjectUpload> {
  const { share, quirks } = context;
  const { contentType, stagingPrefix } = input;
  if (input.base !== undefined && !quirks.copyParts) throw cannotCopy(quirks.name);
  const counters = noCounters();
  const watch = watchInto(counters);
  const creation = new AbortController();
  const creating = createMultipart(context, { ...input, watch }, creation);
  const final = await untilAborted(creating, options.signal).catch(async (error) => {
    await abandon(context, creating, input.key, creation);
    throw error;
  });
  share.active += 1;
  const delivery: Delivery = {
    context,
    sender: createSender({ limit: () => partsInFlight(quirks.partsInFlight, share.active) }),
    counters,
    watch,
    contentType,
    stagingPrefix,
    unique: uniqueName(),
    creation,
    hasCrc: final.hasCrc,
    guard: input.base && createBaseGuard(context, input.base),
    staged: [],
  };
  return uploadOf(prepare(delivery, input, final));
}

/** Chooses how pieces become parts. */
function prepare(delivery: Delivery, input: UploadInput, final: Multipart): State {
  const { context } = delivery;
  const { quirks } = context;
  const { createPlan, maxBytes } = input;
  const budget = budgetOf(context);
  const window = delivery.guard && planWindow(quirks, budget, maxBytes);
  const layout = planLayout(quirks, budget, maxBytes, window?.cellBytes);
  const limits: PlanLimits = window ?? {
    minPartBytes: quirks.minPartBytes,
    maxCopyBytes: quirks.maxPartBytes,
    windowBytes: 0,
    ...(layout.fixedPartBytes === undefined ? {} : { cellBytes: layout.fixedPartBytes }),
  };
  const parts = {
    delivery,
    limits,
    outlet: createOutlet(delivery, layout, sectionOf(final)),
    seams: createSeams(),
  };
  const sink = finalSink(parts);
  assert(window === undefined || createPlan !== undefined, 'a base is given with a plan');
  const cutter =
    window === undefined || createPlan === undefined
      ? createGrowing(delivery, layout, sink)
      : createWindow(delivery, { limits, createPlan }, sink);
  const assembly = createAssembly({ ...parts, cutter });
  return { delivery, layout, final, assembly, reserved: undefined, phase: 'writing' };
}

function cannotCopy(provider: string): BackupError {
  return new BackupError(
    'store_refused',
    `copy from a base: the store cannot copy parts, provider=${provider}`,
    { details: { copy_parts: false }, retry: 'after-fix' },
  );
}

function noCounters(): UploadCounters {
  return {
    acceptedBytes: 0,
    sentBytes: 0,
    copiedBytes: 0,
    joinedBytes: 0,
    rereadBytes: 0,
    parts: 0,
    requests: 0,
    uploadRequests: 0,
    copyRequests: 0,
    retries: 0,
  };
}

function watchInto(counters: UploadCounters): Watch {
  return {
    onRequest: (operation) => {
      counters.requests += 1;
      if (operation === 'UploadPart') counters.uploadRequests += 1;
      if (operation === 'UploadPartCopy') counters.copyRequests += 1;
    },
    onRetry: () => {
      counters.retries += 1;
    },
  };
}

function uploadOf(state: State): ObjectUpload {
  const { final, delivery, assembly } = state;
  return {
    key: final.key,
    uploadId: final.uploadId,
    counters: delivery.counters,
    arrange: (places) => {
      assert.equal(state.phase, 'writing');
      state.reserved = undefined;
      arrange(assembly, places);
    },
    endSection: async ({ signal }) => {
      assert.equal(state.phase, 'writing');
      state.reserved = undefined;
      signal.throwIfAborted();
      await endSection(assembly, { signal });
    },
    reserve: async (sizeBytes, to) => await reserve(state, sizeBytes, to),
    commit: (sizeBytes, sameOffset) => commit(state, sizeBytes, sameOffset),
    write: async (bytes, to) => {
      for (let at = 0; at < bytes.length; at += MAX_RESERVE_BYTES) {
        const piece = bytes.subarray(at, at + MAX_RESERVE_BYTES);
        (await reserve(state, piece.length, to)).set(piece);
        commit(state, piece.length);
      }
    },
    complete: async (to) => await complete(state, to),
    [Symbol.asyncDispose]: async () => await dispose(state),
  };
}

async function reserve(state: State, sizeBytes: number, options: Cancellable): Promise<Buffer> {
  assert(sizeBytes >= 0 && sizeBytes <= MAX_RESERVE_BYTES, `sizeBytes=${sizeBytes}`);
  assert.equal(state.phase, 'writing');
  const { assembly, delivery } = state;
  state.reserved = undefined;
  options.signal.throwIfAborted();
  delivery.sender.signal.throwIfAborted();
  await enter(assembly, options);
  state.reserved = isTail(assembly)
    ? Buffer.allocUnsafe(sizeBytes)
    : await assembly.cutter.reserve(sizeBytes, options);
  return state.reserved;
}

function commit(state: State, sizeBytes: number, offsetInBase?: number): void {
  const { reserved, assembly, delivery } = state;
  const { counters, sender, guard } = delivery;
  assert(reserved !== undefined && state.phase === 'writing', 'commit without reserve');
  assert(sizeBytes >= 0 && sizeBytes <= reserved.length, `sizeBytes=${sizeBytes}`);
  sender.signal.throwIfAborted();
  state.reserved = undefined;
  counters.acceptedBytes += sizeBytes;
  const bytes = reserved.subarray(0, sizeBytes);
  const baseBytes = guard?.base.sizeBytes ?? 0;
  const sameOffset = baseBytes > BASE_LEAST_BYTES ? offsetInBase : undefined;
  assert(sameOffset === undefined || sameOffset + sizeBytes <= baseBytes, 'inside the base');
  const piece = { sizeBytes, crc: crcOf(state, bytes), sameOffset };
  digest(assembly, piece);
  if (isTail(assembly)) addToTail(assembly, bytes);
  else assembly.cutter.commit(piece);
}

/** Taken while the bytes are still in the processor's cache; undefined: another thread does it when their part is whole. */
function crcOf({ assembly, delivery }: State, bytes: Buffer): number | undefined {
  if (!delivery.hasCrc || bytes.length === 0) return 0;
  const isLater = assembly.cutter.findsCrc && delivery.context.crc32s.reads(bytes);
  return isLater ? undefined : crc32(bytes);
}

async function complete(state: State, options: Cancellable): Promise<StoredObject> {
  assert.equal(state.phase, 'writing');
  state.reserved = undefined;
  state.phase = 'completing';
  const { final, layout, delivery, assembly } = state;
  const { sender, counters, context, guard } = delivery;
  const { outlet, seams } = assembly;
  sender.signal.throwIfAborted();
  await finish(assembly, options);
  await sender.drain(options);
  const { acceptedBytes, sentBytes, copiedBytes } = counters;
  if (sentBytes + copiedBytes !== acceptedBytes) {
    const acknowledged = { acknowledged_bytes: sentBytes, copied_bytes: copiedBytes };
    throw differs('upload', { accepted_bytes: acceptedBytes, ...acknowledged });
  }
  const found = seams.list(outlet.borders());
  const signal = AbortSignal.any([options.signal, sender.signal]);
  await joinStaged(delivery, layout, outlet, { signal });
  if (guard?.wasUsed) await guard.prove(patientCall(delivery, signal));
  const parts = outlet.direct.receipts.toSorted((a, b) => a.partNumber - b.partNumber);
  const ifAbsent = context.facts.conditionalComplete;
  const stored = await final
    .complete({ parts, crc: wholeCrc(assembly), ifAbsent }, { signal })
    .catch((error) => {
      throw counters.copiedBytes > 0 ? blameBase(error) : error;
    });
  end(state);
  await removeStaged(context, delivery.staged);
  return found.length === 0 ? stored : { ...stored, seams: found };
}

function end(state: State): void {
  if (state.phase === 'ended') return;
  state.phase = 'ended';
  state.delivery.context.share.active -= 1;
}

async function dispose(state: State): Promise<void> {
  if (state.phase === 'ended') return;
  end(state);
  const { delivery, assembly } = state;
  const { context, sender, staged, creation } = delivery;
  await sender.stop(new BackupError('cancelled', 'upload was given up'));
  assembly.cutter.close();
  const all = [assembly.outlet.direct, ...staged];
  await Promise.all(all.map((s) => abandon(context, s.multipart, s.key, creation)));
  await removeStaged(context, staged);
}
