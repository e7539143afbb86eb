/**
 * Every setting of xvault, as one zod object: name, meaning, default, example.
 *
 * `config.ts` reads the environment through it and docs/settings.md is generated from it; nothing else names a
 * setting. Values arrive as text; what depends on several settings at once is checked in `config.ts`.
 * A name marked `secret` may be given as NAME_FILE instead.
 */
import { z } from 'zod';
import { AUTO } from './catalog/classes.ts';
import { retentionSchema } from './catalog/record.ts';
import { isLoopback } from './loopback.ts';
import { deltaSettings } from './settings-delta.ts';
import { hookSettings } from './settings-hooks.ts';
import { notifySettings } from './settings-notify.ts';
import { originProblem, poolSettings } from './settings-pool.ts';
import { protectionSettings } from './settings-protection.ts';
import { queueSettings } from './settings-queue.ts';
import { rotationSettings } from './settings-rotation.ts';
import { senderSettings } from './settings-senders.ts';

/** What the page and the messages say about one setting. */
export interface SettingMeta {
  group:
    | 'Pool'
    | 'Bucket'
    | 'Service'
    | 'Limits'
    | 'Triggers'
    | 'Guest hooks'
    | 'Notifications'
    | 'Command line';
  description: string;
  example: string;
  /** Shown instead of the schema's own default. */
  defaultText?: string;
  secret?: boolean;
  /** A value that is a path: the file is read at start. */
  file?: boolean;
}

export interface ListenAddress {
  host: string;
  port: number;
}

const text = z.string().trim().min(1);
const flag = z.stringbool();
const count = (min: number, max: number) => {
  const error = `expected a whole number, ${min} to ${max}`;
  return z.coerce.number(error).pipe(z.int(error).min(min, error).max(max, error));
};

const listenSchema = text.transform((value, context): ListenAddress => {
  const match = /^(?:\[([0-9a-fA-F:.]+)\]|([^:[\]\s]+)):(\d{1,5})$/.exec(value);
  const host = match?.[1] ?? match?.[2];
  const port = Number(match?.[3]);
  if (host === undefined || port > 65_535) {
    context.addIssue({ code: 'custom', message: 'expected address:port' });
    return z.NEVER;
  }
  return { host, port };
});

const retentionDaysSchema = text
  .transform((value, context): unknown => {
    try {
      return JSON.parse(value);
    } catch {
      context.addIssue({ code: 'custom', message: 'expected JSON, class → days' });
      return z.NEVER;
    }
  })
  .pipe(z.record(retentionSchema, z.int().min(1).max(36_500)))
  .refine((days) => !Object.hasOwn(days, AUTO), 'auto is no class: it chooses one')
  .refine((days) => !Object.hasOwn(days, 'pinned'), 'pinned is no class: it has no days')
  .refine((days) => Object.keys(days).length > 0, 'expected one class at least');

const RETENTION_DAYS = { daily: 14, weekly: 60, monthly: 400, yearly: 2600 };

const bucketSettings = {
  XVAULT_BUCKET: text
    .regex(/^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$/i, 'a bucket’s name: 3 to 63 letters, digits, . -')
    .optional()
    .meta({
      group: 'Bucket',
      description: 'The bucket backups go to. Required.',
      example: 'vm-backups',
    } satisfies SettingMeta),
  XVAULT_PREFIX: z
    .string()
    .trim()
    .regex(/^(?!\/)[A-Za-z0-9._/-]*$/, 'letters, digits, . _ / - and no leading /')
    .default('')
    .meta({
      group: 'Bucket',
      description: 'Put before every key, so that several can share a bucket.',
      example: 'xvault/',
      defaultText: 'empty',
    } satisfies SettingMeta),
  XVAULT_S3_ENDPOINT: text
    .refine(
      (value) => originProblem(value, isOnLoopback(value)) === undefined,
      'expected https://host[:port]; the bucket goes into XVAULT_BUCKET',
    )
    .optional()
    .meta({
      group: 'Bucket',
      description: 'S3-compatible endpoint.',
      example: 'https://s3.example.com',
      defaultText: 'AWS',
    } satisfies SettingMeta),
  XVAULT_S3_PATH_STYLE: flag.optional().meta({
    group: 'Bucket',
    description: 'Address the bucket by path (https://host/bucket) instead of by host name.',
    example: 'true',
    defaultText: '`true` with XVAULT_S3_ENDPOINT, else `false`',
  } satisfies SettingMeta),
  XVAULT_S3_CA_FILE: text.optional().meta({
    group: 'Bucket',
    description: 'PEM file of the CA that signed the endpoint’s certificate.',
    example: '/etc/xvault/s3-ca.pem',
    defaultText: 'the system’s CAs',
    file: true,
  } satisfies SettingMeta),
  XVAULT_S3_PROVIDER: text.optional().meta({
    group: 'Bucket',
    description: 'What the store is, where its address does not tell (see docs/providers.md).',
    example: 'ceph',
    defaultText: 'recognised by the endpoint',
  } satisfies SettingMeta),
  XVAULT_STATE_BUCKET: text.optional().meta({
    group: 'Bucket',
    description:
      'Bucket for leases, jobs and idempotency keys, apart from the archives. Needed where the archives’ bucket is versioned or locked and conditional writes are not atomic there.',
    example: 'vm-backups-state',
    defaultText: 'XVAULT_BUCKET',
  } satisfies SettingMeta),
  XVAULT_RETENTION_DAYS: retentionDaysSchema.default(RETENTION_DAYS).meta({
    group: 'Bucket',
    description: 'Retention class → days until the bucket’s rule removes a backup of it.',
    example: JSON.stringify(RETENTION_DAYS),
    defaultText: `\`${JSON.stringify(RETENTION_DAYS)}\``,
  } satisfies SettingMeta),
};

