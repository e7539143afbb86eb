/** What each backup of a machine holds and what of it was sent, oldest left: a pair of bars each. */
import { html } from 'hono/html';
import type { Backup } from '../../catalog/record.ts';
import type { Html } from '../page.ts';
import { bytesText } from './words.ts';

const SHOWN = 40;
const BAR = 12;
const STEP = 16;
const HEIGHT = 120;
/** Room for the scale. */
const LEFT = 70;
const TOP = 14;
/** Two days, written out. */
const LABEL = 170;
const BOTTOM = 18;

/** `backups`: newest first. */
export function sizeChart(backups: readonly Backup[]): Html | '' {
  const shown = backups.slice(0, SHOWN).toReversed();
  const [oldest] = shown;
  const newest = shown.at(-1);
  const most = Math.max(...shown.map(topOf));
  if (oldest === undefined || newest === undefined || most === 0) return '';
  const scale = (bytes: number) => Math.max(bytes > 0 ? 1 : 0, Math.round((bytes / most) * HEIGHT));
  const floor = TOP + HEIGHT;
  const bars = shown.map((backup, at) => {
    const x = LEFT + at * STEP;
    const size = scale(backup.archive.size_bytes);
    const sent = scale(backup.sent_bytes);
    return html`<g><title>${backup.created_at.slice(0, 16).replace('T', ' ')} ${backup.mode}: ${bytesText(backup.archive.size_bytes)}, ${bytesText(backup.sent_bytes)} sent</title>
<rect class="plain" x="${x}" y="${floor - size}" width="${BAR}" height="${size}"/><rect class="good" x="${x + 3}" y="${floor - sent}" width="${BAR - 6}" height="${sent}"/></g>`;
  });
  const [from, to] = [oldest, newest].map(({ created_at }) => created_at.slice(0, 10));
  const days = from === to ? from : `${from} to ${to}`;
  const width = LEFT + Math.max(shown.length * STEP, LABEL);
  return html`<svg width="${width}" height="${floor + BOTTOM}" viewBox="0 0 ${width} ${floor + BOTTOM}" role="img" aria-label="Size and sent bytes of ${shown.length} backups, ${days}">
<rect class="base" x="${LEFT}" y="${floor}" width="${width - LEFT}" height="1"/>
<text x="${LEFT - 6}" y="${TOP + 4}" text-anchor="end">${bytesText(most)}</text><text x="${LEFT - 6}" y="${floor}" text-anchor="end">0</text>
${bars}<text x="${LEFT}" y="${floor + BOTTOM - 4}">${days}</text></svg>
<p class="quiet">Wide: the archive; narrow, in front: what was sent of it, the rest was copied inside the bucket.</p>`;
}

function topOf({ archive, sent_bytes }: Backup): number {
  return Math.max(archive.size_bytes, sent_bytes);
}
