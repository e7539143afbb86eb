/**
 * What the engine's container is started with, and how its supervisor goes about it: from the Worker's variables.
 *
 * The container gets the settings of the service by name, and nothing else the Worker knows. Four variables are the
 * supervisor's own; all may be left out:
 *
 *   ENGINE_ALARM_SECONDS   30    between two looks while something is watched, or the container runs
 *   ENGINE_IDLE_SECONDS    120   without a request and with nothing to watch, until the container is stopped
 *   ENGINE_START_SECONDS   25    how long a request waits for a container that starts
 *   ENGINE_STARTS          6     starts of the container in the life of a job, the first one included
 */
import { z } from 'zod';
import { inspectSettings, mistakesError, type Settings } from '../config.ts';
import { BackupError } from '../errors.ts';
import { SETTING_NAMES } from '../settings-table.ts';
import { TRACE_VARIABLES } from '../settings-traces.ts';
import { ENGINE_PORT } from './container.ts';
import type { SupervisorSettings } from './supervision.ts';
import { textOf } from './variables.ts';

/** Set here, or of the command line. */
const OWN: ReadonlySet<string> = new Set(['XVAULT_LISTEN', 'XVAULT_INSTANCE', 'XVAULT_URL']);
/** Of the AWS SDK: how the container signs to the bucket. */
const CREDENTIALS = [
  'AWS_REGION',
  'AWS_ACCESS_KEY_ID',
  'AWS_SECRET_ACCESS_KEY',
  'AWS_SESSION_TOKEN',
];

/** Everything that is handed to the container, if the Worker has it. */
export const HANDED_ON: readonly string[] = [
  ...SETTING_NAMES.filter((name) => !OWN.has(name)),
  ...CREDENTIALS,
  ...Object.keys(TRACE_VARIABLES),
];

/** The rest is the container's business: its own log says what is wrong. */
const READ_HERE = [
  'XVAULT_PREFIX',
  'XVAULT_BUCKET',
  'XVAULT_STATE_BUCKET',
  'XVAULT_LEASE_SECONDS',
  'XVAULT_LOG_LEVEL',
];

/** The platform kills 15 minutes after SIGTERM; the last two are for cleaning up. */
const DRAIN_SECONDS = 13 * 60;
/** Of a container that has nothing to do. */
const GRACE_MS = 20_000;

const seconds = (fallback: number) => z.coerce.number().positive().max(3600).default(fallback);

const timingSchema = z.object({
  ENGINE_ALARM_SECONDS: seconds(30),
  ENGINE_IDLE_SECONDS: seconds(120),
  ENGINE_START_SECONDS: seconds(25),
  ENGINE_STARTS: z.coerce.number().int().min(1).max(100).default(6),
});

/** Where the records lie, and how leases and the log are. */
export type EngineSettings = Pick<Settings, 'leaseMs' | 'logLevel'> & {
  prefix: string;
  bucket: string;
  stateBucket: string | undefined;
  supervisor: SupervisorSettings;
};

type Env = Readonly<Record<string, unknown>>;

/** `instance`: how this container is called in leases. Errors: `configuration`. */
export function readEngineSettings(env: Env, instance: string): EngineSettings {
  const { settings, mistakes } = inspectSettings({ env: textsOf(env, READ_HERE) });
  if (settings === undefined) throw mistakesError(mistakes);
  const timing = timingSchema.safeParse(env);
  if (!timing.success) {
    const [issue] = timing.error.issues;
    throw new BackupError('configuration', `${issue?.path.join('.')}: ${issue?.message}`);
  }
  const { prefix, name: bucket, stateBucket } = settings.bucket;
  const { leaseMs, logLevel } = settings;
  return {
    leaseMs,
    logLevel,
    prefix,
    bucket,
    stateBucket,
    supervisor: {
      env: containerEnv(env, instance),
      alarmMs: timing.data.ENGINE_ALARM_SECONDS * 1000,
      idleMs: timing.data.ENGINE_IDLE_SECONDS * 1000,
      readyMs: timing.data.ENGINE_START_SECONDS * 1000,
      graceMs: GRACE_MS,
      maxStarts: timing.data.ENGINE_STARTS,
    },
  };
}

function containerEnv(env: Env, instance: string): Record<string, string> {
  return {
    XVAULT_DRAIN_SECONDS: String(DRAIN_SECONDS),
    ...textsOf(env, HANDED_ON),
    XVAULT_LISTEN: `0.0.0.0:${ENGINE_PORT}`,
    XVAULT_INSTANCE: instance,
  };
}

/** Those of the variables that there are. */
function textsOf(env: Env, names: readonly string[]): Record<string, string> {
  const texts = names.flatMap((name) => {
    const text = textOf(env[name]);
    return text === undefined ? [] : [[name, text]];
  });
  return Object.fromEntries(texts);
}
