/**
 * Fetches the archive of a backup into a file: `xvault restore <backup> --to file.xva`.
 *
 * It grows as `file.xva.part` and gets its name only when it was proved to be what was stored: size, every block's
 * checksum, the digest over all of them, and the whole object's CRC-32 where the store gave one. A download that ends early
 * goes on where it stopped, in the same run and in the next; what lies there already is read and proved along. With `-`
 * the archive goes to standard output, and only the exit code tells whether it was right.
 */
import { once } from 'node:events';
import { createReadStream } from 'node:fs';
import { type FileHandle, open, rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { crc32 } from 'node:zlib';
import { systemClock } from '../clock.ts';
import { BackupError, isBackupError } from '../errors.ts';
import type { BackupView } from '../http/views.ts';
import type { Cancellable, Clock } from '../ports.ts';
import { encodeCrc32 } from '../s3/crc32.ts';
import { indexCompressedArchive } from '../xva/frame-reader.ts';
import { createDigestKey, loadHasher } from '../xva/hash.ts';
import { type ArchiveSummary, fillFrom, indexArchive } from '../xva/reader.ts';
import type { ArchiveClient } from './archive-client.ts';
import { openClient } from './client.ts';
import type { Invocation, Terminal } from './command.ts';
import { formatBytes, formatSeconds } from './format.ts';
import { createLiveLines } from './live-lines.ts';
import { bar, createRateMeter } from './progress.ts';

/** Times in a row that nothing at all came, with this between them. */
const MAX_MISSES = 10;
const MISS_MS = 3000;
const SHOWN_EVERY_MS = 200;

export interface DownloadInput extends Cancellable {
  client: ArchiveClient;
  backupId: string;
  /** A file, a folder, or - for standard output. */
  to: string;
  terminal: Pick<Terminal, 'err' | 'errIsTty' | 'columns'>;
  /** Instead of the process's own, for `-`. */
  stdout?: NodeJS.WritableStream & { isTTY?: boolean };
  /** For the waits between two tries. */
  clock?: Pick<Clock, 'sleep'>;
}

export interface Downloaded {
  backup_id: string;
  /** `-` for standard output. */
  file: string;
  size_bytes: number;
  /** Lay there already. */
  resumed_bytes: number;
  content_digest: string;
}

/** Fetches an archive and says what it did; the exit code. */
export async function fetchArchive(
  { terminal, json, signal }: Pick<Invocation, 'terminal' | 'json' | 'signal'>,
  wish: { backupId: string; to: string },
): Promise<number> {
  await using client = await openClient({ terminal });
  const fetched = await download({ ...wish, client, terminal, signal });
  const { file, size_bytes: size, resumed_bytes: resumed } = fetched;
  if (json && file !== '-') terminal.out(`${JSON.stringify(fetched)}\n`);
  else if (!json) {
    const there = resumed > 0 ? `, ${formatBytes(resumed)} of it lay there already` : '';
    terminal.err(`${file}: ${formatBytes(size)}, every block checked${there}\n`);
  }
  return 0;
}

/** Errors: `invalid_request` for a file that is there, `data_corrupt`, `not_found`, those of the client. */
export async function download(input: DownloadInput): Promise<Downloaded> {
  const backup = await input.client.getBackup(input.backupId, input);
  if (input.to === '-') return await toStdout(input, backup);
  const file = await targetOf(input.to, backup);
  const part = `${file}.part`;
  const there = await sizeOf(part);
  const from = there > backup.archive.size_bytes ? 0 : there;
  const fetched = await toFile(input, backup, { part, from }).catch(async (error) => {
    if (from === 0 || !isBackupError(error, 'data_corrupt')) throw error;
    input.terminal.err(`${part} does not belong to it, or is damaged: begun again\n`);
    return await toFile(input, backup, { part, from: 0 });
  });
  await rename(part, file);
  return { ...fetched, file };
}

/** Errors: `invalid_request`. */
async function targetOf(to: string, { archive }: BackupView): Promise<string> {
  const found = await stat(to).catch(() => undefined);
  const name = archive.key.slice(archive.key.lastIndexOf('/') + 1);
  const file = found?.isDirectory() ? join(to, name) : to;
  if ((await stat(file).catch(() => undefined)) === undefined) return file;
  throw new BackupError('invalid_request', `write ${file}: it is there already`);
}

async function sizeOf(file: string): Promise<number> {
  const found = await stat(file).catch(() => undefined);
  return found?.size ?? 0;
}

async function toFile(
  input: DownloadInput,
  backup: BackupView,
  { part, from }: { part: string; from: number },
): Promise<Downloaded> {
  let file: FileHandle;
  try {
    file = await open(part, from === 0 ? 'w' : 'a');
  } catch (cause) {
    throw new BackupError('invalid_request', `write ${part}`, { cause });
  }
  const old = createReadStream(part, { start: 0, end: Math.max(0, from - 1) });
  try {
    const pieces = grow(input, backup, {
      old: from === 0 ? [] : (old as AsyncIterable<Uint8Array>),
      from,
      write: async (bytes) => {
        await file.appendFile(bytes).catch((cause) => {
          throw new BackupError('invalid_request', `write ${part}`, { cause });
        });
      },
    });
    await prove(pieces, backup, input);
    await file.sync();
    return resultOf(backup, from);
  } catch (error) {
    // fetched again it would be wrong again: the next run begins anew
    if (isBackupError(error, 'data_corrupt')) await rm(part, { force: true });
    throw error;
  } finally {
    old.destroy();
    await file.close();
  }
}

async function toStdout(input: DownloadInput, backup: BackupView): Promise<Downloaded> {
  const { stdout = process.stdout, signal } = input;
  if (stdout.isTTY) {
    throw new BackupError('invalid_request', 'write to standard output: an archive is no text');
  }
  const write = async (bytes: Uint8Array) => {
    if (!stdout.write(Buffer.from(bytes))) await once(stdout, 'drain', { signal });
  };
  await prove(grow(input, backup, { old: [], from: 0, write }), backup, input);
  return { ...resultOf(backup, 0), file: '-' };
}

function resultOf({ id, archive }: BackupView, from: number): Downloaded {
  return {
    backup_id: id,
    file: '',
    size_bytes: archive.size_bytes,
    resumed_bytes: from,
    content_digest: archive.content_digest,
  };
}

interface Growth {
  old: Iterable<Uint8Array> | AsyncIterable<Uint8Array>;
  /** Bytes of it. */
  from: number;
  write(bytes: Uint8Array): Promise<void>;
}

/** What is there, then what comes, written before it is given on. */
async function* grow(
  input: DownloadInput,
  backup: BackupView,
  { old, from, write }: Growth,
): AsyncGenerator<Uint8Array> {
  const { archive } = backup;
  const show = createDisplay(input.terminal, archive.size_bytes);
  yield* old;
  let at = from;
  for (let misses = 0; at < archive.size_bytes; ) {
    const before = at;
    try {
      const wish = { backupId: backup.id, etag: archive.etag, offset: at };
      for await (const piece of input.client.readArchive(wish, input)) {
        await write(piece);
        at += piece.length;
        show(at);
        yield piece;
      }
      if (at === archive.size_bytes) break;
      throw new BackupError('service_unavailable', 'fetch archive: it ends early');
    } catch (error) {
      misses = at > before ? 0 : misses + 1;
      const mayPass = isBackupError(error) && error.retry === 'later';
      if (!mayPass || misses >= MAX_MISSES) throw error;
      await (input.clock ?? systemClock).sleep(MISS_MS, input);
    }
  }
  show(undefined);
}

/** Reads all of it. Errors: `data_corrupt` for what is not the archive that was stored. */
async function prove(
  pieces: AsyncGenerator<Uint8Array>,
  { id, archive, compression }: BackupView,
  options: Cancellable,
): Promise<void> {
  let sizeBytes = 0;
  let crc = 0;
  async function* counted() {
    for await (const piece of pieces) {
      sizeBytes += piece.length;
      if (archive.checksum) crc = crc32(piece, crc);
      yield piece;
    }
  }
  const wish = { hash: await loadHasher(), digestKey: createDigestKey() };
  const index = compression === 'none' ? indexArchive : indexCompressedArchive;
  let summary: ArchiveSummary;
  try {
    summary = await index(fillFrom(counted()), wish, options);
  } finally {
    await pieces.return(undefined);
  }
  const isSame =
    sizeBytes === archive.size_bytes &&
    summary.contentDigest === archive.content_digest &&
    (archive.ova_sha256 === undefined || archive.ova_sha256 === summary.ovaSha256) &&
    (archive.checksum === undefined || encodeCrc32(crc) === archive.checksum.value);
  if (isSame) return;
  throw new BackupError(
    'data_corrupt',
    `prove download of backup ${id}: it is not what was stored`,
    {
      details: { size_bytes: sizeBytes, content_digest: summary.contentDigest },
    },
  );
}

/** A line with bar, rate and time left, on terminals. */
function createDisplay(terminal: DownloadInput['terminal'], totalBytes: number) {
  if (!terminal.errIsTty) return () => undefined;
  const lines = createLiveLines(terminal as Terminal);
  const meter = createRateMeter(systemClock);
  let shownAt = Number.NEGATIVE_INFINITY;
  return (bytes: number | undefined): void => {
    if (bytes === undefined) lines.clear();
    if (bytes === undefined || systemClock.elapsed() - shownAt < SHOWN_EVERY_MS) return;
    shownAt = systemClock.elapsed();
    meter.add(bytes);
    const rate = meter.perSecond();
    const left = rate
      ? `  ${formatBytes(rate)}/s  ${formatSeconds((totalBytes - bytes) / rate)} left`
      : '';
    lines.draw([`${bar(bytes / totalBytes)}  ${formatBytes(bytes)}${left}`]);
  };
}
