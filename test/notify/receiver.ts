/** What targets are in truth: a web server and a mail server that keep what they were given. */
import type { IncomingHttpHeaders } from 'node:http';
import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { type ParsedMail, simpleParser } from 'mailparser';
import { SMTPServer } from 'smtp-server';
import { createCertificate } from '../sim/xapi/certificate.ts';

export interface Posted {
  method: string;
  path: string;
  headers: IncomingHttpHeaders;
  body: string;
}

export interface Answer {
  status?: number;
  headers?: Record<string, string>;
  body?: string;
}

export interface WebReceiver extends AsyncDisposable {
  /** https://127.0.0.1:<port> */
  origin: string;
  caPem: string;
  posts: Posted[];
  /** Decides the answer; 'silent' never answers. 200 unless set. */
  answer: (post: Posted) => Answer | 'silent';
}

/** Starts one on a free loopback port. */
export async function startWebReceiver(): Promise<WebReceiver> {
  const { certPem, keyPem } = certificate();
  const server = createServer({ cert: certPem, key: keyPem }, async (request, response) => {
    let body = '';
    for await (const piece of request.setEncoding('utf8')) body += piece;
    const { method = '', url: path = '', headers } = request;
    const post = { method, path, headers, body };
    self.posts.push(post);
    const answer = self.answer(post);
    if (answer === 'silent') return;
    response.writeHead(answer.status ?? 200, answer.headers).end(answer.body);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  const self: WebReceiver = {
    origin: `https://127.0.0.1:${port}`,
    caPem: certPem,
    posts: [],
    answer: () => ({}),
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections();
      await new Promise((done) => server.close(done));
    },
  };
  return self;
}

export interface MailReceiver extends AsyncDisposable {
  host: string;
  port: number;
  caPem: string;
  mails: { parsed: ParsedMail; source: string; from: string; to: string[]; secure: boolean }[];
}

/** A mail server that wants a login, after STARTTLS unless `plain`. `refuse`: its answer to every sender. */
export async function startMailReceiver(
  input: { plain?: boolean; tls?: boolean; refuse?: { code: number; text: string } } = {},
): Promise<MailReceiver> {
  const { certPem, keyPem } = certificate();
  const { plain = false, tls = false, refuse } = input;
  const mails: MailReceiver['mails'] = [];
  const server = new SMTPServer({
    cert: certPem,
    key: keyPem,
    secure: tls,
    ...(plain ? { hideSTARTTLS: true, disabledCommands: ['STARTTLS'], authOptional: true } : {}),
    authMethods: ['PLAIN', 'LOGIN'],
    onAuth: ({ username, password }, _session, callback) => {
      if (username === 'xvault' && password === 'mail-secret') callback(null, { user: username });
      else callback(new Error('no such login'));
    },
    onMailFrom: (_address, _session, callback) =>
      callback(
        refuse === undefined
          ? null
          : Object.assign(new Error(refuse.text), { responseCode: refuse.code }),
      ),
    onData: (stream, session, callback) => {
      keep(stream, session).then(() => callback(), callback);
    },
  });
  const keep = async (
    stream: AsyncIterable<Buffer>,
    session: { secure: boolean; envelope: { mailFrom: unknown; rcptTo: { address: string }[] } },
  ) => {
    const pieces: Buffer[] = [];
    for await (const piece of stream) pieces.push(piece);
    const source = Buffer.concat(pieces).toString('utf8');
    const { mailFrom, rcptTo } = session.envelope;
    mails.push({
      parsed: await simpleParser(source),
      source,
      from: (mailFrom as { address: string }).address,
      to: rcptTo.map(({ address }) => address),
      secure: session.secure,
    });
  };
  server.on('error', () => undefined); // connections that are cut
  await new Promise<void>((resolve) => {
    server.listen(0, '127.0.0.1', () => resolve());
  });
  const { port } = server.server.address() as AddressInfo;
  return {
    host: '127.0.0.1',
    port,
    caPem: certPem,
    mails,
    [Symbol.asyncDispose]: async () => {
      await new Promise<void>((done) => {
        server.close(() => done());
      });
    },
  };
}

function certificate() {
  return createCertificate({ address: '127.0.0.1', serial: 78, nowMs: Date.now() });
}
