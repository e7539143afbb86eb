/**
 * The pools of the settings: one from XVAULT_POOL_*, or several from XVAULT_POOLS_FILE.
 *
 * The file is a JSON list (or {"pools": […]}) of objects with the same keys in lower case: name, url, username,
 * password or password_file, and at most one of ca_file, fingerprint, insecure.
 */
import { z } from 'zod';
import type { FileReader, SettingMistake } from './config.ts';
import { createSecret, type Secret } from './secret.ts';
import { fingerprintsSchema, poolNameSchema, poolUrlsSchema } from './settings-pool.ts';
import type { SettingName, SettingValues } from './settings-table.ts';

/** How the certificate of a pool is judged. */
export type PoolTrust =
  | { kind: 'system' }
  | { kind: 'ca'; pem: string }
  | { kind: 'fingerprint'; sha256: string[] }
  | { kind: 'insecure' };

export interface PoolConfig {
  name: string;
  urls: string[];
  username: string;
  password: Secret;
  trust: PoolTrust;
}

interface Rules {
  required: boolean;
  require(name: SettingName, message?: string): void;
  mistakes: SettingMistake[];
}

const list = (value: unknown) => (Array.isArray(value) ? value.join(',') : value);

const poolEntrySchema = z
  .strictObject({
    name: poolNameSchema,
    url: z.preprocess(list, poolUrlsSchema),
    username: z.string().min(1),
    password: z.string().min(1).optional(),
    password_file: z.string().min(1).optional(),
    ca_file: z.string().min(1).optional(),
    fingerprint: z.preprocess(list, fingerprintsSchema).optional(),
    insecure: z.boolean().optional(),
  })
  .refine(
    (pool) => (pool.password === undefined) !== (pool.password_file === undefined),
    'set password or password_file, one of them',
  );
const poolsFileSchema = z.union([
  z.array(poolEntrySchema).min(1),
  z.strictObject({ pools: z.array(poolEntrySchema).min(1) }).transform((file) => file.pools),
]);

const FILE_EXAMPLE =
  '[{"name": "office", "url": "https://10.0.0.11", "username": "xvault", "password_file": "/run/secrets/office"}]';

/** Reads the pools; mistakes are added to `rules.mistakes`. */
export function readPools(values: SettingValues, files: FileReader, rules: Rules): PoolConfig[] {
  const single = values.XVAULT_POOL_URL !== undefined;
  if (values.XVAULT_POOLS_FILE !== undefined) {
    if (single) {
      rules.mistakes.push({
        name: 'XVAULT_POOLS_FILE',
        message: 'set XVAULT_POOLS_FILE or XVAULT_POOL_URL, not both',
      });
      return [];
    }
    return readPoolsFile(values.XVAULT_POOLS_FILE, files, rules.mistakes);
  }
  if (!single && !rules.required) return [];
  if (!single) rules.require('XVAULT_POOL_URL', 'or XVAULT_POOLS_FILE is required');
  if (values.XVAULT_POOL_USERNAME === undefined) rules.require('XVAULT_POOL_USERNAME');
  if (values.XVAULT_POOL_PASSWORD === undefined) rules.require('XVAULT_POOL_PASSWORD');
  return [
    {
      name: values.XVAULT_POOL_NAME,
      urls: values.XVAULT_POOL_URL ?? [],
      username: values.XVAULT_POOL_USERNAME ?? '',
      password: createSecret(values.XVAULT_POOL_PASSWORD ?? ''),
      trust: trustOf(
        {
          ca_file: values.XVAULT_POOL_CA_FILE,
          fingerprint: values.XVAULT_POOL_FINGERPRINT,
          insecure: values.XVAULT_POOL_INSECURE,
        },
        { name: 'XVAULT_POOL_CA_FILE', files, mistakes: rules.mistakes },
      ),
    },
  ];
}

function readPoolsFile(path: string, files: FileReader, mistakes: SettingMistake[]): PoolConfig[] {
  const name = 'XVAULT_POOLS_FILE';
  const text = files(name, path);
  if (text === undefined) return [];
  const entries = parseJsonFile(name, text, poolsFileSchema, { mistakes, example: FILE_EXAMPLE });
  if (entries === undefined) return [];
  const seen = new Set<string>();
  return entries.map((entry, at) => {
    if (seen.has(entry.name)) {
      mistakes.push({ name, message: `pool names must differ, name=${entry.name} entry=${at}` });
    }
    seen.add(entry.name);
    const password =
      entry.password ??
      files(`${name} (${entry.name}: password_file)`, entry.password_file ?? '')?.replace(
        /\r?\n$/,
        '',
      );
    return {
      name: entry.name,
      urls: entry.url,
      username: entry.username,
      password: createSecret(password ?? ''),
      trust: trustOf(entry, { name: `${name} (${entry.name}: ca_file)`, files, mistakes }),
    };
  });
}

function trustOf(
  given: {
    ca_file?: string | undefined;
    fingerprint?: string[] | undefined;
    insecure?: boolean | undefined;
  },
  where: { name: string; files: FileReader; mistakes: SettingMistake[] },
): PoolTrust {
  const set = [given.ca_file, given.fingerprint, given.insecure || undefined];
  if (set.filter((value) => value !== undefined).length > 1) {
    where.mistakes.push({
      name: where.name,
      message: 'set one of CA file, fingerprint and insecure, not several',
    });
  }
  if (given.insecure === true) return { kind: 'insecure' };
  if (given.fingerprint !== undefined) return { kind: 'fingerprint', sha256: given.fingerprint };
  if (given.ca_file === undefined) return { kind: 'system' };
  const pem = where.files(where.name, given.ca_file) ?? '';
  if (pem !== '' && !pem.includes('-----BEGIN CERTIFICATE-----')) {
    where.mistakes.push({ name: where.name, message: `no PEM certificate, path=${given.ca_file}` });
  }
  return { kind: 'ca', pem };
}

/** Parses a JSON file of the settings by its schema; adds a mistake per problem. */
export function parseJsonFile<T>(
  name: string,
  text: string,
  schema: z.ZodType<T>,
  into: { mistakes: SettingMistake[]; example: string },
): T | undefined {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    // JSON.parse quotes the text around the mistake, which may be a password.
    into.mistakes.push({ name, message: 'the file is no JSON', example: into.example });
    return undefined;
  }
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  for (const issue of flatten(parsed.error.issues)) {
    const where = issue.path.length > 0 ? `${issue.path.join('.')}: ` : '';
    into.mistakes.push({ name, message: `${where}${issue.message}`, example: into.example });
  }
  return undefined;
}

/** Of a union that matches nowhere, the branch that came furthest says most. */
function flatten(issues: readonly z.core.$ZodIssue[]): z.core.$ZodIssue[] {
  return issues.flatMap((issue) => {
    // one that is told apart by a field has no branch at all for an unknown word there
    if (issue.code !== 'invalid_union' || issue.errors.length === 0) return [issue];
    const depth = (branch: readonly z.core.$ZodIssue[]) =>
      Math.max(0, ...branch.map((b) => b.path.length));
    const best = [...issue.errors].sort((a, b) => depth(b) - depth(a))[0] ?? [];
    return best.map((inner) => ({ ...inner, path: [...issue.path, ...inner.path] }));
  });
}
