/**
 * Asks an engine: one request, handed on once, to the Durable Object that keeps its container.
 *
 * What changes something goes on when the caller has hung up (`waitUntil`, as far as the platform lets it). A chat waits
 * three seconds and a container takes as long to start, so a command that is not answered in time is answered with that.
 */
import { BackupError } from '../errors.ts';
import type { AskElsewhere } from '../http/elsewhere.ts';
import { ANSWER_MS } from '../http/follow-ups.ts';
import type { Clock, Log } from '../ports.ts';
import { inTime } from '../signals.ts';
import { engineName } from './engine-name.ts';
import type { Engines } from './front-settings.ts';

const CHATS: ReadonlySet<string> = new Set(['/hooks/slack', '/hooks/mattermost']);
const LATER = 'The engine is being started. Ask for `status` in a minute.';

interface Deps {
  engines: Engines;
  clock: Clock;
  log: Log;
  /** Keeps the work alive when the caller is gone. */
  waitUntil(work: Promise<unknown>): void;
}

/** Errors: `engine_unavailable`. */
export function createEngineCall({ engines, clock, log, waitUntil }: Deps): AskElsewhere {
  return async ({ wanted, request, path }) => {
    const name = engineName(wanted);
    const requestId = request.headers.get('request-id');
    log.info('asking an engine', { request_id: requestId, engine: name, method: wanted.method });
    const answer = engines
      .get(engines.idFromName(name))
      .fetch(request)
      .catch((cause: unknown) => {
        const text = `reach engine ${name}: the platform did not hand the request on`;
        throw new BackupError('engine_unavailable', text, { retry: 'later', cause });
      });
    if (request.method !== 'GET' && request.method !== 'HEAD') {
      // a failure is told to whoever waits for the answer below
      waitUntil(answer.catch(() => undefined));
    }
    if (!CHATS.has(path)) return await answer;
    answer.catch((error) => log.error('chat command failed', { error }));
    return (await inTime(clock, ANSWER_MS, answer)) ?? later();
  };
}

function later(): Response {
  return Response.json({ response_type: 'ephemeral', text: LATER });
}
