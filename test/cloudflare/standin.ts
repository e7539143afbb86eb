/**
 * Runs in workerd: the real Durable Object over a container that the test process plays, asked over a service binding.
 *
 * As on the platform `running` is known at once, and what ends a container is heard of a moment later. An object that
 * begins anew asks whether its container runs.
 */
import { DurableObject } from 'cloudflare:workers';
import type { DurableObjectState } from '@cloudflare/workers-types';
import type { ContainerPort } from '../../src/cloudflare/container.ts';
import { type EngineEnv, superviseEngine } from '../../src/cloudflare/engine.ts';
import type { Supervisor } from '../../src/cloudflare/supervisor.ts';

interface Env extends EngineEnv {
  CONTAINER: { fetch(request: Request): Promise<Response> };
  ENGINE: { getByName(name: string): { fetch(request: Request): Promise<Response> } };
}

/** Asks the test process something about the container. */
export type Ask = (path: string, body?: unknown) => Promise<{ running?: boolean; reason?: string }>;

function createStandIn(env: Env): ContainerPort & { look(): Promise<void> } {
  let running = false;
  let end = Promise.withResolvers<void>();
  const begin = (): void => {
    running = true;
    end = Promise.withResolvers();
    end.promise.catch(() => {}); // not everybody who starts a container listens
  };
  const ask: Ask = async (path, body = {}) => {
    const post = { method: 'POST', body: JSON.stringify(body) };
    return await (await env.CONTAINER.fetch(new Request(`http://control/${path}`, post))).json();
  };
  const hear = async (): Promise<void> => {
    const { reason } = await ask('ended');
    running = false;
    if (reason === undefined) end.resolve();
    else end.reject(new Error(reason));
  };
  return {
    look: async () => {
      if ((await ask('look')).running !== true) return;
      begin();
      void hear();
    },
    get running() {
      return running;
    },
    start: (given) => {
      if (running)
        throw new Error('start() cannot be called on a container that is already running');
      begin();
      void ask('start', given).then(hear);
    },
    ended: () => end.promise,
    fetch: async (request) => {
      const url = new URL(request.url);
      const answer = await env.CONTAINER.fetch(
        new Request(`http://port${url.pathname}${url.search}`, request),
      );
      if (answer.headers.get('x-gone') !== null) throw new Error('the container is not listening');
      return answer;
    },
    keepFor: async (ms) => void (await ask('keep', { ms })),
    signal: (number) => void ask('signal', { number }),
    destroy: async (reason) => void (await ask('destroy', { reason })),
  };
}

/** As src/cloudflare/engine.ts has it, with the stand-in. */
export class Engine extends DurableObject<Env> {
  private readonly supervisor: Supervisor;

  constructor(ctx: DurableObjectState, env: Env) {
    super(ctx, env);
    const container = createStandIn(env);
    void ctx.blockConcurrencyWhile(() => container.look());
    this.supervisor = superviseEngine(ctx, env, container);
  }

  fetch(request: Request): Promise<Response> {
    return this.supervisor.fetch(request);
  }

  alarm(): Promise<void> {
    return this.supervisor.alarm();
  }
}

export default {
  fetch: (request: Request, env: Env) => env.ENGINE.getByName('vm:dc1/web').fetch(request),
};
