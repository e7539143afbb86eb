/**
 * The lifecycle rules of the default settings as files, for who sets them by other means than `xvault lifecycle apply`:
 * made from the very function that command uses, with the same ids, so that it finds nothing to change afterwards.
 */
import { ALL_RULES, type LifecycleLimits, type LifecycleRule } from '../src/bucket-rule.ts';
import { createKeys } from '../src/catalog/keys.ts';
import { wantedRules } from '../src/catalog/rotation.ts';
import { inspectSettings } from '../src/config.ts';
import { DEFAULT_ROTATION } from '../src/settings-rotation.ts';

const DAY_SECONDS = 86_400;

function rulesFor(limits: LifecycleLimits, versioned: boolean): LifecycleRule[] {
  const { settings } = inspectSettings({ env: {} });
  if (settings === undefined) throw new Error('the default settings are wrong');
  const { retentionDays } = settings;
  const holds = { archives: true, state: true };
  const rotation = DEFAULT_ROTATION;
  return wantedRules({ keys: createKeys(''), retentionDays, rotation, holds, versioned }, limits)
    .rules;
}

/** As the S3 API has them, those for old versions included. */
export function s3Rules(): string {
  const Rules = rulesFor(ALL_RULES, true).map((rule) => ({
    ID: rule.id,
    Status: 'Enabled',
    Filter: { Prefix: rule.prefix },
    ...(rule.expirationDays && { Expiration: { Days: rule.expirationDays } }),
    ...(rule.expiredMarkers && { Expiration: { ExpiredObjectDeleteMarker: true } }),
    ...(rule.noncurrentDays && {
      NoncurrentVersionExpiration: { NoncurrentDays: rule.noncurrentDays },
    }),
    ...(rule.abortDays && {
      AbortIncompleteMultipartUpload: { DaysAfterInitiation: rule.abortDays },
    }),
  }));
  return `${JSON.stringify({ Rules }, null, 2)}\n`;
}

/** As Cloudflare's own API has them (`wrangler r2 bucket lifecycle set`). */
export function r2Rules(): string {
  const after = (days: number) => ({ condition: { type: 'Age', maxAge: days * DAY_SECONDS } });
  const rules = rulesFor({ ...ALL_RULES, noncurrent: false }, false).map((rule) => ({
    id: rule.id,
    enabled: true,
    conditions: { prefix: rule.prefix },
    ...(rule.expirationDays && { deleteObjectsTransition: after(rule.expirationDays) }),
    ...(rule.abortDays && { abortMultipartUploadsTransition: after(rule.abortDays) }),
  }));
  return `${JSON.stringify({ rules }, null, 2)}\n`;
}
