/**
 * The age from which a machine's newest good backup is overdue, where a tag of the machine says so: `xvault:max_age=26h`.
 *
 * Who looks after the machine knows whether a day or a week is fine; the setting is for all others. Of several tags the strictest
 * counts. One that cannot be read is told: a slip there would otherwise leave a machine unwatched.
 */
import { parseDuration } from '../commands/format.ts';

const TAG = 'xvault:max_age=';

export interface OwnMaxAge {
  seconds?: number;
  /** Tags that are meant to be one and are no time. */
  wrong: string[];
}

/** What the tags say; undefined where none is about it. */
export function maxAgeOf(tags: readonly string[]): OwnMaxAge | undefined {
  const own = tags.filter((tag) => tag.startsWith(TAG));
  if (own.length === 0) return undefined;
  const read = own.map((tag) => ({ tag, seconds: parseDuration(tag.slice(TAG.length).trim()) }));
  const isRight = (seconds: number | undefined) => seconds !== undefined && seconds > 0;
  const right = read.flatMap(({ seconds }) => (isRight(seconds) ? [seconds as number] : []));
  return {
    ...(right.length === 0 ? {} : { seconds: Math.min(...right) }),
    wrong: read.filter(({ seconds }) => !isRight(seconds)).map(({ tag }) => tag),
  };
}
