/**
 * What is told later to whoever typed a slash command: chats wait three seconds for an answer, and take up to five more by an
 * address of their own for half an hour.
 *
 * At most two are sent for a command: its answer, if that took too long, and how its job ended. An end after the address is good
 * is told by the chat's own target among the notifications: until when, the job's record says, so one of the two tells it, and
 * whichever instance ends the job. Of the rest nothing is kept: an instance that stops forgets it.
 */
import type { Service } from '../backup/service.ts';
import { isEnded, lateChatOf } from '../catalog/record.ts';
import type { Cancellable, Clock, Log } from '../ports.ts';
import { inTime, NEVER } from '../signals.ts';
import { type ChatAnswer, endedText } from './chat-commands.ts';
import { NotHere } from './elsewhere.ts';

/** The chat's three seconds, less the way there and back. */
export const ANSWER_MS = 2_000;
/** Of the half hour. */
export const FOLLOW_MS = 25 * 60_000;
/** An end just before is seen a moment later. */
const GRACE_MS = 60_000;
/** Between looks whether this instance stops. */
const LOOK_MS = 10_000;
const REPLY_LIMIT_MS = 10_000;
/** Whoever types more is a program. */
const MAX_OPEN = 50;

/** Posts JSON to an address of the chat, without redirects. */
export type Reply = (input: { url: string; body: string }, options: Cancellable) => Promise<void>;

export interface FollowUps {
  /** How long from now on the end of a job can be told to this address. */
  followMs(responseUrl: string | undefined): number;
  /** The command's own text, if it is there in time; else that it takes longer. */
  answer(work: Promise<ChatAnswer>, input: { responseUrl: string | undefined }): Promise<string>;
}

interface Deps {
  service: Service;
  clock: Clock;
  log: Log;
  reply: Reply | undefined;
}

/** Bounded, and ends with the instance. */
export function createFollowUps({ service, clock, log, reply }: Deps): FollowUps {
  let open = 0;

  async function tell(url: string, text: string): Promise<void> {
    const body = JSON.stringify({ response_type: 'ephemeral', text });
    await reply?.({ url, body }, { signal: AbortSignal.timeout(REPLY_LIMIT_MS) });
  }

  async function follow(work: Promise<ChatAnswer>, url: string, isLate: () => boolean) {
    const answer = await work.catch(() => ({ text: FAILED }) as ChatAnswer);
    if (isLate()) await tell(url, answer.text);
    if (answer.job === undefined) return;
    const endsAt = clock.elapsed() + FOLLOW_MS + GRACE_MS;
    while (clock.elapsed() < endsAt && !service.draining) {
      const job = await service.waitJob(answer.job.id, { timeoutMs: LOOK_MS }, { signal: NEVER });
      if (job === undefined) return;
      if (!isEnded(job)) continue;
      // a notification tells it there
      if (lateChatOf(job) !== undefined) return;
      return await tell(url, endedText(job));
    }
  }

  const canFollow = (url: string | undefined): url is string =>
    url !== undefined && reply !== undefined && open < MAX_OPEN;

  return {
    followMs: (url) => (canFollow(url) ? FOLLOW_MS : 0),
    answer: async (work, { responseUrl }) => {
      let late = false;
      const follows = canFollow(responseUrl);
      if (follows) {
        open += 1;
        follow(work, responseUrl, () => late)
          // the chat has had its answer or will not take one: whoever cares asks for the status
          .catch((error) => log.warn('chat not told', { error }))
          .finally(() => {
            open -= 1;
          });
      }
      // nobody waits for it any more then, nor follows it
      work.catch((error) => {
        if (!(error instanceof NotHere)) log.error('chat command failed', { error });
      });
      const answer = await inTime(clock, ANSWER_MS, work);
      if (answer !== undefined) return answer.text;
      late = true;
      return follows ? 'Working on it …' : 'Working on it: ask for `status` in a moment.';
    },
  };
}

const FAILED = 'That met a bug of xvault: its log has more.';