/** Servers for trying out may have a path there, such as wrangler's local R2; elsewhere it is a bucket in the wrong place. */
function isOnLoopback(value: string): boolean {
  return isLoopback(URL.parse(value)?.hostname ?? '');
}

const serviceSettings = {
  XVAULT_LISTEN: listenSchema.default({ host: '127.0.0.1', port: 8080 }).meta({
    group: 'Service',
    description: 'Address and port of `xvault serve`.',
    example: '0.0.0.0:8080',
    defaultText: '`127.0.0.1:8080` (`0.0.0.0:8080` in the image)',
  } satisfies SettingMeta),
  XVAULT_TOKENS_FILE: text.optional().meta({
    group: 'Service',
    description: 'JSON file of bearer tokens, see below.',
    example: '/etc/xvault/tokens.json',
    file: true,
  } satisfies SettingMeta),
  XVAULT_TOKENS: text.optional().meta({
    group: 'Service',
    description:
      'What XVAULT_TOKENS_FILE would hold, for platforms without files: it has digests and no tokens.',
    example: '[{"name":"ci","sha256":"9f86d081…","scopes":["backup","read"]}]',
  } satisfies SettingMeta),
  XVAULT_TOKEN: z
    .string()
    .trim()
    .min(1)
    .optional()
    .meta({
      group: 'Service',
      description:
        'One bearer token with every scope but `restore`. The command line sends it to XVAULT_URL. One of the two is required unless XVAULT_LISTEN is a loopback address.',
      example: 'XVAULT_TOKEN_FILE=/run/secrets/xvault-token',
      secret: true,
    } satisfies SettingMeta),
  XVAULT_METRICS_OPEN: flag.default(false).meta({
    group: 'Service',
    description: 'Answer GET /metrics without a token.',
    example: 'true',
  } satisfies SettingMeta),
  XVAULT_METRICS_PER_MACHINE: flag.default(true).meta({
    group: 'Service',
    description:
      'Show twelve series per machine in GET /metrics; without them only sums by pool, for thousands of machines.',
    example: 'false',
  } satisfies SettingMeta),
  XVAULT_LINK_SECONDS: count(60, 604_800)
    .default(3600)
    .meta({
      group: 'Service',
      description: 'How long a link to an archive is good.',
      example: '900',
    } satisfies SettingMeta),
  XVAULT_MAX_AGE_HOURS: count(1, 87_600)
    .default(26)
    .meta({
      group: 'Service',
      description:
        'A machine whose newest good backup is older counts as critical in the status; a tag `xvault:max_age=8d` on the machine says otherwise for it.',
      example: '170',
    } satisfies SettingMeta),
  XVAULT_DRAIN_SECONDS: count(0, 86_400)
    .default(30)
    .meta({
      group: 'Service',
      description:
        'How long SIGTERM waits for running jobs before they are cancelled and cleaned up.',
      example: '600',
    } satisfies SettingMeta),
  XVAULT_LEASE_SECONDS: count(3, 3600)
    .default(90)
    .meta({
      group: 'Service',
      description:
        'How long an instance may be silent before another takes its jobs over; the same for all instances on a bucket. Their clocks may differ by a sixth of it (15 s at most), so less than 60 is for tests on one machine.',
      example: '180',
    } satisfies SettingMeta),
  XVAULT_LOG_LEVEL: z
    .enum(['debug', 'info', 'warn', 'error'])
    .default('info')
    .meta({
      group: 'Service',
      description: 'Least level that is logged.',
      example: 'debug',
    } satisfies SettingMeta),
  XVAULT_INSTANCE: text
    .max(100)
    .optional()
    .meta({
      group: 'Service',
      description: 'Name of this instance in jobs and leases; each start adds a random part.',
      example: 'xvault-1',
      defaultText: 'the host name',
    } satisfies SettingMeta),
};

