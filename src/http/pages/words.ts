/** Words and small marks that all pages share: sizes, times, verdicts, commands to copy. */
import { html } from 'hono/html';
import type { BackupError } from '../../errors.ts';
import type { Html } from '../page.ts';

/** 93600 → 26 h. */
export function ageText(seconds: number): string {
  if (seconds < 120) return `${Math.round(seconds)} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  if (seconds < 172_800) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86_400)} d`;
}

/** 101.8 → 1 min 42 s. */
export function durationText(seconds: number): string {
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  const minutes = Math.floor(whole / 60);
  if (minutes < 60) return `${minutes} min ${whole % 60} s`;
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

const UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'];

/** 1536 → 1.5 KiB. */
export function bytesText(bytes: number): string {
  const step = bytes < 1 ? 0 : Math.min(UNITS.length - 1, Math.floor(Math.log2(bytes) / 10));
  return `${(bytes / 1024 ** step).toFixed(step === 0 ? 0 : 1)} ${UNITS[step]}`;
}

/** Two figures that count: most are fractions of a cent. */
export function amountText({ amount, currency }: { amount: number; currency: string }): string {
  const text = amount >= 1 ? amount.toFixed(2) : String(Number(amount.toPrecision(2)));
  return `${/e/.test(text) ? 'less than 0.000001' : text} ${currency}`;
}

/** 1 backup, 3 backups. */
export function count(number: number, noun: string): string {
  return number === 1 ? `1 ${noun}` : `${number} ${noun}s`;
}

/** 2026-11-23T08:08:51.193Z → 2026-11-23 08:08:51 UTC. */
export function time(text: string): Html {
  const shown = text.replace('T', ' ').replace(/(\.\d+)?Z$/, ' UTC');
  return html`<time datetime="${text}">${shown}</time>`;
}

/** The same, its day only. */
export function day(text: string): Html {
  return html`<time datetime="${text}">${text.slice(0, 10)}</time>`;
}

const TONES: Record<string, string> = {
  succeeded: 'ok',
  partial: 'critical',
  'not started': 'critical',
  failed: 'critical',
  cancelled: 'warning',
};

/** A verdict or a state, in its colour and in words. */
export function tag(word: string): Html {
  return html`<span class="tag ${TONES[word] ?? word}">${word}</span>`;
}

/** What could not be read is said in its place. */
export function trouble({ code, message }: BackupError): Html {
  return html`<p><span class="tag critical">${code}</span> ${message}</p>`;
}

/** One click selects all of it. */
export function command(text: string): Html {
  return html`<pre class="copy" tabindex="0">${text}</pre>`;
}

/** What is known of a thing, as pairs; what is absent is left out. */
export function facts(pairs: readonly (readonly [string, Html | string | undefined])[]): Html {
  const there = pairs.filter(([, value]) => value !== undefined && value !== '');
  return html`<dl>${there.map(([name, value]) => html`<div><dt>${name}</dt><dd>${value}</dd></div>`)}</dl>`;
}

/** What a machine is called: a name of blanks is none. */
export function nameOf({ name, uuid }: { name: string; uuid: string }): string {
  return name.trim() || uuid;
}

/** The page of a machine. */
export function vmPath({ pool, uuid }: { pool: string; uuid: string }): string {
  return `/vms/${encodeURIComponent(pool)}/${encodeURIComponent(uuid)}`;
}

/** The page of a run. */
export function runPath(id: string): string {
  return `/runs/${encodeURIComponent(id)}`;
}

/** The page of a job. */
export function jobPath(id: string): string {
  return `/jobs/${encodeURIComponent(id)}`;
}
