/** A container that does what a test says, behind the supervisor's port; and the storage of a Durable Object in memory. */
import type { ContainerPort } from '../../src/cloudflare/container.ts';
import type { SupervisorStorage } from '../../src/cloudflare/supervision.ts';

export interface ScriptedContainer extends ContainerPort {
  readonly starts: Readonly<Record<string, string>>[];
  readonly signals: number[];
  /** Requests that reached the engine, but for /livez. */
  readonly requests: Request[];
  /** The process ends; with a reason it failed. */
  die(reason?: string): void;
  /** Its object begins anew: it hears of no end before it listens again. */
  forget(): void;
  /** What the engine answers; its absence is a port that nobody listens on. */
  answer?: ((request: Request) => Response | Promise<Response>) | undefined;
  /** Called by `start`, after it counted; may throw. */
  onStart?: () => void;
  /** Whether SIGTERM ends it. */
  obeys: boolean;
  livez: 'yes' | 'no' | 'hangs';
}

/**
 * Not running yet. As on the platform `running` stays true after the end until somebody listens (workerd,
 * src/workerd/api/container.c++: it is what `monitor` hears that makes it false).
 */
export function createScriptedContainer(): ScriptedContainer {
  let running = false;
  let alive = false;
  let heeded = false;
  let end = Promise.withResolvers<void>();
  const self: ScriptedContainer = {
    starts: [],
    signals: [],
    requests: [],
    obeys: true,
    livez: 'yes',
    answer: () => new Response('{}', { headers: { 'content-length': '2' } }),
    get running() {
      return running;
    },
    start: (env) => {
      if (running) throw new Error('container is running already');
      self.starts.push(env);
      self.onStart?.();
      running = true;
      alive = true;
      end = Promise.withResolvers();
      end.promise.catch(() => {}); // nobody may listen
    },
    ended: () => {
      heeded = true;
      running = alive;
      return end.promise;
    },
    forget: () => {
      heeded = false;
    },
    fetch: async (request) => {
      if (!alive) throw new Error('the container is not listening');
      if (new URL(request.url).pathname === '/livez') {
        if (self.livez === 'hangs') return await new Promise<never>(() => {});
        if (self.livez === 'no') throw new Error('the container is not listening');
        return new Response('{}');
      }
      self.requests.push(request);
      if (self.answer === undefined) throw new Error('connection refused');
      return await self.answer(request);
    },
    keepFor: async () => {},
    signal: (number) => {
      self.signals.push(number);
      if (self.obeys) self.die();
    },
    destroy: async () => self.die('destroyed'),
    die: (reason) => {
      alive = false;
      if (heeded) running = false;
      if (reason === undefined) end.resolve();
      else end.reject(new Error(reason));
    },
  };
  return self;
}

/** Values are copied, as the real one does. `alarmAt` is when the next alarm is due. */
export function createMemoryStorage(): SupervisorStorage & {
  readonly values: ReadonlyMap<string, unknown>;
  readonly alarmAt: number | null;
} {
  const values = new Map<string, unknown>();
  let alarmAt: number | null = null;
  return {
    values,
    get alarmAt() {
      return alarmAt;
    },
    get: async <T>(key: string) => structuredClone(values.get(key)) as T | undefined,
    put: async (key, value) => void values.set(key, structuredClone(value)),
    delete: async (key) => values.delete(key),
    list: async <T>({ prefix }: { prefix: string }) =>
      new Map([...values].filter(([key]) => key.startsWith(prefix))) as Map<string, T>,
    deleteAll: async () => values.clear(),
    getAlarm: async () => alarmAt,
    setAlarm: async (at) => {
      alarmAt = at;
    },
    deleteAlarm: async () => {
      alarmAt = null;
    },
  };
}
