/**
 * Sends a notice by SMTP, through nodemailer: TLS from the start or STARTTLS, with a login where one is set.
 *
 * STARTTLS is insisted on unless the settings say `insecure`. The Message-ID is the notice's, so that a repeat whose
 * first try arrived after all is one mail to whoever counts. Nothing in a notice can name a file or an address to read.
 */
import { getCACertificates } from 'node:tls';
import { createTransport } from 'nodemailer';
import { BackupError } from '../errors.ts';
import type { Notice } from '../notices.ts';
import type { NotifyTarget } from '../notify-targets.ts';
import type { Cancellable } from '../ports.ts';
import { parseTime } from '../time.ts';
import { mailText } from './mail-text.ts';
import { tidy } from './wording.ts';

type MailTarget = Extract<NotifyTarget, { kind: 'email' }>;

/** Of the server's own words. */
const TOLD_LIMIT = 200;

/** Errors: `notify_failed`; of 5xx and refused logins no later try is of use. */
export async function sendMail(
  target: MailTarget,
  notice: Notice,
  { signal, timeoutMs }: Cancellable & { timeoutMs: number },
): Promise<void> {
  const { server, login, insecure, caPem, from, to } = target;
  const transport = createTransport({
    host: server.host,
    port: server.port,
    secure: server.tls,
    requireTLS: !server.tls && !insecure,
    ...(login === undefined
      ? {}
      : { auth: { user: login.username, pass: login.password.reveal() } }),
    ...(caPem === undefined ? {} : { tls: { ca: [...getCACertificates('default'), caPem] } }),
    connectionTimeout: timeoutMs,
    greetingTimeout: timeoutMs,
    socketTimeout: timeoutMs,
    disableFileAccess: true,
    disableUrlAccess: true,
  });
  try {
    await transport.sendMail({
      from,
      to: [...to],
      ...mailText(notice),
      date: new Date(parseTime(notice.at)),
      messageId: `<${notice.id}@xvault>`,
      headers: { 'Auto-Submitted': 'auto-generated', 'X-Xvault-Event': notice.event },
      signal,
    });
  } catch (cause) {
    signal.throwIfAborted();
    throw translated(cause);
  } finally {
    transport.close();
  }
}

/** nodemailer's codes say where it failed, the server's what it thinks of it. */
function translated(cause: unknown): BackupError {
  const {
    code = '',
    responseCode,
    message,
  } = cause as NodeJS.ErrnoException & {
    responseCode?: number;
  };
  const isFinal =
    code === 'EAUTH' || code === 'ETLS' || (responseCode !== undefined && responseCode >= 500);
  return new BackupError('notify_failed', tidy(String(message), TOLD_LIMIT), {
    details: { ...(responseCode === undefined ? {} : { status: responseCode }) },
    retry: isFinal ? 'after-fix' : 'later',
    cause,
  });
}
