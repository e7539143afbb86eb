/**
 * As much XML as S3 speaks: elements and text, no mixed content, attributes read over, no DTD.
 *
 * Written here because the embedded server takes no package of its own; the bodies it reads are small
 * (DeleteObjects with 1000 keys, CompleteMultipartUpload with 10,000 parts) and come from test clients.
 */
import { S3Error } from './errors.ts';

/** A piece of finished XML. */
export interface Xml {
  readonly xml: string;
}

type Content = Xml | string | number | boolean | undefined | readonly Content[];

/** One element; text is escaped, undefined left out. */
export function el(name: string, ...content: Content[]): Xml {
  return { xml: `<${name}>${content.map(render).join('')}</${name}>` };
}

/** An element only if there is a value. */
export function optional(name: string, value: string | number | undefined): Xml | undefined {
  return value === undefined ? undefined : el(name, value);
}

/** A whole document in S3's name space. */
export function document(root: string, ...content: Content[]): string {
  const inner = content.map(render).join('');
  return `<?xml version="1.0" encoding="UTF-8"?>\n<${root} xmlns="http://s3.amazonaws.com/doc/2006-03-01/">${inner}</${root}>`;
}

function render(content: Content): string {
  if (content === undefined) return '';
  if (Array.isArray(content)) return content.map(render).join('');
  if (typeof content === 'object') return (content as Xml).xml;
  return escapeXml(String(content));
}

const ESCAPES: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
};

function escapeXml(text: string): string {
  // Control characters are written as references so that a parser gives them back unchanged.
  return text.replace(
    // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what must be escaped
    /[&<>"\u0000-\u001f\u007f\ufffe\uffff]/g,
    (char) => ESCAPES[char] ?? `&#${char.charCodeAt(0)};`,
  );
}

/** An element as read: children in order, text of a leaf. */
export interface XmlNode {
  name: string;
  text: string;
  children: XmlNode[];
}

const TOKEN = /<\?[^>]*\?>|<!--[\s\S]*?-->|<\/([^\s>]+)\s*>|<([^\s/>!?]+)([^>]*?)(\/?)>|([^<]+)/gy;

/** Reads a document and returns its root. Errors: `MalformedXML`. */
export function parseXml(text: string): XmlNode {
  const top: XmlNode = { name: '', text: '', children: [] };
  const open: XmlNode[] = [top];
  let end = 0;
  for (const token of text.matchAll(TOKEN)) {
    end = token.index + token[0].length;
    const [, closing, opening, , selfClosed, characters] = token;
    const current = open.at(-1) as XmlNode;
    if (closing !== undefined) {
      if (open.length < 2 || current.name !== localName(closing)) throw malformed();
      open.pop();
    } else if (opening !== undefined) {
      const node: XmlNode = { name: localName(opening), text: '', children: [] };
      current.children.push(node);
      if (selfClosed !== '/') open.push(node);
    } else if (characters !== undefined) {
      current.text += unescapeXml(characters);
    }
  }
  const [root] = top.children;
  if (end !== text.length || open.length !== 1 || !root || top.children.length !== 1) {
    throw malformed();
  }
  return root;
}

/** The first child of that name. */
export function child(node: XmlNode | undefined, name: string): XmlNode | undefined {
  return node?.children.find((each) => each.name === name);
}

/** The text of the first child of that name. */
export function childText(node: XmlNode | undefined, name: string): string | undefined {
  return child(node, name)?.text;
}

/** All children of that name. */
export function childrenOf(node: XmlNode | undefined, name: string): XmlNode[] {
  return node?.children.filter((each) => each.name === name) ?? [];
}

/** What a body that is no XML, or not the XML asked for, is answered with. */
export function malformed(
  message = 'the XML is not well formed or not as the schema asks',
): S3Error {
  return new S3Error(400, 'MalformedXML', message);
}

function localName(name: string): string {
  return name.slice(name.indexOf(':') + 1);
}

const NAMED: Readonly<Record<string, string>> = {
  lt: '<',
  gt: '>',
  amp: '&',
  quot: '"',
  apos: "'",
};

function unescapeXml(text: string): string {
  return text.replace(/&(#x[0-9a-fA-F]+|#[0-9]+|[a-z]+);/g, (whole, entity: string) => {
    if (entity.startsWith('#x')) return String.fromCodePoint(Number.parseInt(entity.slice(2), 16));
    if (entity.startsWith('#')) return String.fromCodePoint(Number(entity.slice(1)));
    return NAMED[entity] ?? whole;
  });
}
