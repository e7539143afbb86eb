/**
 * What tries of a job left in the bucket: unfinished uploads, and parts waiting to be joined.
 *
 * An upload's id is recorded only after the store has given it, so an instance may die between the two: unfinished
 * uploads in the folder of the job's backup, which no other job writes to, are found by listing. Stores that cannot
 * list them leave that one to the bucket's rule for unfinished uploads.
 */
import type { Job } from '../catalog/record.ts';
import type { StepContext } from './context.ts';

/** Aborts and deletes what earlier tries left; gone already is success. */
export async function discardUploads(job: Job, { engine, signal }: StepContext): Promise<void> {
  const { store, keys } = engine;
  const { archive_key: key, upload_id: uploadId, backup_id: backupId } = job.checkpoint;
  if (key !== undefined && uploadId !== undefined) {
    await store.abortUpload({ key, uploadId }, { signal });
  }
  const { retention } = job.request;
  const folder = `${keys.vmPrefix(retention, job.vm.pool, job.vm.uuid)}${backupId}/`;
  const staging = keys.staging(job.id);
  for (const prefix of [folder, staging]) {
    for (const upload of await store.listUploads(prefix, { signal })) {
      await store.abortUpload(upload, { signal });
    }
  }
  for (let more = true; more; ) {
    const page = await store.list({ prefix: staging }, { signal });
    for (const object of page.objects) await store.delete(object.key, { signal });
    more = page.next !== undefined;
  }
}
