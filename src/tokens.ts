/**
 * Who may call the service: bearer tokens from XVAULT_TOKENS_FILE (or XVAULT_TOKENS) and XVAULT_TOKEN.
 *
 * Only SHA-256 digests are kept: the file can be shown around, and a core dump holds no token of it. Rotation is
 * two entries of the same name for a while.
 */
import { createHash } from 'node:crypto';
import { z } from 'zod';
import type { FileReader, SettingMistake } from './config.ts';
import type { Scope } from './http/auth.ts';
import { parseJsonFile } from './pools.ts';
import type { SettingValues } from './settings-table.ts';

export const SCOPES = ['backup', 'read', 'restore', 'admin'] as const satisfies readonly Scope[];

export interface TokenEntry {
  name: string;
  /** Lower-case hex SHA-256 of the token. */
  sha256: string;
  scopes: Scope[];
}

const tokenSchema = z.strictObject({
  name: z
    .string()
    .regex(/^[A-Za-z0-9][A-Za-z0-9._@-]{0,62}$/, 'letters, digits, . _ @ - (at most 63)'),
  sha256: z
    .string()
    .regex(/^[0-9a-fA-F]{64}$/, 'expected 64 hex digits: printf %s "$TOKEN" | sha256sum')
    .toLowerCase(),
  scopes: z.array(z.enum(SCOPES)).min(1),
});
const tokensFileSchema = z.union([
  z.array(tokenSchema).min(1),
  z.strictObject({ tokens: z.array(tokenSchema).min(1) }).transform((file) => file.tokens),
]);

const FILE_EXAMPLE = '[{"name": "scheduler", "sha256": "9f86d081…", "scopes": ["backup", "read"]}]';

/** Reads the tokens; mistakes are added to `mistakes`. */
export function readTokens(
  values: SettingValues,
  files: FileReader,
  mistakes: SettingMistake[],
): TokenEntry[] {
  const tokens = listedTokens(values, files, mistakes);
  if (values.XVAULT_TOKEN !== undefined) {
    const sha256 = createHash('sha256').update(values.XVAULT_TOKEN).digest('hex');
    // Restore overwrites nothing, but it fills storage and starts machines: it has to be given by name.
    tokens.push({ name: 'token', sha256, scopes: SCOPES.filter((scope) => scope !== 'restore') });
  }
  return tokens;
}

function listedTokens(
  { XVAULT_TOKENS: given, XVAULT_TOKENS_FILE: path }: SettingValues,
  files: FileReader,
  mistakes: SettingMistake[],
): TokenEntry[] {
  if (given !== undefined && path !== undefined) {
    const message = 'set XVAULT_TOKENS or XVAULT_TOKENS_FILE, not both';
    mistakes.push({ name: 'XVAULT_TOKENS', message });
    return [];
  }
  const name = path === undefined ? 'XVAULT_TOKENS' : 'XVAULT_TOKENS_FILE';
  const text = path === undefined ? given : files(name, path);
  if (text === undefined) return [];
  const into = { mistakes, example: FILE_EXAMPLE };
  return parseJsonFile(name, text, tokensFileSchema, into) ?? [];
}
