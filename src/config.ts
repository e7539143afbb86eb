/**
 * Reads the settings: the only module that looks at the environment.
 *
 * Order: environment, else NAME_FILE (secrets only), else default; an empty variable counts as unset. Every mistake
 * is collected and reported at once, each with its name and an example, so that nobody starts the service five times
 * to find five of them. The source of each value is kept for `xvault config`.
 */
import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { BackupError } from './errors.ts';
import type { Senders } from './http/senders.ts';
import { isLoopback } from './loopback.ts';
import { nearest } from './nearest.ts';
import { type NotifyTarget, readNotifyTargets } from './notify-targets.ts';
import { type PoolConfig, readPools } from './pools.ts';
import type { Prices } from './prices.ts';
import { createSecret, type Secret } from './secret.ts';
import { type HookSettings, readHookSettings } from './settings-hooks.ts';
import {
  checkClasses,
  type EncryptionWish,
  type LockSettings,
  readEncryption,
} from './settings-protection.ts';
import type { RotationSettings } from './settings-rotation.ts';
import { readSenders } from './settings-senders.ts';
import {
  defaultText,
  type ListenAddress,
  SETTING_NAMES,
  type SettingName,
  type SettingValues,
  settingMeta,
  settingsSchema,
} from './settings-table.ts';
import { readTraceSettings, type TraceSettings } from './settings-traces.ts';
import { readTokens, type TokenEntry } from './tokens.ts';

export interface SettingMistake {
  name: string;
  message: string;
  example?: string;
}

export interface SettingSource {
  name: SettingName;
  /** As printed: secrets masked. */
  value: string | undefined;
  source: 'environment' | 'file' | 'default' | 'unset';
}

export interface Settings {
  pools: PoolConfig[];
  bucket: {
    name: string;
    prefix: string;
    endpoint?: string;
    pathStyle: boolean;
    caPem?: string;
    provider?: string;
    stateBucket?: string;
    encryption?: EncryptionWish;
    /** By retention class. */
    locks?: LockSettings;
    /** Not from a setting: the AWS SDK finds its own. The demo has no environment. */
    region?: string;
    credentials?: { accessKeyId: string; secretAccessKey: string };
  };
  retentionDays: Record<string, number>;
  rotation: RotationSettings;
  seamCheckPercent: number;
  prices: Prices;
  listen: ListenAddress & { loopback: boolean };
  tokens: TokenEntry[];
  /** What callers on loopback may do where there are no tokens: all but restore unless given. */
  loopbackScopes?: TokenEntry['scopes'];
  /** The token the command line sends. */
  clientToken?: Secret;
  serviceUrl?: string;
  metricsOpen: boolean;
  metricsPerMachine: boolean;
  linkSeconds: number;
  maxAgeSeconds: number;
  drainMs: number;
  /** Of `xvault run`, from SIGTERM to its end. */
  runGraceMs: number;
  leaseMs: number;
  logLevel: 'debug' | 'info' | 'warn' | 'error';
  instance: string;
  memoryBytes: number;
  concurrency: number;
  concurrencyPerPool: number;
  concurrencyPerSr: number;
  queueLimit: number;
  /** Where instances share a queue. */
  queueUrl?: Secret;
  /** Who may call /hooks/. */
  senders: Senders;
  /** Absent where no guest hook is allowed. */
  hooks?: HookSettings;
  /** Whom to tell; none where XVAULT_NOTIFY_FILE is not set. */
  notify: NotifyTarget[];
  /** Where people find the pages; no link is made without it. */
  publicUrl?: string;
  /** Absent where no traces are sent. */
  traces?: TraceSettings;
  jobAttempts: number;
  jobRetryMs: number;
}

/** What a command cannot do without. */
export type Need = 'pools' | 'bucket' | 'access';

export interface ConfigInput {
  env?: Readonly<Record<string, string | undefined>>;
  needs?: readonly Need[];
  readFile?: (path: string) => string;
}

