/**
 * The order in which an export is ended, by what pool and bucket saw: task cancelled, connection closed, then the snapshot.
 *
 * Destroying a disk of the snapshot earlier would wait for the export, or fail (VDI_IN_USE).
 */
import assert from 'node:assert/strict';

/** A request before (`done` false) and after it was carried out, in the order of the servers. */
export interface Noted {
  name: string;
  done: boolean;
}

/**
 * Whenever a disk of the snapshot is destroyed, every export begun by then is over, its connection closed.
 * `held`: the export does not end by itself; then its task was cancelled before. Answers with the disks that went.
 */
export function assertExportEndsFirst(journal: readonly Noted[], held: boolean): number {
  let destroyed = 0;
  for (const [at, { name, done }] of journal.entries()) {
    if (done || bare(name) !== 'Async.VDI.destroy') continue;
    destroyed += 1;
    const before = journal.slice(0, at);
    const count = (what: string, isDone: boolean) =>
      before.filter((seen) => seen.done === isDone && bare(seen.name) === what).length;
    const begun = count('/export', false);
    assert.equal(count('/export', true), begun, 'no export runs when the snapshot goes');
    assert.equal(count('/export closed', true), begun, 'nor is its connection open');
    const completed = count('CompleteMultipartUpload archive', false) > 0;
    if (!held || begun === 0 || completed) continue;
    assert.ok(count('task.cancel', false) > 0, 'the task is cancelled before that');
  }
  return destroyed;
}

/** Without the server's name. */
const bare = (name: string) => name.replace(/^(pool|store) /, '');
