/**
 * Both ends of the way: nginx gives the export and takes the object, over http and https.
 *
 * Taking means: read the whole body, then answer as S3 does; nothing is kept and nothing is written. A part stays in the
 * request's buffer, as its client waits for the answer. A plain PUT of unknown length fits into none: it is answered at
 * once and thrown away as it comes, which curl does not mind (it sends every byte). Stateless: the size HEAD
 * tells is in the object's name (`…/<size>.xva`). Copies of ranges are agreed to. What lies in `<folder>/index` can be read
 * as `bench/index/…`, by ranges. Signatures are not looked at. The module http_js (njs) is needed.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { userInfo } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { createCertificate } from '../test/sim/xapi/certificate.ts';
import type { Link } from './link.ts';

export interface Ends {
  /** Below it lie the files of `<folder>/export`. */
  http: string;
  https: string;
  caFile: string;
  caPem: string;
  fingerprint: string;
  /** Calls of the bucket since this was last asked; only if it was asked for when starting. */
  tally(): Tally;
  stop(): Promise<void>;
}

/** What the sink itself saw. */
export interface Tally {
  requests: number;
  /** Bodies of uploaded parts. */
  sentBytes: number;
  uploads: number;
  copies: number;
}

const LOOPBACK = '127.0.0.1';
/** On the far side of a link all ports are free; not 80 and 443, which some machines send elsewhere. */
const LINK_PORTS = [8080, 8443] as const;
/** The largest part anybody sends here. */
const PART_BUFFER = '34m';
const MODULES = ['/usr/lib/nginx/modules', '/usr/lib64/nginx/modules', '/etc/nginx/modules'];
/** How long a body may come after its answer. */
const LINGER = '600s';
const START_LIMIT_MS = 10_000;
/** So that a freed buffer is used again at once: otherwise the sink spends its time on page faults. */
const MALLOC = 'glibc.malloc.mmap_threshold=33554432:glibc.malloc.trim_threshold=8589934592';

/** An ETag that looks like an MD5 would be compared with one. */
const HANDLER = `
const ETAG = '"00000000000000000000000000000000-1"';
function handle(r) {
  r.headersOut['ETag'] = ETAG;
  if (r.method === 'HEAD') {
    const size = /(\\d+)\\.xva$/.exec(r.uri);
    if (!size) return r.return(404);
    r.headersOut['Content-Length'] = size[1];
    r.headersOut['Last-Modified'] = 'Mon, 05 Jan 2026 01:00:00 GMT';
    r.status = 200;
    r.sendHeader();
    return r.finish();
  }
  if (r.method === 'POST' && r.args.uploads !== undefined) {
    const algorithm = r.headersIn['x-amz-checksum-algorithm'];
    if (algorithm) {
      r.headersOut['x-amz-checksum-algorithm'] = algorithm;
      r.headersOut['x-amz-checksum-type'] = 'FULL_OBJECT';
    }
    const id = '<UploadId>u</UploadId>';
    return r.return(200, '<InitiateMultipartUploadResult>' + id + '</InitiateMultipartUploadResult>');
  }
  if (r.method === 'PUT' && r.headersIn['x-amz-copy-source']) {
    return r.return(200, '<CopyPartResult><ETag>' + ETAG + '</ETag></CopyPartResult>');
  }
  if (r.method === 'POST') {
    const etag = '<ETag>"0-1"</ETag>';
    return r.return(200, '<CompleteMultipartUploadResult>' + etag + '</CompleteMultipartUploadResult>');
  }
  r.return(r.method === 'GET' ? 404 : 200, '');
}
export default { handle };
`;

/** Why nginx cannot be used here; undefined when it can. */
export function missingNginx(): string | undefined {
  const found = ['/usr/sbin/nginx', '/usr/bin/nginx', '/usr/local/bin/nginx'].some(existsSync);
  if (found && findModule() !== undefined) return undefined;
  return 'skipped: install nginx-light and libnginx-mod-http-js';
}

function findModule(): string | undefined {
  return MODULES.map((folder) => join(folder, 'ngx_http_js_module.so')).find(existsSync);
}

/**
 * Starts one nginx in `folder` (created; best in memory) on two free loopback ports, or on the far side of `link`, which
 * stays the caller's; `log`: it keeps a tally.
 */