export interface ConfigReport {
  /** undefined when there are mistakes. */
  settings?: Settings;
  sources: SettingSource[];
  mistakes: SettingMistake[];
  warnings: string[];
}

const MIB = 1_048_576;
const SHORT_TOKEN = 16;

/** Reads the settings or throws `configuration` with every mistake in details.mistakes. */
export function readSettings(input: ConfigInput = {}): { settings: Settings; warnings: string[] } {
  const report = inspectSettings(input);
  if (report.settings === undefined) throw mistakesError(report.mistakes);
  return { settings: report.settings, warnings: report.warnings };
}

/** Reads the settings and reports everything about them, mistakes included. */
export function inspectSettings(input: ConfigInput = {}): ConfigReport {
  const env = input.env ?? process.env;
  const readFile = input.readFile ?? ((path: string) => readFileSync(path, 'utf8'));
  const mistakes: SettingMistake[] = [];
  const raw = new Map<SettingName, { text: string; source: 'environment' | 'file' }>();
  for (const name of SETTING_NAMES) {
    const found = readRaw(name, env, readFile, mistakes);
    if (found !== undefined) raw.set(name, found);
  }
  const values = parseAll(raw, mistakes);
  const files = createFileReader(readFile, mistakes);
  const { traces, warnings } = readTraceSettings(env);
  const assembled = assemble(values, files, new Set(input.needs ?? []), mistakes);
  const settings = traces === undefined ? assembled : { ...assembled, traces };
  return {
    ...(mistakes.length === 0 ? { settings } : {}),
    sources: SETTING_NAMES.map((name) => sourceOf(name, raw.get(name))),
    mistakes,
    warnings: [...warningsOf(env, settings), ...warnings],
  };
}

/** The error for mistakes in the settings; its message has one line for each. */
export function mistakesError(mistakes: readonly SettingMistake[]): BackupError {
  const lines = mistakes.map(
    (m) => `  ${m.name}: ${m.message}${m.example === undefined ? '' : `\n    e.g. ${m.example}`}`,
  );
  const what = mistakes.length === 1 ? '1 setting' : `${mistakes.length} settings`;
  return new BackupError('configuration', `correct ${what}:\n${lines.join('\n')}`, {
    details: { mistakes },
  });
}

/** `NAME=value`, as one types it. */
export function exampleLine(name: SettingName): string {
  const { example } = settingMeta(name);
  return example.startsWith('XVAULT_') ? example : `${name}=${example}`;
}

function readRaw(
  name: SettingName,
  env: Readonly<Record<string, string | undefined>>,
  readFile: (path: string) => string,
  mistakes: SettingMistake[],
): { text: string; source: 'environment' | 'file' } | undefined {
  const direct = env[name] || undefined;
  const path = settingMeta(name).secret ? env[`${name}_FILE`] || undefined : undefined;
  if (direct !== undefined && path !== undefined) {
    mistakes.push({ name, message: `set ${name} or ${name}_FILE, not both` });
    return undefined;
  }
  if (path === undefined) {
    return direct === undefined ? undefined : { text: direct, source: 'environment' };
  }
  try {
    // Editors and `echo` end a file with one newline that is not part of the secret.
    const text = readFile(path).replace(/\r?\n$/, '');
    if (text !== '') return { text, source: 'file' };
    mistakes.push({ name: `${name}_FILE`, message: `the file is empty, path=${path}` });
  } catch (error) {
    mistakes.push({ name: `${name}_FILE`, message: unreadable(path, error) });
  }
  return undefined;
}

function parseAll(
  raw: Map<SettingName, { text: string }>,
  mistakes: SettingMistake[],
): SettingValues {
  const input = Object.fromEntries([...raw].map(([name, { text }]) => [name, text]));
  const parsed = settingsSchema.safeParse(input);
  if (parsed.success) return parsed.data;
  for (const issue of parsed.error.issues) {
    const name = issue.path[0] as SettingName;
    const where = issue.path.length > 1 ? `${issue.path.slice(1).join('.')}: ` : '';
    mistakes.push({ name, message: `${where}${issue.message}`, example: exampleLine(name) });
    raw.delete(name);
    delete input[name];
  }
  // The rest is read as if the wrong ones were unset, so that their mistakes are found too.
  return settingsSchema.parse(input);
}

