/** Uuids as people and other programs write them: in letters of either case. */

const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;

/** Says whether the text is a uuid of any version. */
export function isUuid(text: string): boolean {
  return UUID.test(text);
}
