/** Reads what lies in infra/ the way its users' programs do. */
import { globSync, readFileSync } from 'node:fs';
import { parse } from '@cdktf/hcl2json';
import { parseAllDocuments } from 'yaml';

export const INFRA = new URL('../../infra/', import.meta.url);

/** The text of a file of infra/. */
export const read = (path: string) => readFileSync(new URL(path, INFRA), 'utf8');

/** Names of files in a folder of infra/. */
export const list = (pattern: string) => globSync(pattern, { cwd: INFRA }).sort();

export type Json = string | number | boolean | null | Json[] | { [name: string]: Json };

/** Follows names and indexes into parsed content; undefined where it ends. */
export function at(value: unknown, ...path: (string | number)[]): unknown {
  return path.reduce<unknown>(
    (inner, name) => (inner as Record<string | number, unknown> | undefined)?.[name],
    value,
  );
}

/** All objects of a YAML file. Errors: every warning of the parser is one. */
export function readYaml(path: string): Record<string, unknown>[] {
  return parseAllDocuments(read(path), { strict: true, uniqueKeys: true, merge: true }).map(
    (document) => {
      const [problem] = [...document.errors, ...document.warnings];
      if (problem) throw problem;
      return document.toJS() as Record<string, unknown>;
    },
  );
}

/** One OpenTofu file as JSON, expressions as text. Errors: what does not parse, with its line. */
export async function readTofu(path: string): Promise<Record<string, unknown>> {
  return (await parse(path, read(path))) as Record<string, unknown>;
}

/** A unit's sections: each name with its values, in order. */
export function readUnit(path: string): Record<string, Record<string, string[]>> {
  const sections: Record<string, Record<string, string[]>> = {};
  let section: Record<string, string[]> = {};
  for (const line of read(path).split('\n')) {
    const [, name] = /^\[(\w+)\]$/.exec(line) ?? [];
    if (name !== undefined) {
      section = {};
      sections[name] = section;
    } else if (line !== '' && !line.startsWith('#')) {
      const [, key, value] = /^(\w+)="?(.*?)"?$/.exec(line) ?? [];
      if (key === undefined || value === undefined) throw new Error(`${path}: ${line}`);
      section[key] = [...(section[key] ?? []), value];
    }
  }
  return sections;
}

/** `NAME=value` lines. */
export function readEnv(lines: readonly string[]): Record<string, string> {
  const pairs = lines.filter((line) => /^\w+=/.test(line)).map((line) => line.split(/=(.*)/s));
  return Object.fromEntries(pairs.map(([name = '', value = '']) => [name, value]));
}
