/**
 * XenAPI calls on the wire: XML-RPC by the `xmlrpc` package's serializer and deserializer, without its client.
 *
 * Its http client has no time-out, no cancel and ignores the HTTP status, so only the codec is used. What XenAPI does
 * of its own: every answer is a struct {Status: Success, Value} or {Status: Failure, ErrorDescription: [CODE, p1 …]}
 * with HTTP 200 for both; `system.listMethods` alone has no such envelope; 64-bit integers travel as untyped text and
 * stay strings here (fields.ts reads them); `<boolean>true</boolean>` would be read as false, so only 1 and 0 are sent.
 * Source: xen-api doc/content/xen-api/wire-protocol.md, mirage/ocaml-rpc src/lib/xmlrpc.ml.
 */
import { Readable } from 'node:stream';
import CustomType from 'xmlrpc/lib/customtype.js';
import Deserializer from 'xmlrpc/lib/deserializer.js';
import serializer from 'xmlrpc/lib/serializer.js';
import { BackupError } from '../errors.ts';
import { XapiError } from './errors.ts';

export type XapiValue =
  | string
  | number
  | boolean
  | null
  | Date
  | XapiValue[]
  | { readonly [name: string]: XapiValue };

/** What may be sent; `Double` for parameters that are floats. */
export type XapiParam =
  | string
  | number
  | boolean
  | Double
  | readonly XapiParam[]
  | { readonly [name: string]: XapiParam };

/** A float: the serializer writes a plain whole number as int, which some xapi versions refuse. */
export interface Double {
  readonly tagName: string;
}

/** The server refuses larger calls (`http_limit_max_rpc_size`, 300 KiB). */
export const MAX_CALL_BYTES = 300 * 1024;
/** The parser runs on this thread: pieces of this size let other work in between. */
const PARSE_PIECE_BYTES = 64 * 1024;
/** Elements within each other: the deepest answer, a map in a record in a map of records, has 20. */
const MAX_DEPTH = 200;

/** Marks a number as a float for the wire. */
export function double(value: number): Double {
  const wrapped = new CustomType(Number.isInteger(value) ? `${value}.0` : String(value));
  wrapped.tagName = 'double';
  return wrapped;
}

/** The body of one call. */
export function encodeCall(method: string, params: readonly XapiParam[]): Buffer {
  let text: string;
  try {
    text = serializer.serializeMethodCall(method, params);
  } catch {
    // The cause is left out: it quotes the value, which may be the password.
    throw new BackupError(
      'internal',
      `encode call: a parameter cannot be written, method=${method}`,
    );
  }
  const body = Buffer.from(text);
  if (body.length > MAX_CALL_BYTES) {
    throw new BackupError('internal', `encode call: too large, method=${method}`, {
      details: { size_bytes: body.length, limit_bytes: MAX_CALL_BYTES },
    });
  }
  return body;
}

/**
 * The value of an answer.
 *
 * Errors: XapiError for a refusal; `pool_unavailable` for anything that is no XML-RPC answer.
 */
export async function decodeAnswer(body: Buffer): Promise<XapiValue> {
  let answer: XapiValue;
  try {
    answer = await parse(body);
  } catch (error) {
    throw new BackupError('pool_unavailable', 'read answer: it is no XML-RPC', { cause: error });
  }
  if (!isStruct(answer) || typeof answer.Status !== 'string') return answer;
  if (answer.Status === 'Success') return answer.Value ?? '';
  const description = answer.ErrorDescription;
  const [code = 'UNKNOWN', ...params] = Array.isArray(description) ? description.map(String) : [];
  throw new XapiError(code, params);
}

function parse(body: Buffer): Promise<XapiValue> {
  const { promise, resolve, reject } = Promise.withResolvers<XapiValue>();
  const deserializer = new Deserializer();
  const nest = { depth: 0 };
  deserializer.parser.on('opentag', () => {
    nest.depth += 1;
  });
  deserializer.parser.on('closetag', () => {
    nest.depth -= 1;
  });
  // The deserializer may call back again after an error; a promise keeps the first.
  deserializer.deserializeMethodResponse(Readable.from(pieces(body, nest)), (error, value) => {
    if (error) reject(error);
    else resolve((value ?? '') as XapiValue);
  });
  return promise;
}

/** Looked at between pieces: one of them alone cannot nest deep enough to hurt. */
function* pieces(body: Buffer, nest: Readonly<{ depth: number }>): Generator<Buffer> {
  for (let at = 0; at < body.length; at += PARSE_PIECE_BYTES) {
    if (nest.depth > MAX_DEPTH) throw new Error(`it is nested deeper than ${MAX_DEPTH} elements`);
    yield body.subarray(at, at + PARSE_PIECE_BYTES);
  }
}

/** Says whether a value is a struct (a record or a map). */
export function isStruct(
  value: XapiValue | undefined,
): value is { readonly [name: string]: XapiValue } {
  return (
    typeof value === 'object' && value !== null && !Array.isArray(value) && !(value instanceof Date)
  );
}
