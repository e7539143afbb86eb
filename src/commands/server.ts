/**
 * The service on a socket: what `serve` and `demo` run.
 *
 * Stopping: readiness turns 503 and new work is refused at once, while the socket stays open so that whoever waits
 * for a job still sees its end; answers say `Connection: close` meanwhile, since idle kept-alive connections would hold
 * the socket for seconds (3.3 s measured on Node 24). After the time to drain, running jobs are cancelled and cleaned up.
 */
import type { Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { createIdempotency } from '../catalog/idempotency.ts';
import { systemClock, systemIds } from '../clock.ts';
import type { Settings } from '../config.ts';
import { BackupError } from '../errors.ts';
import { createApp } from '../http/app.ts';
import type { Reply } from '../http/follow-ups.ts';
import { createMetrics } from '../metrics.ts';
import type { CatalogFigures } from '../metrics-catalog.ts';
import { wantedBy } from '../notify-targets.ts';
import type { Log } from '../ports.ts';
import { createSecret } from '../secret.ts';
import { VERSION } from '../version.ts';
import { createListener } from './listener.ts';
import { readCatalogFigures } from './machine-figures.ts';
import { openTraces } from './traced.ts';
import { wire } from './wire.ts';

/** A scrape must not wait for a silent bucket for ever. */
const FIGURES_LIMIT_MS = 60_000;
/** Long downloads through us are cut then; everything else has been answered. */
const CLOSE_LIMIT_MS = 5_000;

export interface RunningServer {
  /** http://address:port as it really listens. */
  url: string;
  stop(input: { drainMs: number }): Promise<void>;
}

/** Starts listening; left jobs are taken over in the background. Errors: `configuration`. */
export async function startServer(
  settings: Settings,
  { log: given }: { log: Log },
): Promise<RunningServer> {
  const traces = await openTraces(settings, given);
  const { tracer, log } = traces;
  let figures: () => Promise<CatalogFigures> = () =>
    Promise.resolve({ machines: [], pools: [], goneAtRisk: 0 });
  const { maxAgeSeconds, metricsPerMachine: perMachine } = settings;
  const metrics = createMetrics({
    clock: systemClock,
    version: VERSION,
    figures: () => figures(),
    perMachine,
  });
  const wired = await wire(settings, { log, meter: metrics.meter, tracer, sharesQueue: true });
  const { service, stateStore, keys } = wired;
  const pools = settings.pools.map(({ name }) => name);
  figures = () => {
    const signal = AbortSignal.timeout(FIGURES_LIMIT_MS);
    return readCatalogFigures(service, { maxAgeSeconds, pools, perMachine }, { signal });
  };
  const shared = { clock: systemClock, ids: systemIds, log, tracer };
  const app = createApp(
    {
      ...shared,
      service,
      idempotency: createIdempotency({ ...shared, store: stateStore, keys }),
      metrics: metrics.render,
      reply: replyToChat,
      tellsChat: (chat, vm) =>
        wantedBy(settings.notify, { event: 'backup.succeeded', vm, chat }).length > 0,
      tokens: settings.tokens,
      version: VERSION,
    },
    {
      loopbackWithoutToken: settings.tokens.length === 0 && settings.listen.loopback,
      loopbackScopes: settings.loopbackScopes,
      metricsOpen: settings.metricsOpen,
      concurrency: settings.concurrency,
      linkSeconds: settings.linkSeconds,
      maxAgeSeconds,
      senders: settings.senders,
      publicUrl: settings.publicUrl,
    },
  );
  const server = createListener({ fetch: app.fetch, log, clock: systemClock });
  const url = await listen(server, settings.listen);
  log.info('listening', { url, version: VERSION, instance: settings.instance });
  try {
    await wired.ready();
  } catch (error) {
    await close(server);
    throw error;
  }
  service.start().catch((error) => log.error('left jobs not taken over', { error }));
  return {
    url,
    stop: async ({ drainMs }) => {
      log.info('draining', { running: service.running, waiting: service.waiting });
      await service.drain({ drainMs });
      await close(server);
      await wired[Symbol.asyncDispose]();
      await traces.stop();
      log.info('stopped');
    },
  };
}

/** Where a chat's command may be answered was checked; redirects are not followed. */
const replyToChat: Reply = async ({ url, body }, options) => {
  const { post } = await import('../notify/post.ts');
  const headers = { 'content-type': 'application/json' };
  await post({ url: createSecret(url), headers, body, connectTimeoutMs: 10_000 }, options);
};

async function listen(server: Server, { host, port }: Settings['listen']): Promise<string> {
  await new Promise<void>((resolve, reject) => {
    server.once('error', (cause: NodeJS.ErrnoException) => {
      const message = `listen on another address (XVAULT_LISTEN, --port of the demo): ${host}:${port} reason=${cause.code}`;
      reject(new BackupError('configuration', message, { cause }));
    });
    server.listen(port, host, resolve);
  });
  const address = server.address() as AddressInfo;
  const shown = address.family === 'IPv6' ? `[${address.address}]` : address.address;
  return `http://${shown}:${address.port}`;
}

async function close(server: Server): Promise<void> {
  const closed = new Promise<void>((resolve) => server.close(() => resolve()));
  server.closeIdleConnections();
  const late = setTimeout(() => server.closeAllConnections(), CLOSE_LIMIT_MS);
  await closed;
  clearTimeout(late);
}
