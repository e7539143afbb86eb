/** A notice as an e-mail: subject, plain text, and simple HTML that says the same without a picture or a script. Pure. */
import { formatTable } from '../commands/format.ts';
import type { Notice } from '../notices.ts';
import { htmlEscaped, OPEN, tidy } from './wording.ts';

const SUBJECT_LIMIT = 150;
const CELL = 'padding:4px 12px 4px 0;vertical-align:top;text-align:left';
const COLOURS: Readonly<Record<Notice['severity'], string>> = {
  info: '#455a64',
  success: '#1b5e20',
  warning: '#8a4b00',
  error: '#b71c1c',
};

export interface MailText {
  subject: string;
  text: string;
  html: string;
}

/** Of a tidied notice. */
export function mailText(notice: Notice): MailText {
  return {
    subject: `[xvault] ${tidy(notice.what.replace(/\.$/, ''), SUBJECT_LIMIT)}`,
    text: plainOf(notice),
    html: htmlOf(notice),
  };
}

function plainOf({ what, todo, link, facts, table, event, at }: Notice): string {
  const width = Math.max(0, ...facts.map(({ name }) => name.length));
  const lines = [
    what,
    todo,
    ...(link === undefined ? [] : [link]),
    ...(table === undefined ? [] : ['', ...tableOf(table)]),
    ...(facts.length === 0 ? [] : ['']),
    ...facts.map(({ name, value }) => `${`${name}:`.padEnd(width + 2)}${value}`),
    '',
    `${event}, ${at}`,
  ];
  return `${lines.join('\n')}\n`;
}

function tableOf({ columns, rows }: NonNullable<Notice['table']>): string[] {
  const titles = columns.map((title) => ({ title }));
  return formatTable(
    titles,
    rows.map((row) => [...row]),
  );
}

function htmlOf(notice: Notice): string {
  const { what, todo, link, facts, table, severity, event, at } = notice;
  const row = (cells: readonly string[], tag: 'td' | 'th') =>
    `<tr>${cells.map((cell) => `<${tag} style="${CELL}">${htmlEscaped(cell)}</${tag}>`).join('')}</tr>`;
  const parts = [
    `<p style="font-size:1.15em;color:${COLOURS[severity]}"><strong>${htmlEscaped(what)}</strong></p>`,
    `<p>${htmlEscaped(todo)}</p>`,
    ...(link === undefined ? [] : [`<p><a href="${htmlEscaped(link)}">${OPEN}</a></p>`]),
    ...(table === undefined
      ? []
      : [
          `<table>${row(table.columns, 'th')}${table.rows.map((one) => row(one, 'td')).join('')}</table>`,
        ]),
    ...(facts.length === 0
      ? []
      : [`<table>${facts.map(({ name, value }) => row([name, value], 'td')).join('')}</table>`]),
    `<p style="color:#555555">${htmlEscaped(`${event}, ${at}`)}</p>`,
  ];
  return `<!doctype html><html lang="en"><head><meta charset="utf-8"><title>xvault</title></head>
<body style="font-family:sans-serif">
${parts.join('\n')}
</body></html>
`;
}
