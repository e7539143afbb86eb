/** `doctor` on the lifecycle rules of a bucket: only read; `xvault lifecycle apply` writes them. */
import { ALL_RULES } from '../bucket-rule.ts';
import { createKeys } from '../catalog/keys.ts';
import { planRotation } from '../catalog/rotation.ts';
import { isBackupError } from '../errors.ts';
import type { Cancellable, LifecycleRule, ObjectStore, StoreFacts } from '../ports.ts';
import type { RotationSettings } from '../settings-rotation.ts';
import type { Report } from './doctor-checks.ts';

/** Rules named in one finding. */
const MOST_NAMED = 2;

export interface RulesInput {
  store: ObjectStore;
  prefix: string;
  archives: boolean;
  state: boolean;
  facts: StoreFacts | undefined;
  wish: { retentionDays: Readonly<Record<string, number>>; rotation: RotationSettings };
}

const NO_RULES =
  'Nothing rotates by itself here: remove old backups and unfinished uploads by another way.';
const MEND =
  '`xvault lifecycle show` tells all of it, `xvault lifecycle apply --yes` writes what is missing (docs/rotation.md).';

/** Compares what is there with what the settings wish. */
export async function checkRules(
  input: RulesInput,
  report: Report,
  { signal }: Cancellable,
): Promise<void> {
  const check = 'lifecycle';
  const { store, prefix, archives, state, facts, wish } = input;
  let found: LifecycleRule[] | undefined;
  try {
    found = await store.lifecycle({ signal });
  } catch (error) {
    signal.throwIfAborted();
    if (!isBackupError(error)) throw error;
    const text = `the rules cannot be read: ${error.message}`;
    return report({ check, state: 'unknown', text, mend: 'Allow s3:GetLifecycleConfiguration.' });
  }
  const limits = facts?.lifecycle ?? ALL_RULES;
  if (found === undefined || !limits.expires) {
    const text = limits.expires ? 'this store has no lifecycle rules' : (limits.note ?? '');
    return report({ check, state: 'warn', text, mend: NO_RULES });
  }
  const { changes, warnings } = planRotation({
    found,
    wish: {
      keys: createKeys(prefix),
      ...wish,
      holds: { archives, state },
      versioned: await isVersioned(store, { signal }),
    },
    limits,
    classesInUse: [],
  });
  // which classes there are backups of is not looked at: a rule too many is no finding
  const due = changes.filter(({ action }) => action === 'add' || action === 'replace');
  if (due.length > 0) {
    const named = due.slice(0, MOST_NAMED).map(({ text }) => `"${text}"`);
    const more = due.length > MOST_NAMED ? ` and ${due.length - MOST_NAMED} more` : '';
    const text = `not as the settings wish; missing or other: ${named.join(', ')}${more}`;
    report({ check, state: 'warn', text, mend: MEND });
  }
  for (const text of warnings) report({ check, state: 'warn', text, mend: MEND });
  if (due.length + warnings.length > 0) return;
  report({ check, state: 'ok', text: `${found.length} rules, as the settings wish` });
}

async function isVersioned(store: ObjectStore, { signal }: Cancellable): Promise<boolean> {
  try {
    const versions = await store.versioning({ signal });
    return versions === 'enabled' || versions === 'suspended';
  } catch (error) {
    signal.throwIfAborted();
    // a right that is only of use here
    if (isBackupError(error, 'store_credentials', 'store_refused')) return false;
    throw error;
  }
}
