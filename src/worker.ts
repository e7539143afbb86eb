/**
 * The entry of the Cloudflare Worker (wrangler.toml, docs/cloudflare.md).
 *
 * The platform gives a Worker one second to start, before it has a request. Here only its shape is said; what does the work
 * is loaded with the first event (0.6 s on a busy machine, most of it schemas).
 */
import type { FrontEnv } from './cloudflare/front-settings.ts';
import type { Context } from './front-door.ts';

export { Engine } from './cloudflare/engine.ts';

const load = () => import('./front-door.ts');

export default {
  fetch: async (request: Request, env: FrontEnv, context: Context): Promise<Response> =>
    await (await load()).answerRequest(request, env, context),

  scheduled: async (
    event: { scheduledTime: number },
    env: FrontEnv,
    context: Context,
  ): Promise<void> => await (await load()).startScheduledRun(event, env, context),
};
