/**
 * A page that goes on: the same address answers with HTML, or with its sections as events when asked for those.
 *
 * A section is sent when what is drawn differs from what was sent last, so an idle page costs a comment every 15 s. A
 * stream ends by itself after ten minutes, and when this instance shuts down: the browser comes again, with whatever
 * right it has then, and maybe to another instance.
 */
import { html } from 'hono/html';
import { unsteeredHtml } from '../../plain-text.ts';
import type { Cancellable, Clock } from '../../ports.ts';
import { eventStream, KEEP_ALIVE_MS } from '../events.ts';
import { type Html, pageAnswer } from '../page.ts';
import type { Answer, Call } from '../route.ts';
import { sessionToken } from '../session.ts';

/** Progress is written this often (src/backup/drive.ts). */
const LOOK_EVERY_MS = 2_000;
const STREAM_MS = 10 * 60_000;
const RECONNECT_MS = 3_000;
/** Where no script runs. */
const REFRESH_SECONDS = 15;

export interface Look {
  title: string;
  sections: Record<string, Html>;
  /** Nothing will change any more. */
  isOver?: boolean;
}

/** The page or its events, as the caller wishes; `look` is asked again and again. */
export async function liveAnswer(
  call: Call,
  look: (options: Cancellable) => Promise<Look>,
): Promise<Answer> {
  const { deps } = call;
  const first = await look({ signal: call.signal });
  if (!wantsEvents(call)) {
    return await pageAnswer(`xvault: ${first.title}`, sectionsOf(first), {
      ...(first.isOver ? {} : { live: { refreshSeconds: REFRESH_SECONDS } }),
      signedIn: signedIn(call),
    });
  }
  const release = call.holds.take();
  const leaving = new AbortController();
  const signal = AbortSignal.any([call.signal, leaving.signal]);
  const isDraining = () => deps.service.draining;
  const events = pageEvents({ first, look, isDraining }, deps, { signal });
  return {
    status: 200,
    headers: { 'content-type': 'text/event-stream', 'x-accel-buffering': 'no' },
    body: eventStream(events, { abort: () => leaving.abort(), ended: release }),
  };
}

/** The page is there already: what changes is asked for. */
export function wantsEvents({ c }: Call): boolean {
  return /\btext\/event-stream\b/.test(c.req.header('accept') ?? '');
}

/** Who came with the cookie; a caller with a token of his own cannot sign out. */
export function signedIn({ c, identity }: Call): string | undefined {
  const byCookie =
    c.req.header('authorization') === undefined &&
    sessionToken(c.req.header('cookie')) !== undefined;
  return byCookie ? identity?.name : undefined;
}

interface Source {
  first: Look;
  look: (options: Cancellable) => Promise<Look>;
  isDraining: () => boolean;
}

async function* pageEvents(
  { first, look, isDraining }: Source,
  { clock }: { clock: Clock },
  { signal }: Cancellable,
): AsyncGenerator<string, void, undefined> {
  const untilMs = clock.elapsed() + STREAM_MS;
  const shown = new Map<string, string>();
  let saidAt = clock.elapsed();
  yield `retry: ${RECONNECT_MS}\n\n`;
  for (let current = first; ; current = await look({ signal })) {
    for (const [id, section] of Object.entries(current.sections)) {
      const text = unsteeredHtml(String(await section));
      if (shown.get(id) === text) continue;
      shown.set(id, text);
      saidAt = clock.elapsed();
      yield `event: part\ndata: ${JSON.stringify({ id, html: text })}\n\n`;
    }
    if (current.isOver) {
      yield 'event: end\ndata: {}\n\n';
      return;
    }
    if (isDraining() || clock.elapsed() >= untilMs) return;
    if (clock.elapsed() - saidAt >= KEEP_ALIVE_MS) {
      saidAt = clock.elapsed();
      yield ': keep-alive\n\n';
    }
    await clock.sleep(LOOK_EVERY_MS, { signal });
  }
}

function sectionsOf({ sections }: Look): Html {
  const all = Object.entries(sections).map(
    ([id, section]) => html`<section id="${id}">${section}</section>`,
  );
  return html`${all}`;
}
