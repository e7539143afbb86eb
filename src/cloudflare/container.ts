/**
 * The container of one Durable Object, as the port the supervisor works with.
 *
 * `ctx.container` is there only where the platform runs containers: under `wrangler dev` without Docker, in tests and for
 * a class without a `[[containers]]` entry it is undefined, and the supervisor then says so to whoever asks. Whatever is
 * tested of the supervisor is tested with a stand-in behind this port.
 *
 * Source: developers.cloudflare.com/containers/api/durable-object-container (read November 2026). `start` returns before
 * the process runs, `running` is true before its port answers, and without `setInactivityTimeout` a container ends with
 * its Durable Object (cloudflare/workerd#5491), so each look at it says anew how long it may outlive that.
 */

/** Where `serve` listens inside the container. */
export const ENGINE_PORT = 8080;
export const SIGTERM = 15;

export interface ContainerPort {
  /** Started and not ended; its port may not answer yet. */
  readonly running: boolean;
  /** Returns before the process runs. Errors: the platform's, when it cannot. */
  start(env: Readonly<Record<string, string>>): void;
  /** Resolves when the process has ended; rejects when it failed, or could not be started, with the reason. */
  ended(): Promise<void>;
  /** One request to the port of the engine. Rejects when nothing listens there, or the process ends meanwhile. */
  fetch(request: Request): Promise<Response>;
  /** It may go on for so long when nobody asks for it and its Durable Object is not in memory. */
  keepFor(ms: number): Promise<void>;
  signal(number: number): void;
  /** Ends it the hard way; resolves when it has ended. */
  destroy(reason: string): Promise<void>;
}

/** The part of `ctx.container` that is used. */
export interface PlatformContainer {
  readonly running: boolean;
  start(options: { enableInternet: boolean; env: Record<string, string> }): void;
  monitor(): Promise<void>;
  destroy(error?: unknown): Promise<void>;
  signal(number: number): void;
  getTcpPort(port: number): { fetch(request: Request): Promise<Response> };
  setInactivityTimeout(ms: number): Promise<void>;
}

/** The platform's container behind the port; undefined where there is none. */
export function createContainer(container: PlatformContainer | undefined) {
  if (container === undefined) return undefined;
  return {
    get running() {
      return container.running;
    },
    // the pool and the bucket are reached over the Internet, or a tunnel that the image itself opens
    start: (env) => container.start({ enableInternet: true, env: { ...env } }),
    ended: () => container.monitor(),
    fetch: (request) => container.getTcpPort(ENGINE_PORT).fetch(request),
    keepFor: (ms) => container.setInactivityTimeout(ms),
    signal: (number) => container.signal(number),
    destroy: (reason) => container.destroy(reason),
  } satisfies ContainerPort;
}
