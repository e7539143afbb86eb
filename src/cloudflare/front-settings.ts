/**
 * The settings of the front door, from the Worker's variables and secrets: the very names and checks of the service.
 *
 * A Worker has no files: what a setting would read from one is a mistake here, named like any other. Bindings are checked as
 * well, since a forgotten line of wrangler.toml shows in nothing else. Two variables are the front door's own:
 *
 *   XVAULT_CRON_RUN   what a cron trigger starts: the body of POST /v1/runs, {"select":{"all":true}} unless given
 *   (bindings)        BUCKET, ENGINE; STATE_BUCKET where XVAULT_STATE_BUCKET is set
 */
import type { R2Bucket } from '@cloudflare/workers-types';
import { runRequestSchema } from '../catalog/run.ts';
import { inspectSettings, type SettingMistake, type Settings } from '../config.ts';
import { createSecret, type Secret } from '../secret.ts';
import { NO_BUCKET, textOf } from './variables.ts';

/** The engines, by name: a Durable Object namespace. */
export interface Engines {
  idFromName(name: string): unknown;
  get(id: unknown): { fetch(request: Request): Promise<Response> };
}

/** What wrangler.toml gives the Worker; the rest are variables and secrets, as texts. */
export interface FrontEnv {
  BUCKET: R2Bucket;
  STATE_BUCKET?: R2Bucket;
  ENGINE: Engines;
  [name: string]: unknown;
}

export interface FrontSettings extends Omit<Settings, 'pools'> {
  /** Of R2's S3 API, for links and rules. */
  endpoint: string;
  credentials: { accessKeyId: string; secretAccessKey: Secret };
  cronRun: string;
}

export interface FrontReport {
  /** Absent when there are mistakes. */
  settings?: FrontSettings;
  mistakes: SettingMistake[];
  warnings: string[];
}

const CRON_RUN = '{"select":{"all":true}}';
/** Nobody reaches a Worker by loopback: tokens are always required. */
const LISTEN = { XVAULT_LISTEN: '0.0.0.0:8080' };

/** Reads everything and reports every mistake. */
export function readFrontSettings(env: Readonly<Record<string, unknown>>): FrontReport {
  const { XVAULT_CRON_RUN: cronRun = CRON_RUN, ...texts } = textsOf(env);
  const report = inspectSettings({
    env: { ...texts, ...LISTEN },
    needs: ['bucket', 'access'],
    readFile: () => {
      throw Object.assign(new Error('no file'), { code: 'a Worker has no files' });
    },
  });
  const mistakes = report.mistakes.map(inWorkerWords);
  const required = (name: string, example: string): string => {
    const value = texts[name] ?? '';
    const isKnown = mistakes.some((mistake) => mistake.name === name);
    if (value === '' && !isKnown) mistakes.push({ name, message: 'is required', example });
    return value;
  };
  const endpoint = required(
    'XVAULT_S3_ENDPOINT',
    'XVAULT_S3_ENDPOINT=https://<account id>.r2.cloudflarestorage.com',
  );
  const accessKeyId = required('AWS_ACCESS_KEY_ID', secretExample('AWS_ACCESS_KEY_ID'));
  const secret = required('AWS_SECRET_ACCESS_KEY', secretExample('AWS_SECRET_ACCESS_KEY'));
  if (texts.XVAULT_SSE_C_KEY) {
    const message =
      'cannot be used here: the binding reads records without it; R2 encrypts by itself';
    mistakes.push({ name: 'XVAULT_SSE_C_KEY', message });
  }
  checkBindings(env, texts.XVAULT_STATE_BUCKET, mistakes);
  checkCronRun(cronRun, mistakes);
  if (report.settings === undefined || mistakes.length > 0) {
    return { mistakes, warnings: report.warnings };
  }
  const { pools: _, ...settings } = report.settings;
  const credentials = { accessKeyId, secretAccessKey: createSecret(secret) };
  return {
    settings: { ...settings, endpoint, credentials, cronRun },
    mistakes,
    warnings: report.warnings,
  };
}

/** A secret is put there by wrangler, and there is no address to listen on. */
function inWorkerWords(mistake: SettingMistake): SettingMistake {
  const { name, message, example } = mistake;
  if (message.includes('XVAULT_LISTEN')) {
    return { name, message: 'is required, or XVAULT_TOKENS', example: secretExample(name) };
  }
  return example?.startsWith(`${name}_FILE=`)
    ? { ...mistake, example: secretExample(name) }
    : mistake;
}

const secretExample = (name: string) => `npx wrangler secret put ${name}`;

function textsOf(env: Readonly<Record<string, unknown>>): Record<string, string> {
  const texts: Record<string, string> = {};
  for (const [name, value] of Object.entries(env)) {
    const isBinding = typeof value !== 'string' && !name.startsWith('XVAULT_');
    const text = isBinding ? undefined : textOf(value);
    if (text !== undefined) texts[name] = text;
  }
  return texts;
}

function checkBindings(
  env: Readonly<Record<string, unknown>>,
  stateBucket: string | undefined,
  mistakes: SettingMistake[],
): void {
  const isObject = (name: string) => typeof env[name] === 'object' && env[name] !== null;
  const buckets = stateBucket === undefined ? ['BUCKET'] : ['BUCKET', 'STATE_BUCKET'];
  for (const name of buckets.filter((one) => !isObject(one))) {
    mistakes.push({ name, message: NO_BUCKET });
  }
  if (isObject('ENGINE')) return;
  const message = 'is no binding of the class Engine: add it to [[durable_objects.bindings]]';
  mistakes.push({ name: 'ENGINE', message });
}

function checkCronRun(text: string, mistakes: SettingMistake[]): void {
  const name = 'XVAULT_CRON_RUN';
  const example = `${name}=${CRON_RUN}`;
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    mistakes.push({ name, message: 'is no JSON', example });
    return;
  }
  const parsed = runRequestSchema.safeParse(value);
  for (const { path, message } of parsed.error?.issues ?? []) {
    mistakes.push({ name, message: `${path.join('.')}: ${message}`, example });
  }
}
