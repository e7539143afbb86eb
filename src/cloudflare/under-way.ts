/**
 * Requests that are being answered, until the last byte of the answer has left: meanwhile the container is not stopped.
 *
 * Small answers are over when they are handed on. A download is counted by letting its bytes pass through, which the
 * runtime does without waking this code. One that is abandoned by a client nobody hears of again would keep the container
 * for ever (cloudflare/containers#242), so nothing counts for longer than a limit.
 */
import type { Clock } from '../ports.ts';

/** What this long body needs is a link to the bucket. */
const LONGEST_MS = 6 * 3_600_000;
/** Such an answer is on its way at once. */
const SMALL_BYTES = 64 * 1024;

export interface UnderWay {
  busy(): boolean;
  /** How many there were: the same number means that none came between. */
  readonly begun: number;
  /** Counts one more, until the returned function is called. */
  begin(): () => void;
  /** The same answer; `done` is called when its body has ended, whoever ended it. */
  until(answer: Response, done: () => void): Response;
}

/** Counts requests. */
export function createUnderWay(clock: Clock): UnderWay {
  const since = new Map<symbol, number>();
  let begun = 0;
  return {
    get begun() {
      return begun;
    },
    busy: () => [...since.values()].some((at) => clock.elapsed() - at < LONGEST_MS),
    begin: () => {
      const one = Symbol('request');
      begun += 1;
      since.set(one, clock.elapsed());
      return () => void since.delete(one);
    },
    until: (answer, done) => {
      const length = Number(answer.headers.get('content-length') ?? Number.NaN);
      if (answer.body === null || length <= SMALL_BYTES) {
        done();
        return answer;
      }
      const { readable, writable } = passage(length);
      // its failure is the reader's to see, on the other end
      answer.body.pipeTo(writable).then(done, done);
      return new Response(readable, answer);
    },
  };
}

interface Passage {
  readable: ReadableStream<Uint8Array>;
  writable: WritableStream<Uint8Array>;
}

/** The runtime's own, where it has them: bytes pass outside of JavaScript, and a known length stays known. */
function passage(length: number): Passage {
  const { FixedLengthStream, IdentityTransformStream } = globalThis as {
    FixedLengthStream?: new (length: number) => Passage;
    IdentityTransformStream?: new () => Passage;
  };
  if (FixedLengthStream && Number.isSafeInteger(length)) return new FixedLengthStream(length);
  return IdentityTransformStream ? new IdentityTransformStream() : new TransformStream();
}
