/**
 * The client of a running service: fetch and JSON, nothing kept.
 *
 * A job is watched by asking once a second with its entity tag (304 costs the service no read of the bucket):
 * unlike an event stream that passes every proxy and needs nothing to reconnect. A service that restarts meanwhile is
 * waited for, since the job goes on there. Starting carries an idempotency key, so it may be sent twice.
 */
import { randomUUID } from 'node:crypto';
import type { GuardReport } from '../backup/guard-service.ts';
import type { UnpinOutcome } from '../backup/pin-service.ts';
import type { AppliedRotation, RotationReport } from '../backup/rotation-service.ts';
import type { StatusReport, SweepReport } from '../backup/service.ts';
import { systemClock } from '../clock.ts';
import { BackupError, ERROR_CODES, type ErrorCode, isBackupError } from '../errors.ts';
import type { JobView } from '../http/views.ts';
import type { Cancellable, Clock } from '../ports.ts';
import type { Secret } from '../secret.ts';
import { createHttpArchives } from './archive-client.ts';
import type { BackupsPage, JobsPage, ServiceClient } from './client.ts';
import { createHttpRuns } from './run-client.ts';

const POLL_MS = 1000;
/** About five minutes of a service that is away while a job is watched. */
const MAX_MISSES = 60;
const MISS_MS = 5000;
const START_ATTEMPTS = 3;
const CALL_TIMEOUT_MS = 60_000;
/** The service ends a sweep after ten minutes: disks in use are waited for. */
const SWEEP_TIMEOUT_MS = 11 * 60_000;
/** The store copies whole archives: some 200 MiB a second. */
const RENEW_TIMEOUT_MS = 6 * 3_600_000;

export interface HttpClientSettings {
  url: string;
  token?: Secret;
  /** Between two looks at a job; a second unless told. */
  pollMs?: number;
}

interface CallInput extends Cancellable {
  method?: 'GET' | 'POST' | 'DELETE';
  path: string;
  query?: Record<string, string | number | undefined>;
  body?: unknown;
  headers?: Record<string, string>;
  timeoutMs?: number;
}

/** Makes the client; nothing is sent yet. */
export function createHttpClient(
  settings: HttpClientSettings,
  deps: { fetch: typeof fetch; clock: Clock } = { fetch, clock: systemClock },
): ServiceClient {
  const call = createCall(settings, deps.fetch);
  const json = async <T>(input: CallInput) => (await (await call(input)).json()) as T;
  const start = async <T = JobView>(path: string, body: unknown, { signal }: Cancellable) => {
    const headers = { 'idempotency-key': `"${randomUUID()}"` };
    return await retryMisses({ attempts: START_ATTEMPTS, signal, clock: deps.clock }, () =>
      json<T>({ method: 'POST', path, body, headers, signal }),
    );
  };
  return {
    kind: 'remote',
    ...createHttpArchives(settings, {
      fetch: deps.fetch,
      getJson: (path, { signal }) => json({ path, signal }),
    }),
    ...createHttpRuns({ start, json }),
    startBackup: ({ vm, wishes }, options) =>
      start(`/v1/vms/${encodeURIComponent(vm)}/backups`, wishes, options),
    startIndex: ({ backupId }, options) =>
      start(`/v1/backups/${encodeURIComponent(backupId)}/index`, {}, options),
    startAdopt: () =>
      Promise.reject(new BackupError('invalid_request', 'adopt archive: without XVAULT_URL only')),
    startRestoreTest: ({ backupId, wish }, options) =>
      start(`/v1/backups/${encodeURIComponent(backupId)}/restore-test`, wish, options),
    startVerify: ({ backupId, percent }, options) =>
      start(
        `/v1/backups/${encodeURIComponent(backupId)}/verify${percent === 100 ? '' : `?percent=${percent}`}`,
        {},
        options,
      ),
    startRestore: ({ backupId, wishes }, options) =>
      start(`/v1/backups/${encodeURIComponent(backupId)}/restore`, wishes, options),
    watchJob: (id, { signal }) =>
      watch({ call, clock: deps.clock, pollMs: settings.pollMs ?? POLL_MS }, id, signal),
    cancelJob: (id, { signal }) =>
      json<JobView>({ method: 'POST', path: `/v1/jobs/${encodeURIComponent(id)}/cancel`, signal }),
    listJobs: ({ pageSize, ...filter }, { signal }) =>
      json<JobsPage>({ path: '/v1/jobs', query: { ...filter, page_size: pageSize }, signal }),
    listBackups: ({ pageSize, ...filter }, { signal }) =>
      json<BackupsPage>({ path: '/v1/backups', query: { ...filter, page_size: pageSize }, signal }),
    status: ({ maxAgeSeconds, pool }, { signal }) =>
      json<StatusReport>({
        path: '/v1/status',
        query: { max_age: `${maxAgeSeconds}s`, pool },
        signal,
      }),
    sweep: ({ dryRun }, { signal }) =>
      json<SweepReport>({
        method: 'POST',
        path: '/v1/sweep',
        body: { dry_run: dryRun },
        timeoutMs: SWEEP_TIMEOUT_MS,
        signal,
      }),
    renewLastGood: ({ dryRun }, { signal }) =>
      json<GuardReport>({
        method: 'POST',
        path: '/v1/rotation/renew',
        body: { dry_run: dryRun },
        timeoutMs: RENEW_TIMEOUT_MS,
        signal,
      }),
    startPin: ({ backupId, wish }, options) =>
      start(`/v1/backups/${encodeURIComponent(backupId)}/pin`, wish, options),
    unpin: ({ backupId }, { signal }) =>
      json<{ outcome: UnpinOutcome }>({
        method: 'DELETE',
        path: `/v1/backups/${encodeURIComponent(backupId)}/pin`,
        signal,
      }),
    rotation: ({ signal }) => json<RotationReport>({ path: '/v1/rotation', signal }),
    applyRotation: ({ dryRun }, { signal }) =>
      json<AppliedRotation>({
        method: 'POST',
        path: '/v1/rotation/apply',
        body: { dry_run: dryRun },
        signal,
      }),
    [Symbol.asyncDispose]: () => Promise.resolve(),
  };
}

