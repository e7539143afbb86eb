/** Pages over a list that is sorted newest first: the token names the last item given, and the filter it was for. */
import { BackupError } from '../errors.ts';
import type { Page, PageInput } from './service.ts';

/** Larger pages are cut down to this. */
const PAGE_LIMIT = 1000;
/** Items loaded at once while a filter leaves most of them out. */
const BATCH = 200;
const LEAST = 20;

/**
 * The page after `input.pageToken`.
 *
 * `load` turns candidates into items in place, undefined for one the filter leaves out. Ids descend, so an item that
 * was deleted between two pages does no harm. Errors: `invalid_request` for a token of another list or filter.
 */
export async function pageOf<C, T>(
  all: readonly C[],
  input: PageInput,
  filter: readonly (string | undefined)[],
  idOf: (candidate: C) => string,
  load: (some: readonly C[]) => Promise<(T | undefined)[]>,
): Promise<Page<T>> {
  const size = Math.min(Math.max(1, input.pageSize), PAGE_LIMIT);
  const after = input.pageToken === undefined ? undefined : readToken(input.pageToken, filter);
  let next = after === undefined ? 0 : all.findIndex((candidate) => idOf(candidate) < after);
  if (next === -1) return { items: [] };
  const items: T[] = [];
  while (next < all.length) {
    const batch = all.slice(next, next + Math.min(BATCH, Math.max(size - items.length, LEAST)));
    const loaded = await load(batch);
    for (const [i, item] of loaded.entries()) {
      if (item !== undefined) items.push(item);
      if (items.length < size) continue;
      const last = next + i;
      const more = last + 1 < all.length;
      return more ? { items, nextPageToken: writeToken(idOf(all[last] as C), filter) } : { items };
    }
    next += batch.length;
  }
  return { items };
}

function writeToken(id: string, filter: readonly (string | undefined)[]): string {
  return Buffer.from(JSON.stringify([id, ...filter.map((f) => f ?? null)])).toString('base64url');
}

function readToken(token: string, filter: readonly (string | undefined)[]): string {
  const wrong = () =>
    new BackupError('invalid_request', 'read page_token: it belongs to another list or filter');
  let parts: unknown;
  try {
    parts = JSON.parse(Buffer.from(token, 'base64url').toString('utf8'));
  } catch {
    throw wrong();
  }
  if (!Array.isArray(parts)) throw wrong();
  const [id, ...rest] = parts;
  const same = JSON.stringify(rest) === JSON.stringify(filter.map((f) => f ?? null));
  if (typeof id !== 'string' || !same) throw wrong();
  return id;
}
