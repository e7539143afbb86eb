/**
 * Jobs and runs as spans.
 *
 *   request ─► job <kind> ─► phase <name> ─► calls
 *   request ─► run ─┈link┈─► begin job ─► job backup ─► …
 *
 * A job may run long after it was asked for, and in another instance: its record carries the traceparent of who asked. A job of a run
 * has a trace of its own, linked to the run's: one night of hundreds of machines in one trace is read by nobody. A span is
 * sent when it ends, so that of a process that died is missing and its pieces are there.
 */
import type { Job } from '../catalog/record.ts';
import type { Run } from '../catalog/run.ts';
import type { Span, Tracer } from '../tracer.ts';

type Traced = { tracer: Tracer };

/** What a record keeps of the span it is made in. */
export function traceOf({ tracer }: Traced): { traceparent?: string } {
  const traceparent = tracer.active()?.traceparent;
  return traceparent === undefined ? {} : { traceparent };
}

/** One attempt of a job, with what is told of it. */
export function inJobSpan<T>({ tracer }: Traced, job: Job, work: () => Promise<T>): Promise<T> {
  const attributes = {
    'xvault.job.id': job.id,
    'xvault.job.kind': job.kind,
    'xvault.job.attempt': job.attempt,
    'xvault.vm.uuid': job.vm.uuid,
    'xvault.pool': job.vm.pool,
  };
  const options = { parent: job.traceparent, root: true, attributes };
  return tracer.span(`job ${job.kind}`, options, work);
}

/** What became of it, on the span it runs in. */
export function describeOutcome({ tracer }: Traced, job: Job): void {
  const span = tracer.active();
  if (span === undefined) return;
  span.set({
    'xvault.job.status': job.status,
    'xvault.mode': job.result?.mode,
    'xvault.read_bytes': job.progress.read_bytes,
    'xvault.sent_bytes': job.progress.sent_bytes,
    'xvault.copied_bytes': job.progress.copied_bytes,
    'xvault.requests': job.result?.requests?.total,
  });
  const error = job.error ?? (job.status === 'queued' ? job.last_error : undefined);
  if (error !== undefined) span.fail(error.code);
}

/** One step of it. A failure of the step is the job's, and told there. */
export function inPhaseSpan<T>(
  { tracer }: Traced,
  job: Pick<Job, 'phase'>,
  work: (span: Span) => Promise<T>,
): Promise<T> {
  return tracer.span(`phase ${job.phase}`, { attributes: { 'xvault.phase': job.phase } }, work);
}

/** All of a run; it looks at its jobs again and again. */
export function inRunSpan({ tracer }: Traced, run: Run, work: () => Promise<Run>): Promise<Run> {
  const attributes = { 'xvault.run.id': run.id };
  return tracer.span('run', { parent: run.traceparent, root: true, attributes }, async (span) => {
    const ended = await tracer.quietly(work);
    span.set({ 'xvault.run.status': ended.status, 'xvault.run.machines': ended.machines.length });
    if (ended.status === 'failed' || ended.status === 'partial') span.fail(ended.status);
    return ended;
  });
}

/** The beginning of a job of a run: the root of that job's trace. */
export function inRunsJobSpan<T>(
  { tracer }: Traced,
  run: Pick<Run, 'id'>,
  work: () => Promise<T>,
): Promise<T> {
  const links = [tracer.active()?.traceparent];
  const attributes = { 'xvault.run.id': run.id };
  return tracer.span('begin job', { kind: 'producer', root: true, links, attributes }, work);
}