const limitSettings = {
  XVAULT_MEMORY_MIB: count(64, 1_048_576)
    .default(256)
    .meta({
      group: 'Limits',
      description:
        'One budget for all bytes in flight, whatever the number and size of machines. The process needs about 150 MiB besides.',
      example: '512',
    } satisfies SettingMeta),
  XVAULT_CONCURRENCY: count(1, 256)
    .default(4)
    .meta({
      group: 'Limits',
      description: 'Running jobs in all.',
      example: '8',
    } satisfies SettingMeta),
  XVAULT_CONCURRENCY_PER_POOL: count(1, 256)
    .default(2)
    .meta({
      group: 'Limits',
      description: 'Running jobs per pool.',
      example: '4',
    } satisfies SettingMeta),
  XVAULT_CONCURRENCY_PER_SR: count(1, 256)
    .default(1)
    .meta({
      group: 'Limits',
      description: 'Running jobs per storage repository.',
      example: '2',
    } satisfies SettingMeta),
  XVAULT_QUEUE_LIMIT: count(1, 100_000)
    .default(1000)
    .meta({
      group: 'Limits',
      description: 'Waiting jobs; one more is refused with 429 limit_reached.',
      example: '200',
    } satisfies SettingMeta),
  XVAULT_JOB_ATTEMPTS: count(1, 10)
    .default(3)
    .meta({
      group: 'Limits',
      description:
        'How often a job is tried in all when it fails for a reason that may pass (`retry: later`). Between two attempts nothing of it stays on the pool. 1 tries nothing again.',
      example: '1',
    } satisfies SettingMeta),
  XVAULT_JOB_RETRY_SECONDS: count(1, 3600)
    .default(60)
    .meta({
      group: 'Limits',
      description:
        'Pause before the second attempt; each further one is four times as long, an hour at most.',
      example: '300',
    } satisfies SettingMeta),
};

const clientSettings = {
  XVAULT_URL: text
    .refine((value) => originProblem(value, true) === undefined, 'expected http(s)://host[:port]')
    .optional()
    .meta({
      group: 'Command line',
      description:
        'A running service: `backup`, `list`, `status`, `jobs`, `cancel` and `check` talk to it instead of doing the work themselves.',
      example: 'https://xvault.example.com',
    } satisfies SettingMeta),
  XVAULT_RUN_GRACE_SECONDS: count(1, 3600)
    .default(5)
    .meta({
      group: 'Command line',
      description:
        'How long after SIGTERM `xvault run` ends at the latest: what is under way is stopped, cleaned up as far as the time goes, and left to the next run. Set it to what the scheduler gives before it kills.',
      example: '30',
    } satisfies SettingMeta),
};

/** All settings by their environment names, in the order of the page. */
export const settingsSchema = z.object({
  ...poolSettings,
  ...bucketSettings,
  ...protectionSettings,
  ...rotationSettings,
  ...deltaSettings,
  ...serviceSettings,
  ...limitSettings,
  ...queueSettings,
  ...senderSettings,
  ...hookSettings,
  ...notifySettings,
  ...clientSettings,
});

export type SettingName = keyof typeof settingsSchema.shape;
export type SettingValues = z.output<typeof settingsSchema>;

export const SETTING_NAMES = Object.keys(settingsSchema.shape) as SettingName[];

/** What is known about a setting. */
export function settingMeta(name: SettingName): SettingMeta {
  return settingsSchema.shape[name].meta() as unknown as SettingMeta;
}

/** The default as the page shows it; undefined when there is none. */
export function defaultText(name: SettingName): string | undefined {
  const meta = settingMeta(name);
  if (meta.defaultText !== undefined) return meta.defaultText;
  const parsed = settingsSchema.shape[name].safeParse(undefined);
  return parsed.success && parsed.data !== undefined ? `\`${String(parsed.data)}\`` : undefined;
}
