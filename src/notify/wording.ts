/**
 * Words of a notice made safe for where they are shown: names of machines and messages of pools are anybody's text.
 *
 * Each place has its own ways to be steered: control characters, mentions that ring everybody's telephone, links that
 * lead elsewhere than they say. Limits are those of the receivers, with some room.
 */
import type { Notice } from '../notices.ts';
import { unsteered } from '../plain-text.ts';

const SENTENCE_LIMIT = 800;
const VALUE_LIMIT = 900;
const CELL_LIMIT = 300;
/** Lines of a table in an e-mail; more than any pool has machines. */
const ROWS_LIMIT = 1000;

/** What the link to the page says. */
export const OPEN = 'Open in xvault';

/** One character a glance can tell apart, also without colour. */
export const MARKS: Readonly<Record<Notice['severity'], string>> = {
  info: 'ℹ️',
  success: '✅',
  warning: '⚠️',
  error: '❌',
};

/** The notice with plain text of bounded length in every place people read. */
export function tidied(notice: Notice): Notice {
  const { what, todo, facts, table } = notice;
  const rows = table?.rows
    .slice(0, ROWS_LIMIT)
    .map((row) => row.map((cell) => tidy(cell, CELL_LIMIT)));
  return {
    ...notice,
    what: tidy(what, SENTENCE_LIMIT),
    todo: tidy(todo, SENTENCE_LIMIT),
    facts: facts.map(({ name, value }) => ({ name, value: tidy(value, VALUE_LIMIT) })),
    ...(table && rows ? { table: { columns: table.columns, rows } } : {}),
  };
}

/** One line, nothing that steers, cut at whole characters. */
export function tidy(text: string, limit: number): string {
  const one = unsteered(text.replace(/\s+/g, ' ')).trim();
  return one.length <= limit ? one : `${one.slice(0, limit - 1).toWellFormed()}…`;
}

/** Slack's mrkdwn: links, channels and mentions are all written in angle brackets. */
export function slackEscaped(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');
}

/** Markdown: every sign that means something, and mentions, which have no escape of their own. */
export function markdownEscaped(text: string): string {
  return text.replace(/[\\`*_{}[\]()#~|<>!]/g, '\\$&').replaceAll('@', '@\u200b');
}

/** Text in HTML, attributes included. */
export function htmlEscaped(text: string): string {
  const entities: Record<string, string> = {
    '&': '&amp;',
    '<': '&lt;',
    '>': '&gt;',
    '"': '&quot;',
  };
  return text.replace(/[&<>"]/g, (sign) => entities[sign] ?? sign).replaceAll("'", '&#39;');
}
