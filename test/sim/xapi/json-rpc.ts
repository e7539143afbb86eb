/**
 * JSON-RPC as xapi speaks it at /jsonrpc: version 1 without a `jsonrpc` member, version 2 with it.
 *
 * HTTP status is always 200; errors differ between the versions: v1 puts [CODE, …] into `error`, v2 an object
 * {code: 1, message: CODE, data: [params]}. A null or missing id is malformed.
 */
import { formatDate, tagged, type Value, type XenError } from './values.ts';

export interface JsonCall {
  version: 1 | 2;
  id: string | number;
  method: string;
  params: Value[];
}

function fromJson(value: unknown): Value {
  if (typeof value === 'string' || typeof value === 'boolean' || typeof value === 'number') {
    return value;
  }
  if (value === null) return '';
  if (Array.isArray(value)) return value.map(fromJson);
  return Object.fromEntries(
    Object.entries(value as object).map(([key, item]) => [key, fromJson(item)]),
  );
}

function toJson(value: Value): unknown {
  if (value instanceof Date) return formatDate(value);
  if (Array.isArray(value)) return value.map(toJson);
  if (typeof value !== 'object') return value;
  const number = tagged(value);
  if (number !== undefined) return number.value;
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, toJson(item)]));
}

/** Reads a request; throws on anything malformed (HTTP 500). */
export function parseJsonCall(body: string): JsonCall {
  const request = JSON.parse(body) as Record<string, unknown>;
  const { id, method, params } = request;
  if (typeof method !== 'string') throw new Error('no method');
  if (typeof id !== 'string' && typeof id !== 'number') throw new Error('no id');
  if (params !== undefined && !Array.isArray(params)) throw new Error('params are no array');
  return {
    version: request.jsonrpc === '2.0' ? 2 : 1,
    id,
    method,
    params: (params ?? []).map(fromJson),
  };
}

/** Writes the answer to `call`. */
export function formatJsonResponse(
  call: JsonCall,
  outcome: { result: Value } | { error: XenError },
): string {
  const v2 = call.version === 2 ? { jsonrpc: '2.0' } : {};
  if ('result' in outcome) {
    const body = { ...v2, result: toJson(outcome.result), id: call.id };
    return JSON.stringify(call.version === 2 ? body : { ...body, error: null });
  }
  const { code, params } = outcome.error;
  if (call.version === 1) {
    return JSON.stringify({ result: null, error: [code, ...params], id: call.id });
  }
  return JSON.stringify({ ...v2, error: { code: 1, message: code, data: params }, id: call.id });
}
