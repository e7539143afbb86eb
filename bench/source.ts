/**
 * The archive every way of moving bytes is measured with: what a host would export, valid to the last checksum.
 *
 * One disk, its blocks random (nothing can be gained by compressing), one in 64 all zeros as hosts from xapi 26.0 on
 * send them. It lies in memory (/dev/shm), so no disk is measured.
 */
import { randomFillSync } from 'node:crypto';
import { closeSync, openSync, readSync, writeSync } from 'node:fs';
import { createDigestKey, loadHasher } from '../src/xva/hash.ts';
import { createNormaliser } from '../src/xva/normaliser.ts';
import { MAX_OVA_BYTES } from '../src/xva/types.ts';
import {
  chunk,
  disk,
  MIB,
  nic,
  ovaMember,
  type Piece,
  tar,
  vm,
} from '../test/importer/archives.ts';

const ZERO_EVERY = 64;
const DISK = 'Ref:7';

export interface Source {
  path: string;
  sizeBytes: number;
  /** Length of the archive xvault makes of it, and its digest. */
  normalisedBytes: number;
  contentDigest: string;
}

/** Writes an export of one disk of `blocks` MiB to `path`. */
export async function writeSource(path: string, blocks: number): Promise<Source> {
  const file = openSync(path, 'w');
  const content = Buffer.alloc(MIB);
  const zeros = Buffer.alloc(MIB);
  let sizeBytes = 0;
  const write = (pieces: Piece[], end?: Buffer) => {
    sizeBytes += writeSync(file, tar(pieces, end));
  };
  const nothing = Buffer.alloc(0);
  const items = [vm({ is_a_template: true }), ...disk(DISK, blocks * MIB), ...nic()];
  const ova = ovaMember(items);
  write([{ ...ova, content: withPlainRefs(String(ova.content)) }], nothing);
  for (let number = 0; number < blocks; number += 1) {
    const isZero = number % ZERO_EVERY === ZERO_EVERY / 2;
    write(chunk(DISK, number, isZero ? zeros : randomFillSync(content)), nothing);
  }
  write([]);
  closeSync(file);
  return { path, sizeBytes, ...(await normalise(path)) };
}

/** Hosts call every object `Ref:n`; the tests' maker of archives gives them telling names. */
function withPlainRefs(xml: string): string {
  const numbers: Record<string, string> = { SR: '1', VBD: '2', NET: '3', VIF: '4' };
  return xml.replace(/\b(SR|VBD|NET|VIF):(\d+)/g, (_, kind, n) => `Ref:${numbers[kind]}${n}`);
}

/** What the codec makes of the file, without network: the figures the uploads are compared with. */
async function normalise(path: string) {
  const normaliser = createNormaliser(
    { order: 'arrival', digestKey: createDigestKey() },
    await loadHasher(),
  );
  const file = openSync(path, 'r');
  const memory = Buffer.alloc(MAX_OVA_BYTES);
  let normalisedBytes = 0;
  for (let filled = 0; ; ) {
    filled += readSync(file, memory, filled, normaliser.wantBytes - filled, null);
    const step = normaliser.accept(memory);
    if (step.kind === 'more') continue;
    filled = 0;
    if (step.kind === 'keep') normalisedBytes += step.bytes;
    if (step.kind === 'replace' || step.kind === 'end') normalisedBytes += step.bytes.length;
    if (step.kind === 'end') break;
  }
  closeSync(file);
  return { normalisedBytes, contentDigest: normaliser.contentDigest() };
}
