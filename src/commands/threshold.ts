/**
 * Thresholds as Nagios plugins write them: `10`, `10:`, `~:10`, `10:20`, `@10:20`.
 *
 * Source: Monitoring Plugins development guidelines, "Threshold and ranges". A value outside the range alarms; with @
 * one inside does. Bounds may have a unit: 26h.
 */
import { BackupError } from '../errors.ts';
import { parseDuration } from './format.ts';

export interface Threshold {
  low: number;
  high: number;
  /** Alarm inside instead of outside. */
  inside: boolean;
  /** In plain seconds, for the performance data. */
  text: string;
}

/** Reads a range; undefined gives 0 … `defaultSeconds`. Errors: `invalid_request`. */
export function parseThreshold(text: string | undefined, defaultSeconds: number): Threshold {
  const wanted = text ?? String(defaultSeconds);
  const match = /^(@?)(?:(~|[^:@]*):)?([^:@]*)$/.exec(wanted);
  const low = match?.[2] === '~' ? Number.NEGATIVE_INFINITY : bound(match?.[2] ?? '', 0);
  const high = bound(match?.[3] ?? '', Number.POSITIVE_INFINITY);
  if (!match || wanted === '' || low === undefined || high === undefined || low > high) {
    throw new BackupError(
      'invalid_request',
      `read threshold ${wanted}: such as 26h, 1h:26h or @0:1h`,
    );
  }
  const inside = match[1] === '@';
  const lowText = low === Number.NEGATIVE_INFINITY ? '~:' : low === 0 ? '' : `${low}:`;
  const highText = high === Number.POSITIVE_INFINITY ? '' : String(high);
  const head = lowText === '' && highText === '' ? '0:' : lowText;
  return { low, high, inside, text: `${inside ? '@' : ''}${head}${highText}` };
}

/** True when the value raises no alarm. */
export function inRange(value: number, { low, high, inside }: Threshold): boolean {
  const within = value >= low && value <= high;
  return inside ? !within : within;
}

function bound(text: string, missing: number): number | undefined {
  return text === '' ? missing : parseDuration(text);
}
