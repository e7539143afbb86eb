/** Lists in sentences. */
import { plain } from './format.ts';

const SHOWN = 5;

/** The first five names, and how many more. */
export function nameList(names: readonly string[]): string {
  const more = names.length > SHOWN ? ` and ${names.length - SHOWN} more` : '';
  return `${names.slice(0, SHOWN).map(plain).join(', ')}${more}`;
}
