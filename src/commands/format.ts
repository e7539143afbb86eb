/** Words for people: sizes, ages, tables. Nothing here is parsed again; machines take --json. */
import { stripVTControlCharacters } from 'node:util';
import { unsteered } from '../plain-text.ts';

const UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'];

/** 1536 → "1.5 KiB"; three digits at most. */
export function formatBytes(bytes: number): string {
  let value = bytes;
  let unit = 0;
  // 999.5 would be written as a four-digit 1000.
  while (value >= 999.5 && unit < UNITS.length - 1) {
    value /= 1024;
    unit += 1;
  }
  const digits = unit === 0 || value >= 99.95 ? 0 : 1;
  return `${value.toFixed(digits)} ${UNITS[unit]}`;
}

/** 31 of 100 → "31 %". */
export function formatShare(part: number, whole: number): string {
  return `${whole === 0 ? 100 : Math.round((part / whole) * 100)} %`;
}

/** Seconds → "45s", "3m 20s", "2h 5m", "3d 4h". */
export function formatSeconds(seconds: number): string {
  const s = Math.max(0, Math.round(seconds));
  if (s < 60) return `${s}s`;
  if (s < 3600) return pair(Math.floor(s / 60), 'm', s % 60, 's');
  if (s < 86_400) return pair(Math.floor(s / 3600), 'h', Math.floor((s % 3600) / 60), 'm');
  return pair(Math.floor(s / 86_400), 'd', Math.floor((s % 86_400) / 3600), 'h');
}

function pair(big: number, bigUnit: string, small: number, smallUnit: string): string {
  return small === 0 ? `${big}${bigUnit}` : `${big}${bigUnit} ${small}${smallUnit}`;
}

/** "3h 5m ago". */
export function formatAgo(time: string | undefined, nowMs: number): string {
  if (time === undefined) return '–';
  return `${formatSeconds((nowMs - Date.parse(time)) / 1000)} ago`;
}

/** "90s", "26h", "3d", "1h30m" or plain seconds → seconds; undefined when it is none. */
export function parseDuration(text: string): number | undefined {
  if (/^\d+(\.\d+)?$/.test(text)) return Number(text);
  if (!/^(\d+(\.\d+)?[smhdw])+$/.test(text)) return undefined;
  const factor: Record<string, number> = { s: 1, m: 60, h: 3600, d: 86_400, w: 604_800 };
  let seconds = 0;
  for (const [, value, unit] of text.matchAll(/(\d+(?:\.\d+)?)([smhdw])/g)) {
    seconds += Number(value) * (factor[unit ?? ''] ?? 0);
  }
  return seconds;
}

/** Control characters, escape sequences and marks of direction in foreign names must not move the cursor. */
export function plain(text: string): string {
  return unsteered(stripVTControlCharacters(text));
}

/** Characters a terminal uses for the text, near enough: wide East Asian ones count two. */
export function displayWidth(text: string): number {
  let width = 0;
  for (const char of stripVTControlCharacters(text)) {
    const wide = /[\u1100-\u115f\u2e80-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60]/;
    const zero = /\p{M}|\u200d|\ufe0f/u;
    width += zero.test(char) ? 0 : wide.test(char) || /\p{Emoji_Presentation}/u.test(char) ? 2 : 1;
  }
  return width;
}

/** "1 disk", "3 disks". */
export function count(number: number, noun: string): string {
  return number === 1 ? `1 ${noun}` : `${number} ${noun}s`;
}

export interface Column {
  title: string;
  right?: boolean;
}

/** Lines of an aligned table; the last column is not padded. */
export function formatTable(columns: readonly Column[], rows: readonly string[][]): string[] {
  const widths = columns.map((column, at) =>
    Math.max(displayWidth(column.title), ...rows.map((row) => displayWidth(row[at] ?? ''))),
  );
  const line = (cells: readonly string[]) =>
    columns
      .map((column, at) => pad(cells[at] ?? '', widths[at] ?? 0, column.right === true))
      .join('  ')
      .trimEnd();
  return [line(columns.map((column) => column.title)), ...rows.map(line)];
}

/** Pads to a display width, at the left when `right`. */
export function pad(text: string, width: number, right = false): string {
  const fill = ' '.repeat(Math.max(0, width - displayWidth(text)));
  return right ? fill + text : text + fill;
}

/** Cuts to a display width, with … at the end when something was cut. */
export function truncate(text: string, width: number): string {
  if (displayWidth(text) <= width) return text;
  let cut = '';
  for (const char of text) {
    if (displayWidth(cut + char) > width - 1) break;
    cut += char;
  }
  return `${cut}…`;
}