export async function startEnds(
  folder: string,
  { log = false, link }: { log?: boolean; link?: Link | undefined } = {},
): Promise<Ends> {
  mkdirSync(join(folder, 'export'), { recursive: true });
  mkdirSync(join(folder, 'index'));
  const address = link?.address ?? LOOPBACK;
  const certificate = createCertificate({ address, serial: 1, nowMs: Date.now() });
  const [plain, secure] = link ? LINK_PORTS : [await freePort(), await freePort()];
  const caFile = join(folder, 'cert.pem');
  writeFileSync(caFile, certificate.certPem);
  writeFileSync(join(folder, 'key.pem'), certificate.keyPem, { mode: 0o600 });
  writeFileSync(join(folder, 'handler.js'), HANDLER);
  const config = join(folder, 'nginx.conf');
  writeFileSync(config, configText(folder, { address, plain, secure, log }));
  const path = `${process.env.PATH}:/usr/sbin`;
  const args = ['-p', folder, '-e', join(folder, 'error.log'), '-c', config];
  const [program = '', ...words] = [...(link?.prefix ?? []), 'nginx', ...args];
  const child = spawn(program, words, {
    env: { ...process.env, GLIBC_TUNABLES: MALLOC, PATH: path },
    stdio: 'ignore',
  });
  const http = `http://${address}:${plain}`;
  await untilAnswers(child, `${http}/bench/1.xva`, join(folder, 'error.log'));
  return {
    http,
    https: `https://${address}:${secure}`,
    caFile,
    caPem: certificate.certPem,
    fingerprint: certificate.fingerprint,
    tally: () => takeTally(join(folder, LOG)),
    stop: async () => {
      const ended = new Promise((resolve) => child.once('exit', resolve));
      child.kill('SIGTERM');
      await ended;
    },
  };
}

const LOG = 'access.log';

/** Reads the log and empties it. */
function takeTally(file: string): Tally {
  const tally: Tally = { requests: 0, sentBytes: 0, uploads: 0, copies: 0 };
  const lines = readFileSync(file, 'utf8').split('\n').filter(Boolean);
  truncateSync(file);
  for (const line of lines) {
    const [method, length, part, source] = line.split('|');
    tally.requests += 1;
    if (method !== 'PUT' || part === '-') continue;
    if (source !== '-') tally.copies += 1;
    else {
      tally.uploads += 1;
      tally.sentBytes += Number(length);
    }
  }
  return tally;
}

function configText(
  folder: string,
  ports: { address: string; plain: number; secure: number; log: boolean },
): string {
  const root = userInfo().uid === 0 ? 'user root;' : '';
  const log = ports.log ? `${join(folder, LOG)} calls` : 'off';
  return `
load_module ${findModule()};
${root}
worker_processes 2;
daemon off;
pid ${join(folder, 'nginx.pid')};
error_log ${join(folder, 'error.log')} error;
events { worker_connections 512; }
http {
  log_format calls '$request_method|$content_length|$arg_partNumber|$http_x_amz_copy_source';
  access_log off;
  default_type application/octet-stream;
  sendfile on;
  tcp_nopush on;
  keepalive_requests 1000000;
  client_max_body_size 0;
  client_body_temp_path ${join(folder, 'body')};
  client_body_buffer_size ${PART_BUFFER};
  ssl_protocols TLSv1.3;
  ssl_conf_command Ciphersuites TLS_AES_256_GCM_SHA384;
  ssl_certificate ${join(folder, 'cert.pem')};
  ssl_certificate_key ${join(folder, 'key.pem')};
  js_import sink from ${join(folder, 'handler.js')};
  server {
    listen ${ports.address}:${ports.plain};
    listen ${ports.address}:${ports.secure} ssl;
    location /export/ { alias ${folder}/export/; }
    location /put/ { lingering_time ${LINGER}; lingering_timeout ${LINGER}; return 200; }
    location /bench/index/ { alias ${folder}/index/; access_log ${log}; }
    location / { access_log ${log}; js_content sink.handle; }
  }
}
`;
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, LOOPBACK, resolve));
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  return typeof address === 'object' && address !== null ? address.port : 0;
}

async function untilAnswers(child: ChildProcess, url: string, errorLog: string): Promise<void> {
  const until = performance.now() + START_LIMIT_MS;
  for (;;) {
    try {
      await fetch(url, { method: 'HEAD' });
      return;
    } catch (error) {
      if (performance.now() < until && child.exitCode === null) {
        await sleep(20);
        continue;
      }
      child.kill('SIGTERM');
      const said = existsSync(errorLog) ? readFileSync(errorLog, 'utf8').slice(-1000) : '';
      throw new Error(`nginx does not start: ${said}`, { cause: error });
    }
  }
}
