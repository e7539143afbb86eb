/**
 * XML-RPC values as ova.xml holds them: one bare `<value>`, no prolog, no method response.
 *
 * XenAPI writes strings and 64-bit integers alike, as untyped text, so both are plain strings here;
 * every other scalar keeps its tag and its text, and goes back as it came. Written form: struct
 * members sorted by name, no white space between elements, `< > & "` escaped, control characters
 * XML cannot hold left out (xapi does the same). Not read: document types and entities of their own
 * (entity bombs), anything that is no XML-RPC value.
 */
import sax from 'sax';

/** Plain text, a scalar with its tag, an array or a struct. */
export type XmlValue = string | XmlScalar | XmlValue[] | XmlStruct;
export interface XmlScalar {
  tag: string;
  text: string;
}
export type XmlStruct = Map<string, XmlValue>;

/** Real ones nest 6 deep: value, objects, object, snapshot, map, string. */
const MAX_DEPTH = 32;
/**
 * Values in one document: 255 disks make about 30,000. Bounds the memory a hostile 16 MiB can
 * take.
 */
const MAX_VALUES = 250_000;

/** Only the five entities of XML itself; sax's own types do not know the option. */
const OPTIONS = { strictEntities: true } as sax.SAXOptions;

const SCALARS = [
  'string',
  'int',
  'i4',
  'i8',
  'boolean',
  'double',
  'dateTime.iso8601',
  'base64',
  'nil',
];
const CHILDREN: Readonly<Record<string, readonly string[]>> = {
  '': ['value'],
  value: [...SCALARS, 'array', 'struct'],
  array: ['data'],
  data: ['value'],
  struct: ['member'],
  member: ['name', 'value'],
};

interface Frame {
  element: string;
  text: string;
  /** The one child of a value, array or member that counts. */
  value?: XmlValue;
  name?: string;
  /** What a data or struct element gathers. */
  items: XmlValue[];
  members: XmlStruct;
}

/**
 * Parses one value. Throws a plain Error that says what is wrong, without the text itself (it
 * holds secrets).
 */
export function parseXmlValue(text: string): XmlValue {
  const stack: Frame[] = [newFrame('')];
  let values = 0;
  const top = () => stack.at(-1) as Frame;
  const parser = sax.parser(true, OPTIONS);
  parser.onerror = () => fail(`is no well-formed XML, line ${parser.line + 1}`);
  parser.ondoctype = () => fail('has a document type');
  parser.onopentag = ({ name }) => {
    if (!CHILDREN[top().element]?.includes(name)) fail(`has an element out of place`);
    if (stack.length > MAX_DEPTH * 3) fail('is nested too deep');
    if (name === 'value' && ++values > MAX_VALUES) fail('has too many values');
    stack.push(newFrame(name));
  };
  parser.ontext = (piece) => {
    top().text += piece;
  };
  parser.oncdata = (piece) => {
    top().text += piece;
  };
  parser.onclosetag = () => close(stack.pop() as Frame, top());
  parser.write(text).close();
  const { value } = top();
  if (value === undefined) fail('is empty');
  return value;
}

/** The canonical text of a value. */
export function formatXmlValue(value: XmlValue): string {
  const pieces: string[] = [];
  format(value, pieces);
  return pieces.join('');
}

function newFrame(element: string): Frame {
  return { element, text: '', items: [], members: new Map() };
}

function close(frame: Frame, parent: Frame): void {
  const isText = frame.element === 'name' || frame.element === 'value' || isScalar(frame.element);
  if (!isText || frame.value !== undefined) {
    if (frame.text.trim() !== '') fail('has text out of place');
  }
  if (frame.element === 'name') {
    if (parent.name !== undefined) fail('has a member with two names');
    parent.name = frame.text;
  } else if (frame.element === 'member') {
    closeMember(frame, parent);
  } else if (frame.element === 'value' && parent.element === 'data') {
    parent.items.push(frame.value ?? frame.text);
  } else {
    if (parent.value !== undefined) fail('has two values in the place of one');
    parent.value = contentOf(frame);
  }
}

function closeMember(frame: Frame, parent: Frame): void {
  if (frame.name === undefined || frame.value === undefined) fail('has a member without name');
  if (parent.members.has(frame.name)) fail('has two members of one name');
  parent.members.set(frame.name, frame.value);
}

function contentOf(frame: Frame): XmlValue {
  if (frame.element === 'value') return frame.value ?? frame.text;
  if (frame.element === 'string') return frame.text;
  if (frame.element === 'struct') return frame.members;
  if (frame.element === 'data') return frame.items;
  if (frame.element === 'array') return frame.value ?? fail('has an array without data');
  return { tag: frame.element, text: frame.text.trim() };
}

function isScalar(element: string): boolean {
  return SCALARS.includes(element);
}

function format(value: XmlValue, pieces: string[]): void {
  pieces.push('<value>');
  if (typeof value === 'string') {
    pieces.push(escapeText(value));
  } else if (Array.isArray(value)) {
    pieces.push('<array><data>');
    for (const item of value) format(item, pieces);
    pieces.push('</data></array>');
  } else if (value instanceof Map) {
    pieces.push('<struct>');
    for (const name of [...value.keys()].sort()) {
      pieces.push('<member><name>', escapeText(name), '</name>');
      format(value.get(name) as XmlValue, pieces);
      pieces.push('</member>');
    }
    pieces.push('</struct>');
  } else if (value.tag === 'nil') {
    pieces.push('<nil/>');
  } else {
    pieces.push(`<${value.tag}>`, escapeText(value.text), `</${value.tag}>`);
  }
  pieces.push('</value>');
}

const ESCAPES: Readonly<Record<string, string>> = {
  '<': '&lt;',
  '>': '&gt;',
  '&': '&amp;',
  '"': '&quot;',
};

function escapeText(text: string): string {
  return text
    .replace(/[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\u{10000}-\u{10ffff}]/gu, '')
    .replace(/[<>&"]/g, (character) => ESCAPES[character] as string);
}

function fail(what: string): never {
  throw new Error(what);
}
