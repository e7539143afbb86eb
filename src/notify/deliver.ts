/**
 * One try to tell one target, in the target's own shape.
 *
 * webhook: Standard Webhooks 1.0.0 (webhook-id, webhook-timestamp, webhook-signature; with two secrets two signatures).
 * cloudevents: CloudEvents 1.0, HTTP binding, structured mode. healthchecks: pings with `rid`, the uuid of the job or run;
 * its answers to wrong addresses are 200 with other words than OK. Chats: chat.ts. E-mail: mail.ts.
 */
import { Webhook } from 'standardwebhooks';
import { BackupError } from '../errors.ts';
import type { Notice } from '../notices.ts';
import { DEFAULT_SOURCE, type NotifyTarget } from '../notify-targets.ts';
import type { Cancellable, Clock } from '../ports.ts';
import { formatTime } from '../time.ts';
import { discordBody, mattermostBody, slackBody, teamsBody } from './chat.ts';
import { type PostInput, post } from './post.ts';

/** One try, from the connection to the end of the answer; chats answer within two seconds, relays within ten. */
export const TRY_MS = 20_000;
/** Of a ping's body. */
const PING_LIMIT = 10_000;

/** Errors: `notify_failed`, and whatever the network's are; the signal's reason. */
export async function deliver(
  target: NotifyTarget,
  notice: Notice,
  input: {
    clock: Clock;
    traceparent?: string | undefined;
    publicUrl?: string | undefined;
  } & Cancellable,
): Promise<void> {
  const { clock, signal, traceparent, publicUrl } = input;
  if (target.kind === 'email') {
    const { sendMail } = await import('./mail.ts');
    return await sendMail(target, notice, { signal, timeoutMs: TRY_MS });
  }
  const request = requestOf(target, notice, { nowMs: clock.now(), publicUrl, traceparent });
  const answer = await post(withTrace(target, request, traceparent), { signal });
  if (target.kind === 'healthchecks' && /^OK \(/.test(answer)) {
    throw new BackupError('notify_failed', `answered "${answer}"`);
  }
}

/** For programs of the receiver's own, which may go on with the trace; chats and monitors are somebody else's. */
function withTrace(
  { kind }: NotifyTarget,
  request: PostInput,
  traceparent: string | undefined,
): PostInput {
  if (traceparent === undefined || (kind !== 'webhook' && kind !== 'cloudevents')) return request;
  return { ...request, headers: { ...request.headers, traceparent } };
}

type PostTarget = Exclude<NotifyTarget, { kind: 'email' }>;

/** What a message says besides the notice. */
interface Around {
  nowMs: number;
  publicUrl: string | undefined;
  traceparent: string | undefined;
}

function requestOf(
  target: PostTarget,
  notice: Notice,
  { nowMs, publicUrl, traceparent }: Around,
): PostInput {
  const { url, caPem } = target;
  const shared = { url, caPem, connectTimeoutMs: TRY_MS };
  const json = (body: object, headers: Record<string, string> = {}): PostInput => ({
    ...shared,
    headers: { 'content-type': 'application/json', ...headers },
    body: JSON.stringify(body),
  });
  switch (target.kind) {
    case 'webhook':
      return {
        ...shared,
        ...signed(
          target.secrets.map((one) => new Webhook(one.reveal())),
          notice,
          nowMs,
        ),
      };
    case 'cloudevents': {
      const authorization = target.token && { authorization: `Bearer ${target.token.reveal()}` };
      const type = 'application/cloudevents+json; charset=utf-8';
      const source = target.source === DEFAULT_SOURCE ? publicUrl : undefined;
      // CloudEvents, Distributed Tracing extension
      const trace = traceparent === undefined ? {} : { traceparent };
      const event = { ...cloudEvent(source ?? target.source, notice), ...trace };
      return json(event, {
        ...authorization,
        'content-type': type,
      });
    }
    case 'slack':
      return json(slackBody(notice));
    case 'mattermost':
      return json(mattermostBody(notice));
    case 'discord':
      // waits until it is posted: only then is a failure told
      return { ...json(discordBody(notice)), query: { wait: 'true' } };
    case 'teams':
      return json(teamsBody(notice));
    case 'healthchecks':
      return { ...shared, ...ping(notice) };
  }
}

function signed(signers: readonly Webhook[], notice: Notice, nowMs: number) {
  const { id, event, at } = notice;
  const body = JSON.stringify({ type: event, timestamp: at, data: dataOf(notice) });
  const stamp = new Date(nowMs);
  return {
    body,
    headers: {
      'content-type': 'application/json',
      'webhook-id': id,
      'webhook-timestamp': String(Math.floor(nowMs / 1000)),
      'webhook-signature': signers.map((one) => one.sign(id, stamp, body)).join(' '),
    },
  };
}

/** For programs. */
function dataOf({ what, todo, link, data }: Notice): object {
  return { what, todo, ...(link === undefined ? {} : { page: link }), ...data };
}

function cloudEvent(source: string, notice: Notice): object {
  const { id, event, at, vm } = notice;
  return {
    specversion: '1.0',
    id,
    source,
    type: `xvault.${event}`,
    time: formatTime(Date.parse(at)),
    ...(vm === undefined ? {} : { subject: `${vm.pool}/${vm.uuid}` }),
    datacontenttype: 'application/json',
    data: dataOf(notice),
  };
}

/** A cancelled job is neither: without a success its check alarms when it is due. */
function ping({ event, severity, about, what, todo, link, facts }: Notice) {
  const page = link === undefined ? [] : [link];
  const lines = [what, todo, ...page, '', ...facts.map(({ name, value }) => `${name}: ${value}`)];
  return {
    path: pingPath(event, severity),
    ...(about === undefined ? {} : { query: { rid: about } }),
    headers: { 'content-type': 'text/plain; charset=utf-8' },
    body: lines.join('\n').slice(0, PING_LIMIT).toWellFormed(),
  };
}

function pingPath(event: Notice['event'], severity: Notice['severity']): string {
  if (event.endsWith('.started')) return '/start';
  if (event.endsWith('.cancelled')) return '/log';
  if (event.endsWith('.succeeded')) return '';
  // a run that was cancelled is no failure, and nothing that should keep the switch quiet
  if (event === 'run.finished')
    return { success: '', info: '', warning: '/log', error: '/fail' }[severity];
  return '/fail';
}
