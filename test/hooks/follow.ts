/** What a started program logs. */
import type { ChildProcess } from 'node:child_process';

/** Resolves with all that was logged once this text is in it. */
export function follow(child: ChildProcess): (text: string) => Promise<string> {
  let all = '';
  const waiters = new Set<() => void>();
  child.stderr?.setEncoding('utf8').on('data', (piece: string) => {
    all += piece;
    for (const look of waiters) look();
  });
  return (text) =>
    new Promise((resolve, reject) => {
      const look = () => {
        if (all.includes(text)) resolve(all);
      };
      waiters.add(look);
      child.once('close', () => reject(new Error(`no "${text}" in: ${all}`)));
      look();
    });
}