/** Reads a file named by a setting; a mistake and undefined when it cannot. */
export type FileReader = (name: string, path: string) => string | undefined;

function createFileReader(
  readFile: (path: string) => string,
  mistakes: SettingMistake[],
): FileReader {
  return (name, path) => {
    try {
      return readFile(path);
    } catch (error) {
      mistakes.push({ name, message: unreadable(path, error) });
      return undefined;
    }
  };
}

function assemble(
  values: SettingValues,
  files: FileReader,
  needs: ReadonlySet<Need>,
  mistakes: SettingMistake[],
): Settings {
  const wrong = new Set(mistakes.map((m) => m.name.replace(/_FILE$/, '')));
  const require = (name: SettingName, message = 'is required') => {
    if (!wrong.has(name)) mistakes.push({ name, message, example: exampleLine(name) });
  };
  const pools = readPools(values, files, { required: needs.has('pools'), require, mistakes });
  if (needs.has('bucket') && values.XVAULT_BUCKET === undefined) require('XVAULT_BUCKET');
  const tokens = readTokens(values, files, mistakes);
  const loopback = isLoopback(values.XVAULT_LISTEN.host);
  if (needs.has('access') && tokens.length === 0 && !loopback) {
    require('XVAULT_TOKEN', 'or XVAULT_TOKENS_FILE is required when XVAULT_LISTEN is no loopback address');
  }
  const caPem = optionalFile('XVAULT_S3_CA_FILE', values.XVAULT_S3_CA_FILE, files);
  const hooks = readHookSettings(values, { readFile: files, require });
  const encryption = readEncryption(values, mistakes);
  checkClasses(values, mistakes);
  const settings: Settings = {
    pools,
    bucket: {
      name: values.XVAULT_BUCKET ?? '',
      prefix: withSlash(values.XVAULT_PREFIX),
      pathStyle: values.XVAULT_S3_PATH_STYLE ?? values.XVAULT_S3_ENDPOINT !== undefined,
    },
    retentionDays: values.XVAULT_RETENTION_DAYS,
    rotation: {
      timeZone: values.XVAULT_TIME_ZONE,
      transitions: values.XVAULT_TRANSITIONS,
      noncurrentDays: values.XVAULT_NONCURRENT_DAYS,
      lastGoodDays: values.XVAULT_LAST_GOOD_DAYS,
      ...(values.XVAULT_LOCK === undefined ? {} : { locks: values.XVAULT_LOCK }),
    },
    seamCheckPercent: values.XVAULT_SEAM_CHECK_PERCENT,
    prices: values.XVAULT_S3_PRICES,
    listen: { ...values.XVAULT_LISTEN, loopback },
    tokens,
    metricsOpen: values.XVAULT_METRICS_OPEN,
    metricsPerMachine: values.XVAULT_METRICS_PER_MACHINE,
    linkSeconds: values.XVAULT_LINK_SECONDS,
    maxAgeSeconds: values.XVAULT_MAX_AGE_HOURS * 3600,
    drainMs: values.XVAULT_DRAIN_SECONDS * 1000,
    runGraceMs: values.XVAULT_RUN_GRACE_SECONDS * 1000,
    leaseMs: values.XVAULT_LEASE_SECONDS * 1000,
    logLevel: values.XVAULT_LOG_LEVEL,
    // A process that comes back after its successor took its jobs must not be mistaken for it.
    instance: `${values.XVAULT_INSTANCE ?? hostname()}-${randomBytes(4).toString('hex')}`,
    memoryBytes: values.XVAULT_MEMORY_MIB * MIB,
    concurrency: values.XVAULT_CONCURRENCY,
    concurrencyPerPool: values.XVAULT_CONCURRENCY_PER_POOL,
    concurrencyPerSr: values.XVAULT_CONCURRENCY_PER_SR,
    queueLimit: values.XVAULT_QUEUE_LIMIT,
    senders: readSenders(values),
    ...(hooks === undefined ? {} : { hooks }),
    notify: readNotifyTargets(values, files, mistakes),
    jobAttempts: values.XVAULT_JOB_ATTEMPTS,
    jobRetryMs: values.XVAULT_JOB_RETRY_SECONDS * 1000,
  };
  if (values.XVAULT_S3_ENDPOINT !== undefined) settings.bucket.endpoint = values.XVAULT_S3_ENDPOINT;
  if (caPem !== undefined) settings.bucket.caPem = caPem;
  if (values.XVAULT_S3_PROVIDER !== undefined) {
    settings.bucket.provider = values.XVAULT_S3_PROVIDER;
  }
  if (values.XVAULT_STATE_BUCKET !== undefined) {
    settings.bucket.stateBucket = values.XVAULT_STATE_BUCKET;
  }
  if (encryption !== undefined) settings.bucket.encryption = encryption;
  if (values.XVAULT_LOCK !== undefined) settings.bucket.locks = values.XVAULT_LOCK;
  if (values.XVAULT_TOKEN !== undefined) settings.clientToken = createSecret(values.XVAULT_TOKEN);
  if (values.XVAULT_QUEUE_URL !== undefined) settings.queueUrl = values.XVAULT_QUEUE_URL;
  if (values.XVAULT_PUBLIC_URL !== undefined) settings.publicUrl = values.XVAULT_PUBLIC_URL;
  if (values.XVAULT_URL !== undefined) settings.serviceUrl = values.XVAULT_URL.replace(/\/+$/, '');
  return settings;
}

