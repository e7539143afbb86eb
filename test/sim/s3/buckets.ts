/**
 * Operations on a bucket and on what is attached to it or to an object: versioning, lifecycle, lock, tags.
 */
import { checkRetention, checkTags } from './attributes.ts';
import { type Answer, type Call, isoTime, needBucket, readContent, readXml } from './call.ts';
import { invalidArgument, S3Error } from './errors.ts';
import { readRules, writeRule } from './lifecycle-rules.ts';
import { createBucket, isLocked, needVersion, type Version } from './state.ts';
import { child, childrenOf, childText, document, el, malformed, optional } from './xml.ts';

/** CreateBucket. */
export async function makeBucket(call: Call): Promise<Answer> {
  const { world, bucketName } = call;
  await readContent(call, undefined, 'none');
  if (!/^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$/.test(bucketName)) {
    throw new S3Error(400, 'InvalidBucketName');
  }
  if (!world.buckets.has(bucketName)) {
    const bucket = createBucket(bucketName, world.now());
    bucket.lock = call.headers['x-amz-bucket-object-lock-enabled'] === 'true';
    if (bucket.lock) bucket.versioning = 'Enabled';
    world.buckets.set(bucketName, bucket);
  }
  return { status: 200, headers: { location: `/${bucketName}` } };
}

/** HeadBucket. */
export async function headBucket(call: Call): Promise<Answer> {
  needBucket(call);
  return { status: 200, headers: { 'x-amz-bucket-region': call.world.region } };
}

/** DeleteBucket. */
export async function deleteBucket(call: Call): Promise<Answer> {
  const bucket = needBucket(call);
  if (bucket.keys.length > 0) throw new S3Error(409, 'BucketNotEmpty');
  call.world.buckets.delete(bucket.name);
  return { status: 204 };
}

/** GetBucketLocation. */
export async function getLocation(call: Call): Promise<Answer> {
  needBucket(call);
  const region = call.world.region === 'us-east-1' ? '' : call.world.region;
  return { status: 200, body: document('LocationConstraint', region) };
}

/** GetBucketVersioning. */
export async function getVersioning(call: Call): Promise<Answer> {
  const bucket = needBucket(call);
  const status = bucket.versioning === '' ? undefined : el('Status', bucket.versioning);
  return { status: 200, body: document('VersioningConfiguration', status) };
}

/** PutBucketVersioning. */
export async function putVersioning(call: Call): Promise<Answer> {
  const bucket = needBucket(call);
  const status = childText(await readXml(call, 'VersioningConfiguration'), 'Status');
  if (status !== 'Enabled' && status !== 'Suspended') throw malformed('Status of versioning');
  if (bucket.lock && status === 'Suspended') {
    throw new S3Error(409, 'InvalidBucketState', 'a bucket with object lock stays versioned');
  }
  bucket.versioning = status;
  return { status: 200 };
}

/** GetBucketLifecycleConfiguration. */
export async function getLifecycle(call: Call): Promise<Answer> {
  const { lifecycle } = needBucket(call);
  if (!lifecycle) throw new S3Error(404, 'NoSuchLifecycleConfiguration');
  return { status: 200, body: document('LifecycleConfiguration', lifecycle.map(writeRule)) };
}

/** PutBucketLifecycleConfiguration. */
export async function putLifecycle(call: Call): Promise<Answer> {
  const bucket = needBucket(call);
  bucket.lifecycle = readRules(await readXml(call, 'LifecycleConfiguration'));
  delete bucket.lifecycleDay;
  return { status: 200 };
}

/** DeleteBucketLifecycle. */
export async function deleteLifecycle(call: Call): Promise<Answer> {
  const bucket = needBucket(call);
  delete bucket.lifecycle;
  delete bucket.lifecycleDay;
  return { status: 204 };
}

/** GetObjectLockConfiguration. */
export async function getLock(call: Call): Promise<Answer> {
  const bucket = needBucket(call);
  if (!bucket.lock) throw new S3Error(404, 'ObjectLockConfigurationNotFoundError');
  const rule = bucket.lockDefault;
  const retention =
    rule &&
    el(
      'DefaultRetention',
      el('Mode', rule.mode),
      optional('Days', rule.days),
      optional('Years', rule.years),
    );
  const body = document(
    'ObjectLockConfiguration',
    el('ObjectLockEnabled', 'Enabled'),
    retention && el('Rule', retention),
  );
  return { status: 200, body };
}

