/**
 * XML-RPC as xapi reads and writes it (mirage/ocaml-rpc `src/lib/xmlrpc.ml`; xen-api `wire-protocol.md`).
 *
 * Written for the simulator and by hand on purpose: the client under test uses a public codec, so a shared
 * misunderstanding cannot hide. Oddities kept: strings and ints are both untyped on the way out; on the way in
 * `<boolean>true</boolean>` is false, an untyped value keeps its white space, numbers arrive as text when untyped.
 */
import { float, formatDate, tagged, type Value } from './values.ts';

/** Nesting beyond this is refused: no XenAPI value comes near it. */
const MAX_DEPTH = 32;

const ESCAPES: Record<string, string> = {
  '<': '&lt;',
  '>': '&gt;',
  '&': '&amp;',
  '"': '&quot;',
};

// biome-ignore lint/suspicious/noControlCharactersInRegex: xapi deletes exactly these
const CONTROL = /[\u0000-\u0008\u000b\u000c\u000e-\u001f]/g;

/** Escapes text as xapi does: four characters, and control characters but TAB, LF, CR vanish. */
export function escapeXml(text: string): string {
  return text.replace(CONTROL, '').replace(/[<>&"]/g, (character) => ESCAPES[character] ?? '');
}

function emit(out: string[], value: Value): void {
  if (typeof value === 'string') {
    out.push('<value>', escapeXml(value), '</value>');
  } else if (typeof value === 'number') {
    out.push('<value>', String(value), '</value>');
  } else if (typeof value === 'boolean') {
    out.push('<value><boolean>', value ? '1' : '0', '</boolean></value>');
  } else if (value instanceof Date) {
    out.push('<value><dateTime.iso8601>', formatDate(value), '</dateTime.iso8601></value>');
  } else if (Array.isArray(value)) {
    out.push('<value><array><data>');
    for (const item of value) emit(out, item);
    out.push('</data></array></value>');
  } else {
    emitObject(out, value);
  }
}

function emitObject(out: string[], value: Value & object): void {
  const number = tagged(value);
  if (number !== undefined) {
    const name = number.tag === 'float' ? 'double' : 'i4';
    out.push(`<value><${name}>`, String(number.value), `</${name}></value>`);
    return;
  }
  out.push('<value><struct>');
  for (const [key, item] of Object.entries(value as Record<string, Value>)) {
    out.push('<member><name>', escapeXml(key), '</name>');
    emit(out, item);
    out.push('</member>');
  }
  out.push('</struct></value>');
}

/** One `<value>`, without prolog: as in task results and in ova.xml. */
export function formatValue(value: Value): string {
  const out: string[] = [];
  emit(out, value);
  return out.join('');
}

/** A whole answer; `value` already carries the Status envelope where there is one. */
export function formatResponse(value: Value): string {
  const body = formatValue(value);
  return `<?xml version="1.0"?><methodResponse><params><param>${body}</param></params></methodResponse>`;
}

interface Element {
  name: string;
  text: string;
  children: Element[];
}

const TOKEN =
  /<!--[\s\S]*?-->|<\?[\s\S]*?\?>|<!\[CDATA\[([\s\S]*?)\]\]>|<(\/?)([A-Za-z][\w.-]*)\s*(\/?)>|([^<]+)/y;

function unescapeXml(text: string): string {
  return text.replace(/&(?:#x([0-9a-fA-F]+)|#(\d+)|(\w+));/g, (whole, hex, decimal, name) => {
    if (hex !== undefined) return String.fromCodePoint(Number.parseInt(hex, 16));
    if (decimal !== undefined) return String.fromCodePoint(Number(decimal));
    const plain: Record<string, string> = { lt: '<', gt: '>', amp: '&', quot: '"', apos: "'" };
    const character = plain[name];
    if (character === undefined) throw new Error(`unknown entity ${whole}`);
    return character;
  });
}

function parseTree(xml: string): Element {
  const root: Element = { name: '', text: '', children: [] };
  const open: Element[] = [root];
  TOKEN.lastIndex = 0;
  while (TOKEN.lastIndex < xml.length) {
    const match = TOKEN.exec(xml);
    if (match === null) throw new Error('malformed XML');
    const [, cdata, slash, name, selfClosing, text] = match;
    const top = open.at(-1) as Element;
    if (cdata !== undefined) top.text += cdata;
    else if (text !== undefined) top.text += unescapeXml(text);
    else if (name !== undefined && slash === '/') {
      if (top.name !== name) throw new Error(`unexpected end of ${name}`);
      open.pop();
    } else if (name !== undefined) {
      const element: Element = { name, text: '', children: [] };
      top.children.push(element);
      if (selfClosing !== '/') open.push(element);
      if (open.length > MAX_DEPTH * 4) throw new Error('too deep');
    }
  }
  if (open.length !== 1) throw new Error('unexpected end of XML');
  const [first] = root.children;
  if (first === undefined || root.children.length !== 1) throw new Error('no single root');
  return first;
}

function only(element: Element, name: string): Element {
  const [child] = element.children;
  if (child === undefined || child.name !== name) {
    throw new Error(`expected ${name} in ${element.name}`);
  }
  return child;
}

function toNumber(text: string): number {
  const trimmed = text.trim();
  if (!/^[+-]?\d+$/.test(trimmed)) throw new Error(`no int: ${trimmed}`);
  return Number(trimmed);
}

function toFloat(text: string): Value {
  const number = Number(text.trim());
  if (Number.isNaN(number)) throw new Error(`no double: ${text}`);
  return float(number);
}

function toValue(element: Element, depth: number): Value {
  if (element.name !== 'value') throw new Error(`expected value, got ${element.name}`);
  if (depth > MAX_DEPTH) throw new Error('too deep');
  const [typed] = element.children;
  if (typed === undefined) return element.text;
  switch (typed.name) {
    case 'string':
      return typed.text;
    case 'int':
    case 'i4':
    case 'i8':
      return toNumber(typed.text);
    case 'boolean':
      return typed.text === '1';
    case 'double':
      return toFloat(typed.text);
    case 'dateTime.iso8601':
      return typed.text.trim();
    case 'nil':
      return '';
    case 'array':
      return only(typed, 'data').children.map((child) => toValue(child, depth + 1));
    case 'struct':
      return toStruct(typed, depth);
    default:
      throw new Error(`unknown type ${typed.name}`);
  }
}

function toStruct(struct: Element, depth: number): Value {
  const members = struct.children.map((member): [string, Value] => {
    const [name, value] = member.children;
    if (member.name !== 'member' || name?.name !== 'name' || value === undefined) {
      throw new Error('malformed struct');
    }
    return [name.text, toValue(value, depth + 1)];
  });
  return Object.fromEntries(members);
}

/** Reads a methodCall; throws on anything malformed (xapi answers that with HTTP 500). */
export function parseCall(xml: string): { method: string; params: Value[] } {
  const root = parseTree(xml.trim());
  const [name, params] = root.children;
  if (root.name !== 'methodCall' || name?.name !== 'methodName') throw new Error('no methodCall');
  const values = (params?.children ?? []).map((param) => toValue(only(param, 'value'), 0));
  return { method: name.text.trim(), params: values };
}
