/** The one import that only the Workers runtime has, as far as it is used; its own types clash with those of Node. */
declare module 'cloudflare:workers' {
  export abstract class DurableObject<Env> {
    protected ctx: import('@cloudflare/workers-types').DurableObjectState;
    protected env: Env;
    constructor(ctx: import('@cloudflare/workers-types').DurableObjectState, env: Env);
  }
}
