/** All checks, in the order they run. */
import type { Check } from '../trial.ts';
import { CHECKSUM_CHECKS } from './checksums.ts';
import { CONDITION_CHECKS, VERSIONED_RACES } from './conditions.ts';
import { COPY_CHECKS } from './copies.ts';
import { ENCRYPTION_CHECKS } from './encryption.ts';
import { LISTING_CHECKS } from './listing.ts';
import { MULTIPART_CHECKS } from './multipart.ts';
import { OBJECT_CHECKS } from './objects.ts';
import { RULE_CHECKS } from './rules.ts';
import { TRANSPORT_CHECKS } from './transport.ts';
import { VERSION_CHECKS } from './versions.ts';

export const CHECKS: readonly Check[] = [
  ...OBJECT_CHECKS,
  ...MULTIPART_CHECKS,
  ...COPY_CHECKS,
  ...CONDITION_CHECKS,
  ...LISTING_CHECKS,
  ...CHECKSUM_CHECKS,
  ...VERSION_CHECKS,
  ...VERSIONED_RACES,
  ...TRANSPORT_CHECKS,
  ...ENCRYPTION_CHECKS,
  // Last: days pass in them, and a lock's end would lie in the past.
  ...RULE_CHECKS,
];

/** Those whose answers make the difference between R2 and others. */
export const R2_MODE_CHECKS: readonly Check[] = [
  ...MULTIPART_CHECKS,
  ...COPY_CHECKS,
  ...CONDITION_CHECKS,
  ...RULE_CHECKS.filter((check) => check.name.startsWith('tags ')),
];
