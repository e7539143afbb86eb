/**
 * The Durable Object that keeps one engine: a name, a container, an alarm (supervisor.ts has the why).
 *
 * The only class of the Worker, since the platform wants one; it wires and nothing else.
 */
import { DurableObject } from 'cloudflare:workers';
import type { DurableObjectState, R2Bucket } from '@cloudflare/workers-types';
import { createKeys } from '../catalog/keys.ts';
import { leaseTiming } from '../catalog/lease.ts';
import { problemOf } from '../catalog/problem.ts';
import { systemClock } from '../clock.ts';
import { toBackupError } from '../errors.ts';
import { type ContainerPort, createContainer, type PlatformContainer } from './container.ts';
import { readEngineSettings } from './engine-settings.ts';
import { createR2Store } from './r2-store.ts';
import { createRecords } from './records.ts';
import { createSupervisor, type Supervisor } from './supervisor.ts';
import { createWorkerLog } from './worker-log.ts';

/** What wrangler.toml gives the class; the rest are variables and secrets, as texts. */
export interface EngineEnv {
  BUCKET: R2Bucket;
  STATE_BUCKET?: R2Bucket;
  [name: string]: unknown;
}

/** Characters of the object's id that name its container in leases. */
const ID_CHARACTERS = 16;

/** Wires the supervisor of the object `ctx` over its container, or a stand-in. Errors: `configuration`. */
export function superviseEngine(
  ctx: DurableObjectState,
  env: EngineEnv,
  container: ContainerPort | undefined,
): Supervisor {
  const id = ctx.id.toString();
  const instance = `engine-${id.slice(0, ID_CHARACTERS)}`;
  const settings = readEngineSettings(env, instance);
  const { stateBucket, bucket } = settings;
  const store = createR2Store(
    { bucket: (stateBucket === undefined ? undefined : env.STATE_BUCKET) ?? env.BUCKET },
    { name: stateBucket ?? bucket },
  );
  const log = createWorkerLog(
    // biome-ignore lint/suspicious/noConsole: the only way into the platform's log
    { level: settings.logLevel, write: (line) => console.log(line) },
    { engine: ctx.id.name ?? id },
  );
  const clock = systemClock;
  const records = createRecords(
    { store, keys: createKeys(settings.prefix), clock },
    { instance, timing: leaseTiming(settings.leaseMs) },
  );
  const { storage } = ctx;
  const deps = { container, storage, records, clock, log };
  const supervisor = createSupervisor(deps, settings.supervisor);
  return {
    fetch: (request) => {
      const answer = supervisor.fetch(request);
      // a caller that hangs up does not take back what the engine began: it is remembered all the same
      ctx.waitUntil(answer.catch(() => undefined)); // told to whoever waits for the answer
      return answer;
    },
    alarm: () => supervisor.alarm(),
  };
}

/** One for each name the front door asks for. */
export class Engine extends DurableObject<EngineEnv> {
  private supervisor: Supervisor | undefined;

  private supervise(): Supervisor {
    // its own types have another Request than those of Node
    const platform = this.ctx.container as unknown as PlatformContainer | undefined;
    this.supervisor ??= superviseEngine(this.ctx, this.env, createContainer(platform));
    return this.supervisor;
  }

  async fetch(request: Request): Promise<Response> {
    try {
      return await this.supervise().fetch(request);
    } catch (error) {
      const problem = problemOf(toBackupError(error));
      const headers = { 'content-type': 'application/problem+json' };
      return Response.json(problem, { status: problem.status, headers });
    }
  }

  /** Wrong settings throw: the platform shows it, and repeats. */
  async alarm(): Promise<void> {
    await this.supervise().alarm();
  }
}
