/** Names of objects: as keys, and as the file a browser saves. */
import assert from 'node:assert/strict';

/** Keys are ours: a bad one is a bug. */
export function checked(key: string): string {
  assert(/^[A-Za-z0-9._-][A-Za-z0-9._/-]{0,1023}$/.test(key), `key=${key}`);
  assert(!key.includes('//') && !/(^|\/)\.\.?(\/|$)/.test(key), `key=${key}`);
  return key;
}

/** A name as RFC 6266 wants it: quoted ASCII for the old, UTF-8 for the rest. */
export function contentDisposition(fileName: string): string {
  const ascii = fileName.replace(/[^A-Za-z0-9 ._-]/g, '_');
  const utf8 = encodeURIComponent(fileName).replace(
    /['()*]/g,
    (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`,
  );
  return `attachment; filename="${ascii}"; filename*=UTF-8''${utf8}`;
}
