/** Slash commands of Slack and Mattermost: one line of text, answered within their three seconds, and followed up later. */
import { z } from 'zod';
import type { Chat } from '../../catalog/record.ts';
import { NEVER } from '../../signals.ts';
import { doChatCommand } from '../chat-commands.ts';
import { type Answer, type AnyRoute, type Call, defineRoute, jsonAnswer } from '../route.ts';
import type { Sender } from '../senders.ts';
import { problemDoc } from './common.ts';

/** What chats send besides is not needed. */
const formBody = z.looseObject({
  user_id: z.string().max(64).optional().meta({ example: 'U2147483697' }),
  text: z.string().max(10_000).optional().meta({ example: 'run web-1' }),
  response_url: z.string().max(2000).optional(),
  ssl_check: z.string().max(10).optional(),
});
const USER = /^[A-Za-z0-9]{1,64}$/;

const ANSWERS = {
  200: {
    description: 'What the command came to, a refusal included, for the one who typed it only.',
    schema: z.object({ response_type: z.literal('ephemeral'), text: z.string() }),
    example: { response_type: 'ephemeral', text: 'Backing up web-1: job `01988a52-…`.' },
  },
  401: problemDoc('No signature or token, a wrong one, or one of another time.'),
  404: problemDoc('This chat has no secret in the settings.'),
};

const slack = defineRoute({
  method: 'POST',
  path: '/hooks/slack',
  scope: 'none',
  sender: 'slack',
  summary: 'Slash command of Slack',
  description:
    '`run <machine>`, `status [<machine>]`, `list <machine>`, `cancel <job>`, `help`. See docs/triggers.md.',
  body: formBody,
  answers: ANSWERS,
  handle: (call) => answerCommand(call, 'slack'),
});

const mattermost = defineRoute({
  method: 'POST',
  path: '/hooks/mattermost',
  scope: 'none',
  sender: 'mattermost',
  summary: 'Slash command of Mattermost',
  description: 'The same commands as of Slack. See docs/triggers.md.',
  body: formBody,
  answers: ANSWERS,
  handle: (call) => answerCommand(call, 'mattermost'),
});

async function answerCommand(
  call: Call<unknown, z.output<typeof formBody>>,
  name: Chat,
): Promise<Answer> {
  const { body, delivery, deps, settings, followUps } = call;
  if (delivery === undefined) throw new Error('a route of a sender without a delivery');
  if (body.ssl_check === '1') return ephemeral('xvault is here.');
  const user = USER.test(body.user_id ?? '') ? String(body.user_id) : '';
  const responseUrl = allowedUrl(delivery.sender, body.response_url);
  const work = doChatCommand(
    {
      service: deps.service,
      sender: delivery.sender,
      user,
      text: body.text ?? '',
      maxAgeSeconds: settings.maxAgeSeconds,
      triggeredBy: `hook:${name} ${user}`,
      jobId: call.reservedId,
      chat: { kind: name, followMs: followUps.followMs(responseUrl), nowMs: deps.clock.now() },
      tellsLater: (vm) => deps.tellsChat?.(name, vm) ?? false,
      publicUrl: settings.publicUrl,
    },
    { signal: NEVER },
  );
  return ephemeral(await followUps.answer(work, { responseUrl }));
}

function ephemeral(text: string): Answer {
  return jsonAnswer(200, { response_type: 'ephemeral', text });
}

/** The address of the later answers, where it is the chat's: the form may name any. */
function allowedUrl({ replyOrigins = [] }: Sender, url: string | undefined): string | undefined {
  if (url === undefined || !URL.canParse(url)) return undefined;
  const { origin, username, password } = new URL(url);
  const isTheirs = replyOrigins.includes(origin) && username === '' && password === '';
  return isTheirs ? url : undefined;
}

export const CHAT_ROUTES: readonly AnyRoute[] = [slack, mattermost];
