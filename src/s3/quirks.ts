/**
 * What differs between S3 providers, as data: one row each, with the reason and where it is written.
 *
 * A row is found by the endpoint's host or named by the settings; an unknown endpoint gets `generic`, which promises
 * nothing that is not probed or echoed. What can be probed safely (conditional writes) is probed even where the row
 * says yes, since a version or a versioned bucket may take it away. Docs read and servers measured in November 2026.
 */

import { ALL_RULES, type LifecycleLimits } from '../bucket-rule.ts';
import { BackupError } from '../errors.ts';

/** The store's rules that change what we send. */
export interface Quirks {
  name: string;
  /** `no`: not even tried; `probe`: tried on a scratch key before anything relies on it; `yes`: known (tests). */
  conditionalWrites: 'probe' | 'yes' | 'no';
  /** The same for If-None-Match on CompleteMultipartUpload. */
  conditionalComplete: 'probe' | 'yes' | 'no';
  /** Every part but the last must have the same size. */
  equalParts: boolean;
  /** UploadPartCopy with byte ranges works. */
  copyParts: boolean;
  /** UploadPartCopy refuses a source that is not the one named by its ETag. */
  copyConditions: boolean;
  maxParts: number;
  minPartBytes: number;
  maxPartBytes: number;
  maxObjectBytes: number;
  /** Parts of one upload on their way at once. */
  partsInFlight: number;
  /** Ask for a CRC32 of the whole object; used only if the store echoes it. */
  checksum: 'crc32' | 'none';
  /** Uploads can be listed by prefix. */
  listUploads: boolean;
  /** ListParts answers, so that parts can be compared where there is no checksum. */
  listParts: boolean;
  /** A part says how its upload is encrypted, which AWS refuses: a policy that asks for encryption judges parts alone. */
  encryptedParts: boolean;
  /** What rules of the bucket can do. */
  lifecycle: LifecycleLimits;
}

const MIB = 1024 ** 2;
const GIB = 1024 ** 3;
const TIB = 1024 ** 4;

/** S3's own limits; every row starts from here. */
const GENERIC: Quirks = {
  name: 'generic',
  conditionalWrites: 'probe',
  conditionalComplete: 'probe',
  equalParts: false,
  copyParts: true,
  copyConditions: false,
  maxParts: 10_000,
  minPartBytes: 5 * MIB,
  maxPartBytes: 5 * GIB,
  maxObjectBytes: 5 * TIB,
  partsInFlight: 6,
  checksum: 'crc32',
  listUploads: true,
  listParts: true,
  encryptedParts: false,
  lifecycle: ALL_RULES,
};

interface Row {
  /** Matches the endpoint's host name. */
  hosts?: RegExp;
  quirks: Quirks;
}

