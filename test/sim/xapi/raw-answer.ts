/**
 * Answers written by hand onto the socket: HTTP/1.0 without length, redirects, xapi's HTML errors.
 *
 * node:http cannot write a status line of version 1.0 or end a body by close, so handlers take the socket over.
 */
import type { Socket } from 'node:net';

export type Headers = readonly (readonly [string, string])[];

function head(status: string, headers: Headers): string {
  return `${status}\r\n${headers.map(([name, value]) => `${name}: ${value}\r\n`).join('')}\r\n`;
}

/** The HTML xapi shows for an error, with the error's text in it. */
function errorPage(title: string, detail: string): string {
  return `<html><body><h1>HTTP ${title}</h1>${detail}</body></html>`;
}

const INTERNAL_TEXT =
  'An unexpected error occurred; please wait a while and try again. If the problem persists, ' +
  'please contact your support representative.<h1> Additional information </h1>';

/** A whole HTTP 500, as it is sent before the headers or appended to a body already begun. */
export function internalError(version: string, detail: string): string {
  const body = errorPage('500 internal server error', `${INTERNAL_TEXT}${detail}`);
  return (
    head(`HTTP/${version} 500 Internal Error`, [
      ['content-length', String(Buffer.byteLength(body))],
      ['connection', 'close'],
      ['cache-control', 'no-cache, no-store'],
      ['content-type', 'text/html'],
    ]) + body
  );
}

/** Any other refusal with a short page. */
export function refusal(status: string, headers: Headers = []): string {
  const body = errorPage(status, '');
  return (
    head(`HTTP/1.1 ${status}`, [
      ['content-length', String(Buffer.byteLength(body))],
      ['connection', 'close'],
      ['cache-control', 'no-cache, no-store'],
      ['content-type', 'text/html'],
      ...headers,
    ]) + body
  );
}

/** 302 to the same handler elsewhere. */
export function redirect(location: string): string {
  return head('HTTP/1.1 302 Found', [
    ['Location', location],
    ['content-length', '0'],
    ['connection', 'close'],
    ['cache-control', 'no-cache, no-store'],
  ]);
}

/** The head of an export: HTTP/1.0, no length; the body ends with the connection. */
export function exportHead(input: { task: string; server: string; lengthBytes?: number }): string {
  const length: Headers =
    input.lengthBytes === undefined ? [] : [['content-length', String(input.lengthBytes)]];
  return head('HTTP/1.0 200 OK', [
    ...length,
    ['Connection', 'close'],
    ['Cache-Control', 'no-cache, no-store'],
    ['task-id', input.task],
    ['Server', input.server],
    ['content-type', 'application/octet-stream'],
    ['Content-Disposition', 'attachment; filename="export.xva"'],
  ]);
}

/** The head of an import's answer, sent before its body is read; no length, the end comes with the connection. */
export function importHead(input: { task: string; server: string }): string {
  return head('HTTP/1.1 200 OK', [
    ['Connection', 'close'],
    ['Cache-Control', 'no-cache, no-store'],
    ['task-id', input.task],
    ['Server', input.server],
    ['content-type', 'application/octet-stream'],
  ]);
}

/** A bare refusal of an import; xapi writes a whole HTTP 500 behind it. */
export function bareRefusal(status: string): string {
  return head(`HTTP/1.1 ${status}`, [
    ['Connection', 'close'],
    ['Cache-Control', 'no-cache, no-store'],
  ]);
}

/** Sends the last bytes and drops the connection, read out or not: what the peer still sends is answered by a reset. */
export function drop(socket: Socket, text = ''): Promise<void> {
  return new Promise((resolve) => {
    socket.once('close', () => resolve());
    if (socket.destroyed) resolve();
    else socket.end(text, () => socket.destroy());
  });
}

/** Sends the last bytes and closes. */
export function finish(socket: Socket, text: string): Promise<void> {
  return new Promise((resolve) => {
    socket.once('close', () => resolve());
    if (socket.destroyed) resolve();
    else socket.end(text);
  });
}
