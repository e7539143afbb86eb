/**
 * The head of an HTTP answer, read by hand, and what xapi says in the HTML of an error.
 *
 * `/export` answers HTTP/1.0 without length and without chunks: the body begins after the empty line and ends with the
 * connection, so a head of a few lines is all there is to parse. Errors before the body come as an HTML page that holds
 * `CODE: [ p1; p2 ]` (xen-api ocaml/libs/http-lib/http_svr.ml).
 */
import { BackupError } from '../errors.ts';
import { type Direction, EXPORT } from './direction.ts';
import { XapiError } from './errors.ts';

/** xapi's heads have some 300 bytes. */
export const MAX_HEAD_BYTES = 16 * 1024;

export interface ResponseHead {
  status: number;
  /** Names in lower case. */
  headers: ReadonlyMap<string, string>;
  /** Where the body begins. */
  sizeBytes: number;
}

/** The head at the start of `bytes`; undefined when it is not complete yet. Errors: the direction's `failed`. */
export function parseHead(bytes: Buffer, direction = EXPORT): ResponseHead | undefined {
  if (bytes.length >= 5 && bytes.toString('latin1', 0, 5) !== 'HTTP/') throw noHttp(direction);
  const end = bytes.indexOf('\r\n\r\n');
  if (end < 0 && bytes.length >= MAX_HEAD_BYTES) throw noHttp(direction);
  if (end < 0) return undefined;
  const [first = '', ...lines] = bytes.toString('latin1', 0, end).split('\r\n');
  const status = /^HTTP\/1\.[01] (\d{3})(?: |$)/.exec(first)?.[1];
  if (status === undefined) throw noHttp(direction);
  const headers = new Map(
    lines.map((line) => {
      const colon = line.indexOf(':');
      return [line.slice(0, colon).trim().toLowerCase(), line.slice(colon + 1).trim()] as const;
    }),
  );
  return { status: Number(status), headers, sizeBytes: end + 4 };
}

/** XenAPI's error inside an HTML page; undefined when there is none. */
export function findXapiError(html: string): XapiError | undefined {
  const found = /\b([A-Z][A-Z0-9_]{3,}): \[([^\]]*)\]/.exec(unescapeHtml(html));
  if (found === null) return undefined;
  const [, code = '', list = ''] = found;
  const params = list.split(';').map((param) => param.trim());
  return new XapiError(code, params.length === 1 && params[0] === '' ? [] : params);
}

function unescapeHtml(text: string): string {
  return text
    .replaceAll('&lt;', '<')
    .replaceAll('&gt;', '>')
    .replaceAll('&quot;', '"')
    .replaceAll('&#39;', "'")
    .replaceAll('&apos;', "'")
    .replaceAll('&amp;', '&');
}

function noHttp({ failed, name }: Direction): BackupError {
  return new BackupError(failed, `read answer to the ${name}: it is no HTTP`);
}