function optionalFile(name: string, path: string | undefined, files: FileReader) {
  return path === undefined ? undefined : files(name, path);
}

function sourceOf(
  name: SettingName,
  found: { text: string; source: 'environment' | 'file' } | undefined,
): SettingSource {
  if (found !== undefined) {
    return { name, value: settingMeta(name).secret ? '***' : found.text, source: found.source };
  }
  const value = defaultText(name)?.replaceAll('`', '');
  return { name, value, source: value === undefined ? 'unset' : 'default' };
}

// Kubernetes sets these for every Service; one called "xvault" gives exactly such names.
const INJECTED = /^XVAULT_(SERVICE_|PORT$|PORT_)/;

function warningsOf(
  env: Readonly<Record<string, string | undefined>>,
  settings: Settings,
): string[] {
  const known = new Set<string>(
    SETTING_NAMES.flatMap((name) => (settingMeta(name).secret ? [name, `${name}_FILE`] : [name])),
  );
  const warnings = Object.keys(env)
    .filter((name) => name.startsWith('XVAULT_') && !known.has(name) && !INJECTED.test(name))
    .map((name) => {
      const guess = nearest(name, [...known]);
      return `${name} is no setting${guess === undefined ? '' : `; did you mean ${guess}?`}`;
    });
  for (const pool of settings.pools) {
    if (pool.trust.kind === 'insecure') {
      warnings.push(`pool ${pool.name}: any certificate is trusted; a pin or a CA mends that`);
    }
  }
  const token = settings.clientToken?.reveal();
  if (token !== undefined && token.length < SHORT_TOKEN) {
    warnings.push(`XVAULT_TOKEN is short; \`openssl rand -hex 24\` makes a good one`);
  }
  return warnings;
}

function withSlash(prefix: string): string {
  return prefix === '' || prefix.endsWith('/') ? prefix : `${prefix}/`;
}

function unreadable(path: string, error: unknown): string {
  const code = error instanceof Error && 'code' in error ? String(error.code) : String(error);
  return `cannot read the file, path=${path} reason=${code}`;
}

/** What the user wishes of every terminal program (no-color.org, TERM=dumb). */
export function readTerminalWishes(
  env: Readonly<Record<string, string | undefined>> = process.env,
): { noColor: boolean } {
  return { noColor: Boolean(env.NO_COLOR) || env.TERM === 'dumb' };
}
