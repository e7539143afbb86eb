/**
 * What went wrong with a source, said with disk, block and byte offset; and the HTTP text a failing
 * host appends.
 *
 * A host that fails after it began to send cannot take its status 200 back: it writes a whole HTTP
 * response (status line, headers, HTML with `CODE: [ p1; p2 ]`) where the archive should go on, and
 * closes. Seen in xapi `http_svr.ml`, xen-api issue 4603.
 */
import { BackupError, type ErrorCode } from '../errors.ts';
import type { ArchiveDisk } from './types.ts';

/** Where in the source a fault lies. */
export interface Place {
  /** From the beginning of the archive as read. */
  offsetBytes: number;
  disk?: ArchiveDisk | undefined;
  /** The source's own number of the block. */
  block?: number | undefined;
}

/** Longest failure text looked at; xapi's are under 1 KiB. */
export const MAX_FAILURE_TEXT_BYTES = 8192;

const HTTP = Buffer.from('HTTP/1.');
/**
 * A whole response of text up to the end. Anything looser could be a guest's own data, which no
 * log may show.
 */
const RESPONSE =
  /^HTTP\/1\.[01] [45]\d\d [^\r\n]{0,80}\r\n([\w-]+: [^\r\n]*\r\n)*\r\n[\t\r\n\x20-\x7e]*$/;

/** Makes the error: "verb object", then disk, block and offset as far as they are known. */
export function sourceFault(
  code: ErrorCode,
  what: string,
  { offsetBytes, disk, block }: Place,
  details: Record<string, unknown> = {},
): BackupError {
  const values = [
    disk && `disk=${disk.index} name=${JSON.stringify(disk.nameLabel)} source_id=${disk.sourceId}`,
    block !== undefined && `block=${block}`,
    `offset=${offsetBytes}`,
  ];
  return new BackupError(code, [what, values.filter(Boolean).join(' ')].join(', '), {
    details: {
      ...details,
      offset_bytes: offsetBytes,
      ...(disk && { disk_index: disk.index, disk_name: disk.nameLabel, source_id: disk.sourceId }),
      ...(block !== undefined && { block }),
    },
  });
}

/** True where a header should be and the host's HTTP response is instead. */
export function startsWithHttp(view: Buffer, at: number): boolean {
  return view.length >= at + HTTP.length && HTTP.compare(view, at, at + HTTP.length) === 0;
}

/**
 * The host's HTTP response in the midst of a block, at the very end of what came; '' if there is
 * none.
 */
export function findHttpTail(filled: Buffer): string {
  const from = Math.max(0, filled.length - MAX_FAILURE_TEXT_BYTES);
  for (let at = filled.lastIndexOf(HTTP); at >= from; at = filled.lastIndexOf(HTTP, at - 1)) {
    const text = filled.toString('latin1', at);
    if (RESPONSE.test(text)) return text;
    if (at === 0) break;
  }
  return '';
}

/** `source_failed` with XenAPI's own code and params, as far as the text holds them. */
export function hostFailure(text: string, place: Place): BackupError {
  const status = text.slice(0, text.search(/[\r\n]|$/)).slice(0, 100);
  const [, code, list] = /\b([A-Z][A-Z0-9_]+): \[ ?([^\]]*?) ?\]/.exec(text) ?? [];
  if (code === undefined || list === undefined) {
    const what = `read export: the host failed, status=${JSON.stringify(status)}`;
    return sourceFault('source_failed', what, place, { status });
  }
  const params = list === '' ? [] : unescapeHtml(list).split('; ');
  const what = `read export: the host failed, code=${code}`;
  return sourceFault('source_failed', what, place, { status, code, params });
}

function unescapeHtml(text: string): string {
  return text
    .replaceAll('&lt;', '<')
    .replaceAll('&gt;', '>')
    .replaceAll('&quot;', '"')
    .replaceAll('&#39;', "'")
    .replaceAll('&amp;', '&');
}
