/**
 * A notice as chats want it. Pure: the JSON that is posted, nothing else.
 *
 * Slack: api.slack.com/reference/block-kit (text as fallback, blocks; 50 blocks, 3000 characters a section, 10 fields).
 * Mattermost: incoming webhooks, Markdown in `text` (16,383 characters). Discord: execute webhook (content 2000 characters,
 * embed title 256, description 4096, 25 fields of 1024, 6000 in all; allowed_mentions). Teams: a Workflows webhook, a
 * message with one Adaptive Card 1.4 (28 KB). What is cut here is whole in the e-mail and in the job.
 */
import type { Notice } from '../notices.ts';
import { MARKS, markdownEscaped, OPEN, slackEscaped, tidy } from './wording.ts';

/** A card is looked at, not studied. */
const FACTS = 10;
const ROWS = 15;
const ROW_LIMIT = 150;
const FACT_LIMIT = 250;
/** Of a section for Slack, escapes included. */
const SECTION_LIMIT = 2900;
const DESCRIPTION_LIMIT = 3000;

const COLOURS: Readonly<Record<Notice['severity'], number>> = {
  info: 0x607d8b,
  success: 0x2e7d32,
  warning: 0xed6c02,
  error: 0xc62828,
};
const TEAMS_COLOURS: Readonly<Record<Notice['severity'], string>> = {
  info: 'default',
  success: 'good',
  warning: 'warning',
  error: 'attention',
};

/** The body for Slack's incoming webhooks. */
export function slackBody(notice: Notice): object {
  const what = slackEscaped(`${MARKS[notice.severity]} ${notice.what}`);
  const todo = slackEscaped(notice.todo);
  const fields = factsOf(notice).map(({ name, value }) => ({
    type: 'mrkdwn',
    text: `*${slackEscaped(name)}*\n${slackEscaped(value)}`,
  }));
  const lines = rowsOf(notice);
  const section = (text: string) => ({
    type: 'section',
    text: { type: 'mrkdwn', text: cut(text, SECTION_LIMIT) },
  });
  return {
    text: `${what} ${todo}`,
    unfurl_links: false,
    unfurl_media: false,
    blocks: [
      section(`*${what}*\n${todo}`),
      ...(lines.length === 0
        ? []
        : [section(lines.map((line) => `• ${slackEscaped(line)}`).join('\n'))]),
      ...(fields.length === 0 ? [] : [{ type: 'section', fields }]),
      ...(notice.link === undefined ? [] : [section(`<${notice.link}|${OPEN}>`)]),
    ],
  };
}

/** The body for Mattermost's incoming webhooks. */
export function mattermostBody(notice: Notice): object {
  const { severity, what, todo, link } = notice;
  const facts = factsOf(notice).map(
    ({ name, value }) => `| ${markdownEscaped(name)} | ${markdownEscaped(value)} |`,
  );
  const rows = rowsOf(notice).map((line) => `- ${markdownEscaped(line)}`);
  return {
    text: [
      `${MARKS[severity]} **${markdownEscaped(what)}**`,
      markdownEscaped(todo),
      ...(link === undefined ? [] : [`[${OPEN}](${link})`]),
      ...(rows.length === 0 ? [] : ['', ...rows]),
      ...(facts.length === 0 ? [] : ['', '| | |', '|---|---|', ...facts]),
    ].join('\n'),
  };
}

/** The body for Discord's webhooks. */
export function discordBody(notice: Notice): object {
  const { severity, what, todo, at, link } = notice;
  const rows = rowsOf(notice).map((line) => `- ${markdownEscaped(line)}`);
  return {
    content: '',
    allowed_mentions: { parse: [] },
    embeds: [
      {
        title: `${MARKS[severity]} ${tidy(markdownEscaped(what), 240)}`,
        description: cut([markdownEscaped(todo), ...rows].join('\n'), DESCRIPTION_LIMIT),
        color: COLOURS[severity],
        ...(link === undefined ? {} : { url: link }),
        timestamp: at,
        fields: factsOf(notice).map(({ name, value }) => ({
          name,
          value: tidy(markdownEscaped(value), 200),
          inline: value.length < 40,
        })),
      },
    ],
  };
}

/** The body for a Workflows webhook of Microsoft Teams. */
export function teamsBody(notice: Notice): object {
  const { severity, what, todo, link } = notice;
  // no Markdown in runs of text; in facts there is some, without escapes that all clients know: links are taken apart
  const line = (text: string, style: object = {}) => ({
    type: 'RichTextBlock',
    inlines: [{ type: 'TextRun', text, ...style }],
  });
  const facts = factsOf(notice).map(({ name, value }) => ({
    title: name,
    value: value.replaceAll('](', '] ('),
  }));
  return {
    type: 'message',
    attachments: [
      {
        contentType: 'application/vnd.microsoft.card.adaptive',
        contentUrl: null,
        content: {
          $schema: 'http://adaptivecards.io/schemas/adaptive-card.json',
          type: 'AdaptiveCard',
          version: '1.4',
          msteams: { width: 'Full' },
          body: [
            line(what, { weight: 'bolder', color: TEAMS_COLOURS[severity] }),
            line(todo),
            ...rowsOf(notice).map((row) => line(`– ${row}`)),
            ...(facts.length === 0 ? [] : [{ type: 'FactSet', facts }]),
          ],
          ...(link === undefined
            ? {}
            : { actions: [{ type: 'Action.OpenUrl', title: OPEN, url: link }] }),
        },
      },
    ],
  };
}

function cut(text: string, limit: number): string {
  return text.slice(0, limit).toWellFormed();
}

function factsOf({ facts }: Notice): { name: string; value: string }[] {
  return facts.slice(0, FACTS).map(({ name, value }) => ({ name, value: tidy(value, FACT_LIMIT) }));
}

/** A line each; tables are drawn by none of them alike. */
function rowsOf({ table }: Notice): string[] {
  if (table === undefined) return [];
  const lines = table.rows
    .slice(0, ROWS)
    .map((row) => tidy(row.filter((cell) => cell !== '').join(' – '), ROW_LIMIT));
  const more = table.rows.length - lines.length;
  return more > 0 ? [...lines, `and ${more} more`] : lines;
}
