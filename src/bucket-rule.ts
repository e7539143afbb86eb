/**
 * One lifecycle rule of the bucket, as far as it removes or moves something.
 *
 * Source: Amazon S3 API reference, LifecycleRule. Days count from when an object was stored; a store acts at the first
 * midnight UTC after they have passed, some as soon as they have (src/catalog/forecast.ts).
 */
export interface LifecycleRule {
  id: string;
  enabled: boolean;
  /** Keys begin so; '' for all. */
  prefix: string;
  /** Tags or sizes narrow it: it may not meet every key of the prefix. */
  narrowed: boolean;
  /** Tags narrow it, sizes aside: what they are is not read. */
  tagged?: boolean;
  /** Only of objects larger, smaller than this. */
  largerThanBytes?: number;
  smallerThanBytes?: number;
  expirationDays?: number;
  /** Milliseconds since 1970: what is older then goes, and from then on all it meets. */
  expirationDate?: number;
  /** Unfinished uploads are aborted after so many days. */
  abortDays?: number;
  /** Versions that a newer one, or a delete marker, hides. */
  noncurrentDays?: number;
  /** So many of those stay all the same, the newest. */
  newerNoncurrent?: number;
  /** Delete markers with nothing behind them go. */
  expiredMarkers?: boolean;
  transitions?: { days?: number; date?: number; storageClass: string }[];
  /** Of hidden versions. */
  noncurrentTransitions?: { days?: number; storageClass: string }[];
  /** Elements this version does not know: such a rule can be left where it is, but not be written back. */
  unknown?: string[];
}

/** What rules can do on a store; part of its facts. */
export interface LifecycleLimits {
  /** Delete objects by prefix, and can be written by S3 calls. */
  expires: boolean;
  /** `itself`: unfinished uploads go without a rule, and there is none for them. */
  aborts: 'rule' | 'itself';
  noncurrent: boolean;
  transitions: boolean;
  maxRules: number;
  /** What people should know of it. */
  note?: string;
}

/** As Amazon S3 has them. */
export const ALL_RULES: LifecycleLimits = {
  expires: true,
  aborts: 'rule',
  noncurrent: true,
  transitions: true,
  maxRules: 1000,
};
