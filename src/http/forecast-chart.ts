/** What will be stored, as a chart for the status page: a bar a day, what is expected behind what is there already. */
import { html } from 'hono/html';
import type { ForecastReport } from '../backup/forecast-service.ts';
import type { Html } from './page.ts';

/** In units of the picture, which the browser scales. */
const BAR = 20;
const GAP = 4;
const HEIGHT = 120;

/** The chart with its words; nothing when nothing is stored. */
export function forecastChart(
  { days, currency }: ForecastReport,
  bytesText: (bytes: number) => string,
): Html | '' {
  const most = Math.max(...days.map((day) => Math.max(day.expected_bytes, day.stored_bytes)));
  const [today] = days;
  const last = days.at(-1);
  if (today === undefined || last === undefined || most === 0) return '';
  const scale = (bytes: number) => Math.round((bytes / most) * HEIGHT);
  const bars = days.map((day, i) => {
    const stored = scale(day.stored_bytes);
    const expected = Math.max(stored, scale(day.expected_bytes));
    const x = i * (BAR + GAP);
    return html`<g><title>${day.date}: ${bytesText(day.stored_bytes)} of today’s backups in ${day.backups}, ${bytesText(day.expected_bytes)} expected</title>
<rect class="plain" x="${x}" y="${HEIGHT - expected}" width="${BAR}" height="${expected}"/>
<rect class="ink" x="${x}" y="${HEIGHT - stored}" width="${BAR}" height="${stored}"/></g>`;
  });
  const width = days.length * (BAR + GAP);
  const month = days.reduce((sum, { expected_cost: cost = 0 }) => sum + cost, 0);
  const cost =
    currency === undefined ? '' : html`, about ${month.toFixed(2)} ${currency} for storage`;
  return html`<h2>What will be stored</h2>
<svg viewBox="0 0 ${width} ${HEIGHT}" width="100%" height="${HEIGHT}" preserveAspectRatio="none" role="img" aria-label="Bytes stored from ${today.date} to ${last.date}">${bars}</svg>
<p class="quiet">${today.date} to ${last.date}: ${bytesText(today.stored_bytes)} now; in front what is left of today’s backups
under the rules of the bucket, grey behind it what is expected when backups go on as in the last two weeks (${bytesText(last.expected_bytes)} on the last day${cost}).</p>`;
}
