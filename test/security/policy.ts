/**
 * The policies users are given (infra/*-policy.json), held to by the embedded server: what they do not allow is refused
 * and remembered, and so is what was used of them.
 */
import { readFileSync } from 'node:fs';

interface Statement {
  Sid: string;
  Effect: 'Allow';
  Action: string[];
  Resource: string[];
}

export interface PolicyDocument {
  Version: string;
  Statement: Statement[];
}

const FOLDER = new URL('../../infra/', import.meta.url);
const BUCKET_ACTION = /^s3:(ListBucket|\w+Lifecycle|\w+Bucket)/;
const BUCKET_ARN = 'arn:aws:s3:::vm-backups';

/** The document for this bucket and prefix instead of the example's. */
export function readPolicy(
  bucket: string,
  prefix: string,
  file: 'bucket-policy.json' | 'restore-policy.json' | 'admin-policy.json' = 'bucket-policy.json',
): PolicyDocument {
  const document = JSON.parse(readFileSync(new URL(file, FOLDER), 'utf8')) as PolicyDocument;
  const resourceFor = (arn: string) =>
    arn
      .replace(`${BUCKET_ARN}/`, `arn:aws:s3:::${bucket}/${prefix}`)
      .replace(new RegExp(`^${BUCKET_ARN}$`), `arn:aws:s3:::${bucket}`);
  return {
    ...document,
    Statement: document.Statement.map((one) => ({
      ...one,
      Resource: one.Resource.map(resourceFor),
    })),
  };
}

export interface Watch {
  /** For the embedded server. */
  policy(action: string, bucket: string, key: string): boolean;
  /** `action key` of every call that was refused. */
  refused: string[];
  /** `statement action` of everything granted that was needed. */
  used: Set<string>;
}

/** Allows what the document allows, and nothing else. */
export function enforce(document: PolicyDocument): Watch {
  const refused: string[] = [];
  const used = new Set<string>();
  const policy: Watch['policy'] = (action, bucket, key) => {
    // asked for an object, too, where a missing one must not be told apart from a forbidden one
    const ofBucket = key === '' || BUCKET_ACTION.test(action);
    const arn = `arn:aws:s3:::${bucket}${ofBucket ? '' : `/${key}`}`;
    const found = document.Statement.find(
      (one) => one.Action.includes(action) && one.Resource.some((pattern) => matches(pattern, arn)),
    );
    if (found) used.add(`${found.Sid} ${action}`);
    else refused.push(`${action} ${key}`);
    return found !== undefined;
  };
  return { policy, refused, used };
}

function matches(pattern: string, arn: string): boolean {
  return pattern.endsWith('*') ? arn.startsWith(pattern.slice(0, -1)) : arn === pattern;
}
