/**
 * One POST to a target of the settings: an answer in time, or the reason why not, and whether a later try may help.
 *
 * Redirects are not followed, proxies of the environment are not used, and the address is told to nobody: it is a secret.
 * Of the answer the status counts, and its first words, which chats use to say what is wrong.
 */
import { getCACertificates } from 'node:tls';
import { Agent, request } from 'undici';
import { BackupError } from '../errors.ts';
import type { Cancellable } from '../ports.ts';
import type { Secret } from '../secret.ts';
import { firstText, secondsOf } from './answer.ts';
import { tidy } from './wording.ts';

/** Of the answer: read, told. */
const MAX_ANSWER_BYTES = 2_048;
const TOLD_LIMIT = 200;
/** Answers that ask to be called again, besides all of 500 and above. */
const ASKS_FOR_A_MOMENT = new Set([408, 425, 429]);

export interface PostInput {
  url: Secret;
  /** Put behind the path. */
  path?: string;
  query?: Readonly<Record<string, string>>;
  headers: Readonly<Record<string, string>>;
  body: string;
  caPem?: string | undefined;
  connectTimeoutMs: number;
}

/** Posts, and gives the beginning of the answer. Errors: `notify_failed`; undici's own when nothing answers. */
export async function post(input: PostInput, { signal }: Cancellable): Promise<string> {
  const { caPem, connectTimeoutMs } = input;
  // giving TLS a list replaces its own, so that is repeated
  const ca = caPem === undefined ? {} : { ca: [...getCACertificates('default'), caPem] };
  const agent = new Agent({ pipelining: 0, connect: { ...ca, timeout: connectTimeoutMs } });
  try {
    const { statusCode, headers, body } = await request(addressOf(input), {
      method: 'POST',
      dispatcher: agent,
      headers: { 'user-agent': 'xvault', ...input.headers },
      body: input.body,
      signal,
      headersTimeout: 0, // the whole try has one time-out
      bodyTimeout: 0,
    });
    const text = await readStart(body, String(headers['content-type'] ?? ''));
    if (statusCode >= 200 && statusCode <= 299) return text;
    throw refusal(statusCode, text, headers['retry-after']);
  } finally {
    // an answer's body may have no end: whatever is left of it goes with the connection
    await agent.destroy();
  }
}

function addressOf({ url, path = '', query = {} }: PostInput): URL {
  const address = new URL(url.reveal());
  address.pathname = `${address.pathname.replace(/\/$/, '')}${path}` || '/';
  for (const [name, value] of Object.entries(query)) address.searchParams.set(name, value);
  return address;
}

/** Pages made for browsers say nothing here. */
async function readStart(body: AsyncIterable<Buffer>, type: string): Promise<string> {
  const text = await firstText(body, MAX_ANSWER_BYTES);
  return /html/.test(type) ? '' : tidy(text, TOLD_LIMIT);
}

function refusal(
  status: number,
  text: string,
  retryAfter: string | string[] | undefined,
): BackupError {
  const said = text === '' ? '' : ` "${text}"`;
  const redirect = status >= 300 && status <= 399 ? ' (redirects are not followed)' : '';
  const passing = status >= 500 || ASKS_FOR_A_MOMENT.has(status);
  const seconds = secondsOf(retryAfter);
  return new BackupError('notify_failed', `answered ${status}${said}${redirect}`, {
    details: { status, ...(seconds === undefined ? {} : { retry_after_seconds: seconds }) },
    retry: passing ? 'later' : 'after-fix',
  });
}