/** PutObjectLockConfiguration. */
export async function putLock(call: Call): Promise<Answer> {
  const bucket = needBucket(call);
  const root = await readXml(call, 'ObjectLockConfiguration');
  if (!bucket.lock) {
    if (bucket.versioning !== 'Enabled') throw new S3Error(409, 'InvalidBucketState');
    bucket.lock = true;
  }
  const retention = child(child(root, 'Rule'), 'DefaultRetention');
  delete bucket.lockDefault;
  if (!retention) return { status: 200 };
  const mode = childText(retention, 'Mode');
  const days = Number(childText(retention, 'Days') ?? 0);
  const years = Number(childText(retention, 'Years') ?? 0);
  if ((mode !== 'GOVERNANCE' && mode !== 'COMPLIANCE') || days > 0 === years > 0) {
    throw malformed('a default retention needs a mode and either days or years');
  }
  bucket.lockDefault = { mode, ...(days > 0 ? { days } : { years }) };
  return { status: 200 };
}

function target(call: Call): Version {
  return needVersion(needBucket(call), call.key, call.query.get('versionId'));
}

function lockable(call: Call): Version {
  if (!needBucket(call).lock) {
    throw new S3Error(400, 'InvalidRequest', 'the bucket has no object lock');
  }
  return target(call);
}

/** GetObjectRetention. */
export async function getRetention(call: Call): Promise<Answer> {
  const { retention } = lockable(call);
  if (!retention) throw new S3Error(404, 'NoSuchObjectLockConfiguration');
  const until = el('RetainUntilDate', isoTime(retention.until));
  return { status: 200, body: document('Retention', el('Mode', retention.mode), until) };
}

/** PutObjectRetention: a lock can be made longer; shorter only in governance mode by who may bypass it. */
export async function putRetention(call: Call): Promise<Answer> {
  const version = lockable(call);
  const root = await readXml(call, 'Retention');
  const now = call.world.now();
  const wanted = checkRetention(childText(root, 'Mode'), childText(root, 'RetainUntilDate'), now);
  const bypass = call.headers['x-amz-bypass-governance-retention'] === 'true';
  const { retention } = version;
  const weaker =
    retention &&
    (wanted.until < retention.until ||
      (retention.mode === 'COMPLIANCE' && wanted.mode !== 'COMPLIANCE'));
  if (weaker && isLocked({ ...version, legalHold: false }, now, bypass)) {
    throw new S3Error(403, 'AccessDenied', 'a lock can not be made shorter');
  }
  version.retention = wanted;
  return { status: 200 };
}

/** GetObjectLegalHold. */
export async function getLegalHold(call: Call): Promise<Answer> {
  const { legalHold } = lockable(call);
  return { status: 200, body: document('LegalHold', el('Status', legalHold ? 'ON' : 'OFF')) };
}

/** PutObjectLegalHold. */
export async function putLegalHold(call: Call): Promise<Answer> {
  const version = lockable(call);
  const status = childText(await readXml(call, 'LegalHold'), 'Status');
  if (status !== 'ON' && status !== 'OFF') throw invalidArgument('a legal hold is ON or OFF');
  version.legalHold = status === 'ON';
  return { status: 200 };
}

/** GetObjectTagging. */
export async function getTags(call: Call): Promise<Answer> {
  const tags = Object.entries(target(call).tags);
  const entries = tags.map(([key, value]) => el('Tag', el('Key', key), el('Value', value)));
  return { status: 200, body: document('Tagging', el('TagSet', entries)) };
}

/** PutObjectTagging. */
export async function putTags(call: Call): Promise<Answer> {
  const version = target(call);
  const root = await readXml(call, 'Tagging');
  const pairs = childrenOf(child(root, 'TagSet'), 'Tag').map((tag): [string, string] => [
    childText(tag, 'Key') ?? '',
    childText(tag, 'Value') ?? '',
  ]);
  version.tags = checkTags(pairs);
  return { status: 200 };
}

/** DeleteObjectTagging. */
export async function deleteTags(call: Call): Promise<Answer> {
  target(call).tags = {};
  return { status: 204 };
}
