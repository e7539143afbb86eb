/**
 * Reads one XML-RPC value, the way `ova.xml` is written: a root `<value>` without prolog or envelope.
 *
 * Strings and integers are both untyped text, so they stay strings here; whoever needs a number asks for one.
 * Whitespace and comments between elements are ignored, whitespace inside an untyped value is kept. Booleans are
 * `1` and `0` only: a host reads the word "true" as false, so it is refused rather than misread.
 */

import { refuse } from './refusal.ts';

export type Value = string | boolean | number | null | Value[] | Struct;
export interface Struct {
  [name: string]: Value;
}

/** Deeper nesting than any XenAPI record has. */
const DEPTH_LIMIT = 32;

type Token =
  | { kind: 'open' | 'close'; name: string }
  | { kind: 'text'; text: string; blank: boolean };

/** Parses the text of an `ova.xml`. */
export function parseValue(xml: string): Value {
  const tokens = createTokens(xml);
  tokens.skipBlank();
  tokens.open('value');
  const value = readValue(tokens, 0);
  tokens.skipBlank();
  if (tokens.peek() !== undefined) refuse('ova.xml has more than one value');
  return value;
}

/** Reads what follows an opened `<value>`, up to and with its end. */
function readValue(tokens: Tokens, depth: number): Value {
  if (depth > DEPTH_LIMIT) refuse('ova.xml is nested too deeply');
  const lead = tokens.text();
  const next = tokens.peek();
  if (next?.kind !== 'open') {
    tokens.close('value');
    return lead.text;
  }
  if (!lead.blank) refuse('ova.xml has text beside an element of a value');
  tokens.open(next.name);
  const value = readTyped(tokens, next.name, depth);
  tokens.close(next.name);
  tokens.skipBlank();
  tokens.close('value');
  return value;
}

function readTyped(tokens: Tokens, type: string, depth: number): Value {
  switch (type) {
    case 'struct':
      return readStruct(tokens, depth);
    case 'array':
      return readArray(tokens, depth);
    case 'boolean':
      return readBoolean(tokens.text().text);
    case 'double':
      return readDouble(tokens.text().text);
    case 'nil':
      return null;
    case 'string':
    case 'int':
    case 'i4':
    case 'i8':
    case 'dateTime.iso8601':
      return tokens.text().text;
    default:
      return refuse(`ova.xml has a value of unknown type ${type}`);
  }
}

function readStruct(tokens: Tokens, depth: number): Struct {
  const struct: Struct = Object.create(null);
  for (;;) {
    tokens.skipBlank();
    if (tokens.peek()?.kind !== 'open') return struct;
    tokens.open('member');
    tokens.skipBlank();
    tokens.open('name');
    const name = tokens.text().text;
    tokens.close('name');
    tokens.skipBlank();
    tokens.open('value');
    if (name in struct) refuse(`ova.xml has the member ${name} twice in one struct`);
    struct[name] = readValue(tokens, depth + 1);
    tokens.skipBlank();
    tokens.close('member');
  }
}

function readArray(tokens: Tokens, depth: number): Value[] {
  const array: Value[] = [];
  tokens.skipBlank();
  tokens.open('data');
  for (;;) {
    tokens.skipBlank();
    if (tokens.peek()?.kind !== 'open') break;
    tokens.open('value');
    array.push(readValue(tokens, depth + 1));
  }
  tokens.close('data');
  tokens.skipBlank();
  return array;
}

function readBoolean(text: string): boolean {
  if (text !== '0' && text !== '1') refuse(`ova.xml has the boolean ${JSON.stringify(text)}`);
  return text === '1';
}

function readDouble(text: string): number {
  const value = Number(text);
  if (text.trim() === '' || Number.isNaN(value)) refuse(`ova.xml has the double ${text}`);
  return value;
}

// ------------------------------------------------------------------------------------------------ tokens

interface Tokens {
  peek(): Token | undefined;
  open(name: string): void;
  close(name: string): void;
  /** The text here ('' when there is none), taken. */
  text(): { text: string; blank: boolean };
  skipBlank(): void;
}

const TOKEN = /<!--[\s\S]*?-->|<!\[CDATA\[([\s\S]*?)\]\]>|<(\/?)([A-Za-z][\w.]*)\s*(\/?)>|([^<]+)/y;

function createTokens(xml: string): Tokens {
  const queue = scan(xml)[Symbol.iterator]();
  let current = next();

  function next(): Token | undefined {
    const { done, value } = queue.next();
    return done === true ? undefined : value;
  }

  function expect(kind: 'open' | 'close', name: string): void {
    const found = current;
    if (found?.kind !== kind || found.name !== name) {
      const what = found === undefined ? 'its end' : JSON.stringify(found);
      refuse(`ova.xml should have ${kind === 'open' ? '<' : '</'}${name}> but has ${what}`);
    }
    current = next();
  }

  function text(): { text: string; blank: boolean } {
    const parts: string[] = [];
    let blank = true;
    while (current?.kind === 'text') {
      parts.push(current.text);
      blank &&= current.blank;
      current = next();
    }
    return { text: parts.join(''), blank };
  }

  return {
    peek: () => current,
    open: (name) => expect('open', name),
    close: (name) => expect('close', name),
    text,
    skipBlank() {
      if (!text().blank) refuse('ova.xml has text between elements');
    },
  };
}

function* scan(xml: string): Generator<Token> {
  const token = new RegExp(TOKEN);
  while (token.lastIndex < xml.length) {
    const at = token.lastIndex;
    const match = token.exec(xml);
    if (match === null) return refuse(`ova.xml is no XML at character ${at}`);
    const [, cdata, slash, name, empty, text] = match;
    if (cdata !== undefined) yield { kind: 'text', text: cdata, blank: false };
    else if (text !== undefined) {
      yield { kind: 'text', text: decode(text), blank: text.trim() === '' };
    } else if (name !== undefined) {
      yield { kind: slash === '/' ? 'close' : 'open', name };
      if (empty === '/') yield { kind: 'close', name };
    }
  }
}

const ENTITIES: Readonly<Record<string, string>> = {
  lt: '<',
  gt: '>',
  amp: '&',
  quot: '"',
  apos: "'",
};

function decode(text: string): string {
  return text.replace(/&([^;\s]*)(;?)/g, (whole, name: string, end: string) => {
    const code = /^#(?:x([0-9a-fA-F]+)|(\d+))$/.exec(name);
    if (end === ';' && code !== null) {
      const point = code[1] === undefined ? Number(code[2]) : Number.parseInt(code[1], 16);
      if (point <= 0x10ffff) return String.fromCodePoint(point);
    }
    const known = end === ';' ? ENTITIES[name] : undefined;
    return known ?? refuse(`ova.xml has the unknown entity ${whole}`);
  });
}
