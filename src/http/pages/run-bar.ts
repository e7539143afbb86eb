/** The last runs of a machine at a glance, oldest left: how high and in which colour says how each went. */
import { html } from 'hono/html';
import type { Job } from '../../catalog/record.ts';
import type { Html } from '../page.ts';

/** More are no glance any more. */
export const SHOWN_RUNS = 30;
const WIDTH = 4;
const STEP = 5;
const HEIGHT = 18;

/** Told apart without colours, too: a failed one stands on its head. */
const LOOKS: Record<string, { name: string; top: number; height: number }> = {
  succeeded: { name: 'good', top: 0, height: HEIGHT },
  failed: { name: 'bad', top: 0, height: HEIGHT / 2 },
  cancelled: { name: 'other', top: HEIGHT / 2 - 2, height: 4 },
};

/** What counts as a run: a backup that was to be stored, and has ended. */
export function isRun(job: Job): boolean {
  return job.kind === 'backup' && !job.request.dry_run && LOOKS[job.status] !== undefined;
}

/** `runs`: newest first. */
export function runBar(runs: readonly Job[]): Html | '' {
  const shown = runs.slice(0, SHOWN_RUNS).toReversed();
  if (shown.length === 0) return '';
  const paths = Object.entries(LOOKS).map(([status, { name, top, height }]) => {
    const marks = shown.flatMap((job, at) =>
      job.status === status ? [`M${at * STEP} ${top}h${WIDTH}v${height}h-${WIDTH}z`] : [],
    );
    return marks.length === 0 ? '' : html`<path class="${name}" d="${marks.join('')}"/>`;
  });
  const width = SHOWN_RUNS * STEP;
  const words = runWords(shown);
  return html`<svg width="${width}" height="${HEIGHT}" viewBox="0 0 ${width} ${HEIGHT}" role="img" aria-label="${words}"><title>${words}</title>${paths}</svg>`;
}

function runWords(shown: readonly Job[]): string {
  const count = (status: string) => shown.filter((job) => job.status === status).length;
  const [good, bad, given] = [count('succeeded'), count('failed'), count('cancelled')];
  return `Last ${shown.length} runs: ${good} succeeded, ${bad} failed${given > 0 ? `, ${given} cancelled` : ''}`;
}
