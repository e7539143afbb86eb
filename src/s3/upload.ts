/**
 * The writer of ports.ts: one archive of unknown length into one object, through memory of the process-wide budget.
 *
 * How pieces become parts is in growing.ts, which part goes where (direct, staged) in outlet.ts and layout.ts, what
 * the store must prove in multipart.ts, joining in joiner.ts. Here: the order of calls, and the end, good or bad.
 */
import assert from 'node:assert/strict';
import { crc32 } from 'node:zlib';
import { BackupError } from '../errors.ts';
import {
  type Cancellable,
  MAX_RESERVE_BYTES,
  type ObjectUpload,
  type StoredObject,
  type UploadCounters,
  type UploadInput,
} from '../ports.ts';
import { untilAborted } from './abort.ts';
import { abandon, removeStaged } from './cleanup.ts';
import { combineCrc32 } from './crc32.ts';
import type { Cutter, PartSink } from './cutter.ts';
import { createGrowing } from './growing.ts';
import { joinStaged } from './joiner.ts';
import { type Layout, partsInFlight, planLayout } from './layout.ts';
import { createMultipart, differs, type Multipart, type Watch } from './multipart.ts';
import { createOutlet, type Outlet } from './outlet.ts';
import {
  addSend,
  budgetOf,
  type Delivery,
  sectionOf,
  type UploadContext,
  uniqueName,
} from './section.ts';
import { createSender } from './sender.ts';

interface State {
  delivery: Delivery;
  layout: Layout;
  final: Multipart;
  outlet: Outlet;
  cutter: Cutter;
  reserved: Buffer | undefined;
  /** Of all bytes committed. */
  crc: number;
  /** `ended`: completed or disposed; nothing may be called any more. */
  phase: 'writing' | 'completing' | 'ended';
}

/** Creates the upload at the store; see ports.ts. */
export async function beginUpload(
  context: UploadContext,
  input: UploadInput,
  options: Cancellable,
): Promise<ObjectUpload> {
  const { share, quirks } = context;
  const counters = noCounters();
  const watch: Watch = {
    onRequest: () => {
      counters.requests += 1;
    },
    onRetry: () => {
      counters.retries += 1;
    },
  };
  const creation = new AbortController();
  const creating = createMultipart(context, { ...input, watch }, creation);
  const final = await untilAborted(creating, options.signal).catch(async (error) => {
    await abandon(context, creating, input.key, creation);
    throw error;
  });
  share.active += 1;
  const { contentType, stagingPrefix } = input;
  const delivery: Delivery = {
    context,
    sender: createSender({ limit: () => partsInFlight(quirks.partsInFlight, share.active) }),
    counters,
    watch,
    contentType,
    stagingPrefix,
    unique: uniqueName(),
    creation,
    staged: [],
  };
  const layout = planLayout(quirks, budgetOf(context), input.maxBytes);
  const outlet = createOutlet(delivery, layout, sectionOf(final));
  const cutter = createGrowing(delivery, layout, finalSink(delivery, outlet));
  return uploadOf({
    delivery,
    layout,
    final,
    outlet,
    cutter,
    reserved: undefined,
    crc: 0,
    phase: 'writing',
  });
}

function noCounters(): UploadCounters {
  return {
    acceptedBytes: 0,
    sentBytes: 0,
    copiedBytes: 0,
    joinedBytes: 0,
    parts: 0,
    requests: 0,
    uploadRequests: 0,
    copyRequests: 0,
    retries: 0,
  };
}

function finalSink(delivery: Delivery, outlet: Outlet): PartSink {
  return {
    expect: (sizeBytes) => outlet.expect(sizeBytes),
    send: (part, end) => addSend(delivery, outlet.next(part.body.length, end), part),
  };
}

function uploadOf(state: State): ObjectUpload {
  const { final, delivery } = state;
  return {
    key: final.key,
    uploadId: final.uploadId,
    counters: delivery.counters,
    arrange: (places) => assert(places.every((place, i) => place === i)),
    endSection: async () => {},
    reserve: async (sizeBytes, to) => await reserve(state, sizeBytes, to),
    commit: (sizeBytes) => commit(state, sizeBytes),
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
  state.reserved = undefined;
  options.signal.throwIfAborted();
  state.delivery.sender.signal.throwIfAborted();
  state.reserved = await state.cutter.reserve(sizeBytes, options);
  return state.reserved;
}

function commit(state: State, sizeBytes: number): void {
  const { reserved, cutter, final } = state;
  const { counters, sender } = state.delivery;
  assert(reserved !== undefined && state.phase === 'writing', 'commit without reserve');
  assert(sizeBytes >= 0 && sizeBytes <= reserved.length, `sizeBytes=${sizeBytes}`);
  sender.signal.throwIfAborted();
  state.reserved = undefined;
  counters.acceptedBytes += sizeBytes;
  // Taken while the bytes are still in the processor's cache.
  const crc = final.hasCrc ? crc32(reserved.subarray(0, sizeBytes)) : 0;
  state.crc = combineCrc32(state.crc, crc, sizeBytes);
  cutter.commit({ sizeBytes, crc });
}

async function complete(state: State, options: Cancellable): Promise<StoredObject> {
  assert.equal(state.phase, 'writing');
  state.reserved = undefined;
  state.phase = 'completing';
  const { final, outlet, cutter, layout, delivery } = state;
  const { sender, counters, context } = delivery;
  sender.signal.throwIfAborted();
  // An object of no bytes is one part of no bytes.
  const evenEmpty = counters.acceptedBytes === 0;
  await cutter.flush({ signal: options.signal, evenEmpty });
  await sender.drain(options);
  if (counters.sentBytes !== counters.acceptedBytes) {
    const { sentBytes, acceptedBytes } = counters;
    throw differs('upload', { accepted_bytes: acceptedBytes, acknowledged_bytes: sentBytes });
  }
  const signal = AbortSignal.any([options.signal, sender.signal]);
  const copied = await joinStaged(delivery, layout, outlet, { signal });
  const direct = outlet.direct.receipts.toSorted((a, b) => a.partNumber - b.partNumber);
  const ifAbsent = context.facts.conditionalComplete;
  const parts = [...direct, ...copied];
  const stored = await final.complete({ parts, crc: state.crc, ifAbsent }, { signal });
  end(state);
  await removeStaged(context, delivery.staged);
  return stored;
}

function end(state: State): void {
  if (state.phase === 'ended') return;
  state.phase = 'ended';
  state.delivery.context.share.active -= 1;
}

async function dispose(state: State): Promise<void> {
  if (state.phase === 'ended') return;
  end(state);
  const { cutter, outlet, delivery } = state;
  const { context, sender, staged, creation } = delivery;
  await sender.stop(new BackupError('cancelled', 'upload was given up'));
  cutter.close();
  const all = [outlet.direct, ...staged];
  await Promise.all(all.map((s) => abandon(context, s.multipart, s.key, creation)));
  await removeStaged(context, staged);
}
