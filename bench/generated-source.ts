/**
 * Exports of made-up machines, in a process of its own: made as they are read, stored nowhere.
 *
 * `GET /export/<machine>/<version>` answers as a host does: HTTP/1.0 without a length, a tar with all its checksums right.
 * Contents are random, drawn from a few blocks made beforehand so that this end costs little; a block that changed has
 * another one. The version `base` is the first backup.
 */
import { fork } from 'node:child_process';
import { randomFillSync } from 'node:crypto';
import { once } from 'node:events';
import { type AddressInfo, createServer, type Socket } from 'node:net';
import { fileURLToPath } from 'node:url';
import { createDigestKey, loadHasher } from '../src/xva/hash.ts';
import { createNormaliser } from '../src/xva/normaliser.ts';
import { MAX_OVA_BYTES } from '../src/xva/types.ts';
import { chunk, disk, MIB, nic, ovaMember, tar, vm } from '../test/importer/archives.ts';
import type { Machine, MachineDisk } from './changes.ts';

export interface GeneratedSource {
  origin: string;
  stop(): Promise<void>;
}

const CONTENTS = 32;
const NOTHING = Buffer.alloc(0);
/** Hosts call every object `Ref:n`; the n-th disk of an export is this one. */
const FIRST_DISK = 100;
const NUMBERS: Record<string, string> = { SR: '2', VBD: '3', NET: '4', VIF: '5' };
const HEAD = 'HTTP/1.0 200 OK\r\ncontent-type: application/octet-stream\r\n\r\n';

/** Starts the process that exports these machines. */
export async function startGeneratedSource(machines: readonly Machine[]): Promise<GeneratedSource> {
  const child = fork(fileURLToPath(import.meta.url), { serialization: 'advanced' });
  child.send(machines);
  const [port] = (await Promise.race([
    once(child, 'message'),
    once(child, 'exit').then(() => Promise.reject(new Error('the source did not start'))),
  ])) as [number];
  return {
    origin: `http://127.0.0.1:${port}`,
    stop: async () => {
      const ended = once(child, 'exit');
      child.disconnect();
      await ended;
    },
  };
}

/** Length of ova.xml's member in xvault's archive of the machine. */
export async function ovaMemberBytes(machine: Machine): Promise<number> {
  const settings = { order: 'device', digestKey: createDigestKey() } as const;
  const normaliser = createNormaliser(settings, await loadHasher());
  const source = ovaOf(machine);
  const memory = Buffer.alloc(MAX_OVA_BYTES);
  for (let filled = 0; ; ) {
    filled += source.copy(memory, filled, filled, normaliser.wantBytes);
    const step = normaliser.accept(memory);
    if (step.kind === 'replace') return step.bytes.length;
    if (step.kind !== 'more') throw new Error(`ova.xml is answered by ${step.kind}`);
  }
}

function ovaOf({ disks }: Machine): Buffer {
  const items = disks.flatMap(({ device, blocks }, i) =>
    disk(`Ref:${FIRST_DISK + i}`, blocks * MIB, { vbd: { userdevice: String(device) } }),
  );
  const ova = ovaMember([vm({ is_a_template: true }), ...items, ...nic()]);
  const content = String(ova.content).replace(
    /\b(SR|VBD|NET|VIF):(\d+)/g,
    (_, kind, n) => `Ref:${NUMBERS[kind]}${n}`,
  );
  return tar([{ ...ova, content }], NOTHING);
}

/** Headers of a disk's members, which differ in the number of the block only. */
interface Headers {
  data: Buffer;
  sum: Buffer;
}

const NUMBER_DIGITS = 8;

function headersOf(id: string): Headers {
  const pieces = chunk(id, 0, Buffer.alloc(MIB));
  const [data, sum] = pieces.map((piece) => tar([piece], NOTHING).subarray(0, 512));
  return { data: Buffer.from(data as Buffer), sum: Buffer.from(sum as Buffer) };
}

/** A copy with the block's number in its name, and the checksum of the header that fits. */
function numbered(template: Buffer, id: string, number: number): Buffer {
  const header = Buffer.from(template);
  header.write(String(number).padStart(NUMBER_DIGITS, '0'), id.length + 1, 'latin1');
  header.fill(' ', 148, 156);
  let total = 0;
  for (const byte of header) total += byte;
  header.write(`${total.toString(8).padStart(7, '0')}\0`, 148, 'latin1');
  return header;
}

function serve(machines: readonly Machine[], send: (message: unknown) => void): void {
  const contents = Array.from({ length: CONTENTS }, () => randomFillSync(Buffer.alloc(MIB)));
  const sums = contents.map((content) => {
    const text = Buffer.alloc(512);
    text.write(String(chunk('', 0, content)[1]?.content), 'latin1');
    return text;
  });
  const writeDisk = async (
    socket: Socket,
    { numbers, changed }: MachineDisk,
    { id, version }: { id: string; version: string },
  ) => {
    const headers = headersOf(id);
    for (const [position, number] of numbers.entries()) {
      const at = (number + (changed[version]?.[position] ?? 0)) % CONTENTS;
      socket.cork();
      socket.write(numbered(headers.data, id, number));
      socket.write(contents[at] as Buffer);
      socket.write(numbered(headers.sum, id, number));
      const isRoom = socket.write(sums[at] as Buffer);
      socket.uncork();
      if (!isRoom) await once(socket, 'drain');
    }
  };
  const answer = async (socket: Socket) => {
    const [request] = (await once(socket, 'data')) as [Buffer];
    const [, name, version = ''] = /^GET \/export\/([^/ ]+)\/([^/ ]+) /.exec(String(request)) ?? [];
    const machine = machines.find((one) => one.name === name);
    if (machine === undefined) {
      socket.end('HTTP/1.0 404 Not Found\r\n\r\n');
      return;
    }
    socket.write(HEAD);
    socket.write(ovaOf(machine));
    for (const [i, one] of machine.disks.entries()) {
      await writeDisk(socket, one, { id: `Ref:${FIRST_DISK + i}`, version });
    }
    socket.end(tar([]));
  };
  const server = createServer((socket) => {
    // A reader that goes away ends its own export, nothing else.
    answer(socket).catch(() => socket.destroy());
  });
  server.listen(0, '127.0.0.1', () => send((server.address() as AddressInfo).port));
}

if (import.meta.main && process.send) {
  const send = process.send.bind(process);
  process.once('message', (machines) => serve(machines as Machine[], send));
  process.on('disconnect', () => process.exit(0));
}
