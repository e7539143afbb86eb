/**
 * Answers of many bytes, written to the socket from where they lie: the body's stream is left aside.
 *
 * On Node a stream of Web APIs costs an object, a copy and a few turns of the loop for each piece; a disk read whole took twice
 * the time of the same bytes from the bucket. So the listener takes what the stream would have read (http/bytes.ts) and gives it
 * to the socket, which says when the kernel has it: only then the memory is used again. Two pieces are on their way, so
 * that the socket always has one, and whoever does not read has nothing read for him. Status and headers are the app's.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { RESPONSE_ALREADY_SENT } from '@hono/node-server/utils/response';
import type { Lending, Lent } from '../backup/lending.ts';
import { toBackupError } from '../errors.ts';
import { takeBytes } from '../http/bytes.ts';
import type { Clock, Log } from '../ports.ts';

/** Pieces of one answer that the kernel does not have yet. */
const MOST_UNSENT = 2;

/** Who takes a piece in this time gets the next one without a copy. */
const QUICK_MS = 200;

/** The socket's side of a request, as the server gives it beside the Request. */
export interface Exchange {
  incoming: Pick<IncomingMessage, 'url'> & {
    socket: Pick<
      Socket,
      'destroyed' | 'destroy' | 'once' | 'off' | 'getMaxListeners' | 'setMaxListeners'
    >;
  };
  outgoing: Outgoing;
}

type Outgoing = Pick<ServerResponse, 'writeHead' | 'end' | 'destroy'> & {
  write(bytes: Uint8Array, callback: () => void): boolean;
};

interface Deps {
  log: Log;
  clock: Pick<Clock, 'elapsed'>;
}

/** Sends the answer here if it is one of many bytes; else it is given back as it is. Never fails once it has begun. */
export async function sendBytes(
  answer: Response,
  { request, incoming, outgoing }: Exchange & { request: Request },
  { log, clock }: Deps,
): Promise<Response> {
  const bytes = takeBytes(request, answer);
  if (bytes === undefined) return answer;
  const { socket } = incoming;
  const unsent = createUnsent(clock);
  // its handle is closed by then: nothing reads the memory any more, whether or not a write was told so
  const onClose = () => {
    unsent.clear();
    void bytes.leave();
  };
  bytes.lending.onWanted = () => {
    log.warn('reader cut off: it takes nothing, and memory is wanted', { url: incoming.url });
    socket.destroy();
  };
  // requests one behind the other share it: Node would tell of a leak at the eleventh
  socket.setMaxListeners(socket.getMaxListeners() + 1).once('close', onClose);
  try {
    outgoing.writeHead(answer.status, Object.fromEntries(answer.headers));
    for (;;) {
      const piece = await bytes.next();
      if (socket.destroyed) piece?.release();
      else if (piece === undefined) outgoing.end();
      if (socket.destroyed || piece === undefined) break;
      unsent.write(outgoing, piece, bytes.lending);
      await unsent.below(MOST_UNSENT);
    }
  } catch (error) {
    const { code } = toBackupError(error);
    if (!socket.destroyed) log.error('answer ended early', { url: incoming.url, code, error });
    // the head was sent: a length that is not reached is all that can be said
    outgoing.destroy();
  } finally {
    await bytes.leave();
    await unsent.below(1);
    socket.off('close', onClose).setMaxListeners(socket.getMaxListeners() - 1);
  }
  return RESPONSE_ALREADY_SENT;
}

/** Pieces the kernel does not have yet. */
function createUnsent(clock: Deps['clock']) {
  const pieces = new Set<Lent>();
  let moved = Promise.withResolvers<void>();
  const settle = (piece: Lent): void => {
    pieces.delete(piece);
    piece.release();
    moved.resolve();
    moved = Promise.withResolvers();
  };
  return {
    write: (outgoing: Outgoing, piece: Lent, lending: Lending): void => {
      const startedAt = clock.elapsed();
      pieces.add(piece);
      outgoing.write(piece.bytes, () => {
        lending.isQuick = clock.elapsed() - startedAt < QUICK_MS;
        settle(piece);
      });
    },
    /** Waits until they are fewer. */
    below: async (count: number): Promise<void> => {
      while (pieces.size >= count) await moved.promise;
    },
    clear: (): void => pieces.forEach(settle),
  };
}
