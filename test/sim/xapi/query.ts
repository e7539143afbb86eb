/**
 * The expressions of `get_all_records_where`: `field "x"="y"`, and, or, not, brackets, true, false.
 *
 * Source: xen-api `ocaml/database/db_filter_parse.mly`. Both sides of = may be a field or a text; values are compared
 * in the form the database keeps them: "true"/"false" for bools, decimal ints, refs as they are.
 */
import { type Rec, XenError } from './values.ts';
import { databaseText } from './world.ts';

type Test = (record: Rec) => boolean;
type Term = (record: Rec) => string;

const TOKEN = /\s*(?:("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')|([A-Za-z_]+)|([()=]))/y;

/** Brackets and nots may nest so deep. */
const MAX_DEPTH = 64;

function tokenize(source: string): string[] {
  const tokens: string[] = [];
  TOKEN.lastIndex = 0;
  while (source.slice(TOKEN.lastIndex).trim() !== '') {
    const match = TOKEN.exec(source);
    if (match === null) throw new Error('unexpected character');
    const [, quoted, word, sign] = match;
    tokens.push(quoted ?? word ?? sign ?? '');
  }
  return tokens;
}

function unquote(token: string): string {
  return token.slice(1, -1).replace(/\\(.)/g, '$1');
}

function isQuoted(token: string): boolean {
  return /^["']/.test(token);
}

function createParser(tokens: string[]) {
  let at = 0;
  const peek = () => tokens[at]?.toLowerCase();
  const take = () => {
    const token = tokens[at] ?? '';
    at += 1;
    return token;
  };
  const expect = (wanted: string) => {
    if (take() !== wanted) throw new Error(`expected ${wanted}`);
  };
  const term = (): Term => {
    const token = take();
    if (isQuoted(token)) {
      const constant = unquote(token);
      return () => constant;
    }
    const name = take();
    if (token.toLowerCase() !== 'field' || !isQuoted(name)) throw new Error('expected field');
    const field = unquote(name);
    return (record) => {
      if (!(field in record)) throw new Error(`no field ${field}`);
      return databaseText(record[field]);
    };
  };
  const factor = (depth: number): Test => {
    if (depth > MAX_DEPTH) throw new Error('too deep');
    const next = peek();
    if (next === 'not' || next === '(' || next === 'true' || next === 'false') take();
    if (next === 'not') {
      const inner = factor(depth + 1);
      return (record) => !inner(record);
    }
    if (next === '(') {
      const inner = disjunction(depth + 1);
      expect(')');
      return inner;
    }
    if (next === 'true' || next === 'false') return () => next === 'true';
    const left = term();
    expect('=');
    const right = term();
    return (record) => left(record) === right(record);
  };
  const chain =
    (word: string, inner: (depth: number) => Test, join: (a: Test, b: Test) => Test) =>
    (depth: number): Test => {
      let test = inner(depth);
      while (peek() === word) {
        take();
        test = join(test, inner(depth));
      }
      return test;
    };
  const conjunction = chain('and', factor, (a, b) => (record) => a(record) && b(record));
  const disjunction: (depth: number) => Test = chain(
    'or',
    conjunction,
    (a, b) => (record) => a(record) || b(record),
  );
  return { parse: () => disjunction(0), ended: () => at === tokens.length };
}

/** Compiles an expression; INTERNAL_ERROR when it is malformed. */
export function parseQuery(source: string): (record: Rec) => boolean {
  try {
    const parser = createParser(tokenize(source));
    const test = parser.parse();
    if (!parser.ended()) throw new Error('unexpected end');
    return test;
  } catch (error) {
    throw new XenError('INTERNAL_ERROR', [`Db_filter.Expression_error(${String(error)})`]);
  }
}
