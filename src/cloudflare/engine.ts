/**
 * The Durable Object that keeps one engine: a name, a container, an alarm (supervisor.ts has the why).
 *
 * The only class of the Worker, since the platform wants one; it wires and nothing else.
 */
import { DurableObject } from 'cloudflare:workers';
import type { DurableObjectState, R2Bucket } from '@cloudflare/workers-types';
import { createKeys } from '../catalog/keys.ts';
import { leaseTiming } from '../catalog/lease.ts';
import { systemClock } from '../clock.ts';
import { BackupError, toBackupError } from '../errors.ts';
import type { LogLevel } from '../log.ts';
import type { ObjectStore } from '../ports.ts';
import { type ContainerPort, createContainer, type PlatformContainer } from './container.ts';
import { type EngineSettings, readEngineSettings } from './engine-settings.ts';
import { createR2Store } from './r2-store.ts';
import { createRecords } from './records.ts';
import { createSupervisor, refuseAll, type Supervisor } from './supervisor.ts';
import { NO_BUCKET } from './variables.ts';
import { createWorkerLog } from './worker-log.ts';

/** What wrangler.toml gives the class; the rest are variables and secrets, as texts. */
export interface EngineEnv {
  BUCKET: R2Bucket;
  STATE_BUCKET?: R2Bucket;
  [name: string]: unknown;
}

/** Characters of the object's id that name its container in leases. */
const ID_CHARACTERS = 16;

/** Wires the supervisor of the object `ctx` over its container, or a stand-in. Wrong settings are told to whoever asks. */
export function superviseEngine(
  ctx: DurableObjectState,
  env: EngineEnv,
  container: ContainerPort | undefined,
): Supervisor {
  const id = ctx.id.toString();
  const instance = `engine-${id.slice(0, ID_CHARACTERS)}`;
  const logOf = (level: LogLevel) =>
    createWorkerLog(
      // biome-ignore lint/suspicious/noConsole: the only way into the platform's log
      { level, write: (line) => console.log(line) },
      { engine: ctx.id.name ?? id },
    );
  const clock = systemClock;
  const { storage } = ctx;
  let settings: EngineSettings;
  let store: ObjectStore;
  try {
    settings = readEngineSettings(env, instance);
    store = stateStore(env, settings);
  } catch (error) {
    return refuseAll(toBackupError(error), { storage, clock, log: logOf('error') });
  }
  const log = logOf(settings.logLevel);
  const records = createRecords(
    { store, keys: createKeys(settings.prefix), clock },
    { instance, timing: leaseTiming(settings.leaseMs) },
  );
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

/** Where jobs and runs lie. Errors: `configuration`: looked for in the other bucket, all of them would seem to be gone. */
function stateStore(
  env: EngineEnv,
  { bucket: name, stateBucket }: Pick<EngineSettings, 'bucket' | 'stateBucket'>,
): ObjectStore {
  if (stateBucket === undefined) return createR2Store({ bucket: env.BUCKET }, { name });
  const { STATE_BUCKET: bucket } = env;
  if (bucket !== undefined) return createR2Store({ bucket }, { name: stateBucket });
  throw new BackupError('configuration', `STATE_BUCKET: ${NO_BUCKET}`);
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
    return await this.supervise().fetch(request);
  }

  async alarm(): Promise<void> {
    await this.supervise().alarm();
  }
}
