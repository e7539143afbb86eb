/** Traces where the settings want them; nothing of them is loaded elsewhere. */
import { systemClock } from '../clock.ts';
import type { Settings } from '../config.ts';
import type { Log } from '../ports.ts';
import { NO_TRACER } from '../tracer.ts';
import type { Traces } from '../traces.ts';
import { VERSION } from '../version.ts';

/** The log is the same, with the ids of the work a line is about where there are some. */
export async function openTraces({ traces }: Pick<Settings, 'traces'>, log: Log): Promise<Traces> {
  if (traces === undefined) return { tracer: NO_TRACER, log, stop: async () => {} };
  const { startTraces } = await import('../traces.ts');
  return await startTraces(traces, { log, clock: systemClock, version: VERSION });
}
