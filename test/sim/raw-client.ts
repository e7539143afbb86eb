/**
 * The barest client for tests of the simulated pool: bytes onto a TLS socket, bytes back.
 *
 * It knows no keep-alive and no redirects, so a test sees exactly what was sent; and it reads archives with a few
 * lines of its own, not with xvault's codec.
 */
import { request } from 'node:https';
import { connect } from 'node:tls';
import type { SimPool } from './pool.ts';

export interface RawAnswer {
  statusLine: string;
  headers: Map<string, string>;
  body: Buffer;
  /** The connection ended with an error (a reset) instead of an orderly close. */
  reset: boolean;
}

/** Sends `text` to a host of the pool and returns all that comes until the connection ends. */
export function exchange(url: string, text: string | Buffer): Promise<RawAnswer> {
  const { hostname, port } = new URL(url);
  return new Promise((resolve) => {
    const chunks: Buffer[] = [];
    let reset = false;
    const socket = connect({ host: hostname, port: Number(port), rejectUnauthorized: false });
    socket.on('secureConnect', () => socket.write(text));
    socket.on('data', (chunk: Buffer) => chunks.push(chunk));
    socket.on('error', () => {
      reset = true;
    });
    socket.on('close', () => resolve({ ...splitAnswer(Buffer.concat(chunks)), reset }));
  });
}

function splitAnswer(bytes: Buffer): Omit<RawAnswer, 'reset'> {
  const end = bytes.indexOf('\r\n\r\n');
  const [statusLine = '', ...lines] = bytes.toString('latin1', 0, Math.max(0, end)).split('\r\n');
  const headers = new Map(
    lines.map((line): [string, string] => {
      const at = line.indexOf(': ');
      return [line.slice(0, at).toLowerCase(), line.slice(at + 2)];
    }),
  );
  return { statusLine, headers, body: bytes.subarray(end < 0 ? bytes.length : end + 4) };
}

/** GETs a path of a host. */
export function get(url: string, path: string, headers: string[] = []): Promise<RawAnswer> {
  const lines = [`GET ${path} HTTP/1.1`, 'Host: pool', ...headers, '', ''];
  return exchange(url, lines.join('\r\n'));
}

/** PUTs a body to a path of a host; the body goes out whatever the host answers meanwhile. */
export function put(
  url: string,
  path: string,
  body: Uint8Array,
  headers: string[] = [],
): Promise<RawAnswer> {
  const length = `Content-Length: ${body.length}`;
  const lines = [`PUT ${path} HTTP/1.1`, 'Host: pool', length, ...headers, '', ''];
  return exchange(url, Buffer.concat([Buffer.from(lines.join('\r\n')), body]));
}

/** Answer of a JSON-RPC v2 call. */
export interface JsonAnswer {
  result?: unknown;
  error?: { code: number; message: string; data: string[] };
}

/** POSTs a body and returns the text of the answer and its headers. */
export function post(
  pool: SimPool,
  path: string,
  body: string,
  url = pool.url,
): Promise<{ status: number; text: string; headers: Record<string, unknown> }> {
  return new Promise((resolve, reject) => {
    const options = { method: 'POST', rejectUnauthorized: false, agent: false as const };
    const outgoing = request(new URL(path, url), options, (response) => {
      const chunks: Buffer[] = [];
      response.on('data', (chunk: Buffer) => chunks.push(chunk));
      response.on('error', reject);
      response.on('end', () =>
        resolve({
          status: response.statusCode ?? 0,
          text: Buffer.concat(chunks).toString('utf8'),
          headers: response.headers,
        }),
      );
    });
    outgoing.on('error', reject);
    outgoing.setHeader('content-length', Buffer.byteLength(body));
    outgoing.end(body);
  });
}

/** Calls a method over JSON-RPC; the answer as it came. */
export async function callRaw(
  pool: SimPool,
  method: string,
  params: unknown[],
  url = pool.url,
): Promise<JsonAnswer> {
  const body = JSON.stringify({ jsonrpc: '2.0', id: 1, method, params });
  return JSON.parse((await post(pool, '/jsonrpc', body, url)).text) as JsonAnswer;
}

/** A logged-in caller: results, or an error whose message is `CODE p1 p2`. */
export interface Caller {
  session: string;
  call<T = string>(method: string, ...params: unknown[]): Promise<T>;
}

/** Logs in and returns the caller. */
export async function logIn(pool: SimPool): Promise<Caller> {
  const login = [pool.username, pool.password, '1.0', 'raw test client'];
  const { result } = await callRaw(pool, 'session.login_with_password', login);
  const session = String(result);
  return {
    session,
    async call<T>(method: string, ...params: unknown[]): Promise<T> {
      const answer = await callRaw(pool, method, [session, ...params]);
      if (answer.error !== undefined) {
        throw new Error([answer.error.message, ...answer.error.data].join(' '));
      }
      return answer.result as T;
    },
  };
}

export interface Member {
  name: string;
  header: Buffer;
  content: Buffer;
}

/** Reads the members of an archive until the zero blocks; throws when it ends before them. */
export function readMembers(archive: Buffer): { members: Member[]; rest: Buffer } {
  const members: Member[] = [];
  let at = 0;
  while (archive[at] !== 0) {
    if (at + 512 > archive.length) throw new Error('archive ends early');
    const header = archive.subarray(at, at + 512);
    const name = header.toString('utf8', 0, header.indexOf(0));
    const size = Number.parseInt(header.toString('latin1', 124, 135), 8);
    members.push({ name, header, content: archive.subarray(at + 512, at + 512 + size) });
    at += 512 + Math.ceil(size / 512) * 512;
  }
  return { members, rest: archive.subarray(at) };
}

/** Puts a disk together by the importer's rule: gaps count in blocks, empty members only use up a number. */
export function assemble(
  members: Member[],
  id: string,
  write: (offset: number, bytes: Buffer) => void,
): number {
  let last = -1;
  let offset = 0;
  for (const { name, content } of members) {
    const match = /^(.+)\/(\d{8})$/.exec(name);
    if (match === null || match[1] !== id) continue;
    const number = Number(match[2]);
    offset += (number - last - 1) * 1_048_576;
    write(offset, content);
    offset += content.length;
    last = number;
  }
  return offset;
}
