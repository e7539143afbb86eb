/**
 * Foreign text (names, notes, messages of pools and stores) where people read it: it must not steer what shows it.
 *
 * Control characters move a terminal's cursor or rename its window, line ends forge lines of a log, marks of direction
 * make `exe.ava` of what ends in another way (Unicode TR 36, "bidirectional text spoofing").
 */

/** C0, DEL, C1, the line ends of Unicode, and every mark that turns text round. */
const STEERING =
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what is looked for
  /[\u0000-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]/g;

/** The text with every steering character replaced, and whole characters only. */
export function unsteered(text: string, by = '?'): string {
  return text.toWellFormed().replace(STEERING, by);
}

/** HTML with every steering character replaced but line ends and tabs, which are blanks there. */
export function unsteeredHtml(html: string): string {
  return html
    .toWellFormed()
    .replace(STEERING, (character) => (/[\n\t]/.test(character) ? character : '?'));
}

/** JSON with those of them escaped that JSON itself leaves as they are; it stays the same value. */
export function unsteeredJson(json: string): string {
  return json
    .toWellFormed()
    .replace(STEERING, (character) =>
      character === '\n'
        ? character
        : `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`,
    );
}
