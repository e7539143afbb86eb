/** The ways from export to bucket that are compared, each as the command a shell would run. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { nodeCommand } from './measure.ts';
import type { Ends } from './nginx.ts';
import type { PumpInput } from './pump.ts';
import type { Source } from './source.ts';

export type Scheme = 'http' | 'https';

export interface Way {
  source: Source;
  /** The source's name below `/export/`. */
  file: string;
  scheme: Scheme;
  ends: Ends;
}

export interface Lane {
  name: string;
  /** Why it cannot run here. */
  missing?: string | undefined;
  command(way: Way): string;
}

/** The default of XVAULT_MEMORY_MIB. */
export const MEMORY_MIB = 256;
const CREDENTIALS = { accessKeyId: 'bench', secretAccessKey: 'bench' };
const FOLDERS = ['/usr/bin', '/usr/local/bin', '/opt/homebrew/bin'];
/** Shims of version managers that only print an error stand earlier in PATH, hence whole paths. */
const find = (tool: string) => FOLDERS.map((folder) => join(folder, tool)).find(existsSync);
const [curl, aws, rclone] = [find('curl'), find('aws'), find('rclone')];
const lacks = (tool: string, apt: string) => (find(tool) ? undefined : `skipped: install ${apt}`);
const node = (file: string) => nodeCommand(join(import.meta.dirname, file));
const read = ({ file, ends, scheme }: Way) =>
  `${curl} -sS --fail --cacert '${ends.caFile}' ${ends[scheme]}/export/${file}`;

/** xvault's own: `checksum` is what the store verifies of each part. */
export function pumpCommand(
  way: Way,
  input: { checksum: 'crc32' | 'none'; streams: number; times: number },
): string {
  const { ends, scheme, file, source } = way;
  const pump: PumpInput = {
    source: `${ends[scheme]}/export/${file}`,
    fingerprint: ends.fingerprint,
    store: sinkSettings(ends, scheme, input.checksum),
    key: `xvault/*/${source.normalisedBytes}.xva`,
    memoryMib: MEMORY_MIB,
    streams: input.streams,
    times: input.times,
  };
  return commandOf(pump);
}

/** The pump as a command. */
export function commandOf(input: PumpInput): string {
  return `${node('pump.ts')} '${JSON.stringify(input)}'`;
}

/** The sink as a bucket. */
export function sinkSettings(
  ends: Ends,
  scheme: Scheme,
  checksum: 'crc32' | 'none',
): PumpInput['store'] {
  const conditions = { conditionalWrites: 'no', conditionalComplete: 'no' } as const;
  return {
    bucket: 'bench',
    prefix: '',
    endpoint: ends[scheme],
    caPem: ends.caPem,
    region: 'us-east-1',
    credentials: CREDENTIALS,
    quirks: { ...conditions, checksum, listParts: false },
  };
}

export const LANES: readonly Lane[] = [
  {
    name: 'xvault, store verifies CRC32',
    command: (way) => pumpCommand(way, { checksum: 'crc32', streams: 1, times: 1 }),
  },
  {
    name: 'xvault, store without checksums',
    command: (way) => pumpCommand(way, { checksum: 'none', streams: 1, times: 1 }),
  },
  {
    name: 'curl | curl -T -',
    missing: lacks('curl', 'curl'),
    command: (way) => {
      const { ends, scheme, source } = way;
      const target = `${ends[scheme]}/put/${source.sizeBytes}.xva`;
      return `${read(way)} | ${curl} -sS --fail --cacert '${ends.caFile}' -T - ${target}`;
    },
  },
  {
    name: 'lib-storage pump',
    command: ({ ends, scheme, file, source }) => {
      const base = ends[scheme];
      const key = `lib-storage/${source.sizeBytes}.xva`;
      return `${node('lib-storage-pump.ts')} ${base}/export/${file} ${base} ${key}`;
    },
  },
  {
    name: 'curl | aws s3 cp -',
    missing: lacks('aws', 'awscli') ?? lacks('curl', 'curl'),
    command: (way) => {
      const { ends, scheme, source } = way;
      const target = `s3://bench/aws/${source.sizeBytes}.xva`;
      const options = `--endpoint-url ${ends[scheme]} --ca-bundle '${ends.caFile}' --no-progress`;
      return `${read(way)} | ${aws} s3 cp - ${target} ${options}`;
    },
  },
  {
    name: 'curl | rclone rcat',
    missing: lacks('rclone', 'rclone') ?? lacks('curl', 'curl'),
    command: (way) => {
      const { ends, scheme, source } = way;
      const remote = `:s3:bench/rclone/${source.sizeBytes}.xva`;
      const options = `--s3-endpoint ${ends[scheme]} --ca-cert '${ends.caFile}'`;
      return `${read(way)} | ${rclone} rcat ${remote} ${options}`;
    },
  },
];

/** What the tools read from the environment. */
export function laneEnv({ caFile }: Ends): NodeJS.ProcessEnv {
  return {
    PATH: process.env.PATH,
    HOME: '/nonexistent',
    LANG: 'C.UTF-8',
    NODE_EXTRA_CA_CERTS: caFile,
    AWS_ACCESS_KEY_ID: CREDENTIALS.accessKeyId,
    AWS_SECRET_ACCESS_KEY: CREDENTIALS.secretAccessKey,
    AWS_DEFAULT_REGION: 'us-east-1',
    AWS_EC2_METADATA_DISABLED: 'true',
    AWS_CONFIG_FILE: '/dev/null',
    RCLONE_CONFIG: '/dev/null',
    RCLONE_S3_PROVIDER: 'Other',
    RCLONE_S3_ACCESS_KEY_ID: CREDENTIALS.accessKeyId,
    RCLONE_S3_SECRET_ACCESS_KEY: CREDENTIALS.secretAccessKey,
    RCLONE_S3_NO_CHECK_BUCKET: 'true',
    RCLONE_S3_USE_MULTIPART_ETAG: 'false',
  };
}