async function* watch(
  { call, clock, pollMs }: { call: ReturnType<typeof createCall>; clock: Clock; pollMs: number },
  id: string,
  signal: AbortSignal,
): AsyncGenerator<JobView> {
  let etag: string | undefined;
  for (;;) {
    const headers: Record<string, string> = etag === undefined ? {} : { 'if-none-match': etag };
    const response = await retryMisses({ attempts: MAX_MISSES, signal, clock }, () =>
      call({ path: `/v1/jobs/${encodeURIComponent(id)}`, headers, signal }),
    );
    if (response.status !== 304) {
      etag = response.headers.get('etag') ?? undefined;
      const job = (await response.json()) as JobView;
      yield job;
      if (job.finished_at !== undefined && !['queued', 'running'].includes(job.status)) return;
    }
    await clock.sleep(pollMs, { signal });
  }
}

/** Calls again while the service is away. */
async function retryMisses<T>(
  { attempts, signal, clock }: { attempts: number; signal: AbortSignal; clock: Clock },
  work: () => Promise<T>,
): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await work();
    } catch (error) {
      if (!isBackupError(error, 'service_unavailable') || attempt >= attempts) throw error;
      await clock.sleep(MISS_MS, { signal });
    }
  }
}

function createCall({ url, token }: HttpClientSettings, send: typeof fetch) {
  return async (input: CallInput): Promise<Response> => {
    const target = new URL(`${url}${input.path}`);
    for (const [name, value] of Object.entries(input.query ?? {})) {
      if (value !== undefined) target.searchParams.set(name, String(value));
    }
    const headers: Record<string, string> = { accept: 'application/json', ...input.headers };
    if (token !== undefined) headers.authorization = `Bearer ${token.reveal()}`;
    if (input.body !== undefined) headers['content-type'] = 'application/json';
    const signal = AbortSignal.any([
      input.signal,
      AbortSignal.timeout(input.timeoutMs ?? CALL_TIMEOUT_MS),
    ]);
    let response: Response;
    try {
      response = await send(target, {
        method: input.method ?? 'GET',
        headers,
        signal,
        redirect: 'error',
        ...(input.body === undefined ? {} : { body: JSON.stringify(input.body) }),
      });
    } catch (cause) {
      input.signal.throwIfAborted();
      throw new BackupError('service_unavailable', `reach the service, url=${url}`, {
        cause: cause instanceof TypeError && cause.cause !== undefined ? cause.cause : cause,
      });
    }
    if (response.ok || response.status === 304) return response;
    throw await problemError(response, url);
  };
}

/** The service's problem as the error it was there. */
async function problemError(response: Response, url: string): Promise<BackupError> {
  const body: unknown = await response.json().catch(() => undefined);
  const problem =
    typeof body === 'object' && body !== null ? (body as Record<string, unknown>) : {};
  const code = typeof problem.code === 'string' ? problem.code : undefined;
  if (code !== undefined && Object.hasOwn(ERROR_CODES, code)) {
    const details = {
      ...(typeof problem.details === 'object' ? problem.details : {}),
      ...(problem.errors === undefined ? {} : { errors: problem.errors }),
      ...(problem.request_id === undefined ? {} : { request_id: problem.request_id }),
    };
    return new BackupError(code as ErrorCode, String(problem.detail ?? code), { details });
  }
  const away = response.status >= 500 || response.status === 429;
  return new BackupError(
    away ? 'service_unavailable' : 'invalid_request',
    `call the service, status=${response.status} url=${url}`,
  );
}