const ROWS: Row[] = [
  {
    // 48.8 TiB since December 2025 (10,000 parts of 5 GiB); conditional writes on all buckets since November 2024.
    hosts: /(^|\.)amazonaws\.com(\.cn)?$/,
    quirks: {
      ...GENERIC,
      name: 'aws',
      copyConditions: true,
      maxObjectBytes: 10_000 * 5 * GIB,
      partsInFlight: 8,
      lifecycle: { ...ALL_RULES, note: 'rules act some hours after midnight UTC' },
    },
  },
  {
    // Equal parts: developers.cloudflare.com/r2/objects/multipart-objects. No tags, but we give none to anybody; no
    // ListParts in the local edition; copy conditions answer 501; full-object checksums only as CRC64NVME; one write
    // a second and key, so few requests at once.
    hosts: /(^|\.)r2\.cloudflarestorage\.com$/,
    quirks: {
      ...GENERIC,
      name: 'r2',
      equalParts: true,
      maxObjectBytes: Math.floor(4.995 * TIB),
      partsInFlight: 2,
      checksum: 'none',
      listParts: false,
      // developers.cloudflare.com/r2/buckets/object-lifecycles: prefix only; its one other class is STANDARD_IA.
      lifecycle: {
        ...ALL_RULES,
        noncurrent: false,
        note: 'rules select by prefix alone, and act within a day of when they are due',
      },
    },
  },
  {
    // minio/minio cmd/erasure-multipart.go: ListMultipartUploads wants the exact key as prefix.
    quirks: {
      ...GENERIC,
      name: 'minio',
      copyConditions: true,
      maxObjectBytes: 50 * TIB,
      listUploads: false,
      // internal/bucket/lifecycle/rule.go has no AbortIncompleteMultipartUpload; cmd/erasure-multipart.go drops them after a day.
      lifecycle: { ...ALL_RULES, aborts: 'itself' },
    },
  },
  {
    // Measured on RGW 20.2: conditions are atomic on unversioned buckets only; 16 and 18 ignore some of them.
    // All three accept a stale ETag as condition of a copy.
    // A policy that refuses PutObject without x-amz-server-side-encryption refuses parts without it, too (20.2).
    quirks: { ...GENERIC, name: 'ceph', encryptedParts: true },
  },
  {
    // Garage 1.2 doc/book/reference-manual/s3-compatibility.md: no conditional writes, no tags, no versions.
    quirks: {
      ...GENERIC,
      name: 'garage',
      conditionalWrites: 'no',
      conditionalComplete: 'no',
      lifecycle: {
        ...ALL_RULES,
        noncurrent: false,
        transitions: false,
        note: 'rules select by prefix and size, and act once a day',
      },
    },
  },
  {
    // weed/s3api (August 2026): preconditions under a lock for each object; upload checksums not verified.
    quirks: {
      ...GENERIC,
      name: 'seaweedfs',
      copyConditions: true,
      checksum: 'none',
      lifecycle: { ...ALL_RULES, transitions: false },
    },
  },
  {
    // PutObject with If-None-Match answers 501 (reports of January and July 2026).
    hosts: /(^|\.)backblazeb2\.com$/,
    quirks: {
      ...GENERIC,
      name: 'b2',
      conditionalWrites: 'no',
      conditionalComplete: 'no',
      maxObjectBytes: 10 * 10 ** 12,
      // Docs of b2 "Lifecycle Rules": every bucket keeps versions, an expired file is hidden first; at most 100 rules.
      lifecycle: {
        ...ALL_RULES,
        transitions: false,
        maxRules: 100,
        note: 'every bucket keeps old versions: what a rule deletes is hidden first, and freed by the rule for old versions',
      },
    },
  },
  {
    // Says nothing of conditional writes or checksums: probed, and used only if they hold.
    hosts: /(^|\.)wasabisys\.com$/,
    quirks: {
      ...GENERIC,
      name: 'wasabi',
      conditionalComplete: 'no',
      // docs.wasabi.com/docs/lifecycle-1
      lifecycle: {
        ...ALL_RULES,
        transitions: false,
        note: 'rules act once a day at 0:00 UTC, a day or two after they were made; 90 days of storage are paid for whatever goes earlier',
      },
    },
  },
  {
    // cloud.google.com/storage/docs/multipart-uploads: own generation conditions, no UploadPartCopy, no S3 tags.
    hosts: /(^|\.)storage\.googleapis\.com$/,
    quirks: {
      ...GENERIC,
      name: 'gcs',
      conditionalWrites: 'no',
      conditionalComplete: 'no',
      copyParts: false,
      checksum: 'none',
      // Its XML has other elements than S3's.
      lifecycle: {
        ...ALL_RULES,
        expires: false,
        note: 'rules of this store are not those of S3: set them with gcloud storage buckets update --lifecycle-file',
      },
    },
  },
  { quirks: GENERIC },
];

/** The names a setting may use. */
export const PROVIDERS: readonly string[] = ROWS.map(({ quirks }) => quirks.name);

/** The row called `provider`, else the one whose hosts match `endpoint` (none given: AWS), else `generic`. */
export function quirksOf(input: {
  provider?: string | undefined;
  endpoint?: string | undefined;
}): Quirks {
  if (input.provider !== undefined) {
    return ROWS.find(({ quirks }) => quirks.name === input.provider)?.quirks ?? GENERIC;
  }
  const host = input.endpoint === undefined ? 's3.amazonaws.com' : hostOf(input.endpoint);
  return ROWS.find(({ hosts }) => hosts?.test(host))?.quirks ?? GENERIC;
}

function hostOf(endpoint: string): string {
  const url = URL.parse(endpoint);
  if (url !== null) return url.hostname;
  const text = `give XVAULT_S3_ENDPOINT as https://host, endpoint=${endpoint}`;
  throw new BackupError('configuration', text);
}
