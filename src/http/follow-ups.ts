/**
 * What is told later to whoever typed a slash command: chats wait three seconds for an answer, and take up to five more by an
 * address of their own for half an hour.
 *
 * At most two are sent for a command: its answer, if that took too long, and how its job ended. Jobs that take longer than the
 * address is good are told by the notifications of the settings. Nothing of this is kept: an instance that stops forgets it.
 */
import type { Service } from '../backup/service.ts';
import { isEnded } from '../catalog/record.ts';
import type { Cancellable, Clock, Log } from '../ports.ts';
import { NEVER } from '../signals.ts';
import { type ChatAnswer, endedText } from './chat-commands.ts';
import { NotHere } from './elsewhere.ts';

/** The chat's three seconds, less the way there and back. */
export const ANSWER_MS = 2_000;
/** Of the half hour. */
export const FOLLOW_MS = 25 * 60_000;
/** Between looks whether this instance stops. */
const LOOK_MS = 10_000;
const REPLY_LIMIT_MS = 10_000;
/** Whoever types more is a program. */
const MAX_OPEN = 50;

/** Posts JSON to an address of the chat, without redirects. */
export type Reply = (input: { url: string; body: string }, options: Cancellable) => Promise<void>;

export interface FollowUps {
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
    const endsAt = clock.elapsed() + FOLLOW_MS;
    while (clock.elapsed() < endsAt && !service.draining) {
      const job = await service.waitJob(answer.job.id, { timeoutMs: LOOK_MS }, { signal: NEVER });
      if (job === undefined) return;
      if (isEnded(job)) return await tell(url, endedText(job));
    }
  }

  return {
    answer: async (work, { responseUrl }) => {
      let late = false;
      const canFollow = responseUrl !== undefined && reply !== undefined && open < MAX_OPEN;
      if (canFollow) {
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
      const inTime = new AbortController();
      const timeout = clock.sleep(ANSWER_MS, { signal: inTime.signal }).then(
        () => undefined,
        () => undefined,
      );
      try {
        const answer = await Promise.race([work, timeout]);
        if (answer !== undefined) return answer.text;
        late = true;
        return canFollow ? 'Working on it …' : 'Working on it: ask for `status` in a moment.';
      } finally {
        inTime.abort();
      }
    },
  };
}

const FAILED = 'That met a bug of xvault: its log has more.';
