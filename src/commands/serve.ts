/** `xvault serve`: the service, until SIGTERM or Ctrl-C. */
import { flushCompileCache } from 'node:module';
import { readSettings } from '../config.ts';
import { createLog } from '../log.ts';
import type { Command } from './command.ts';

export const command: Command = {
  name: 'serve',
  usage: 'serve',
  summary: 'Run the service on XVAULT_LISTEN.',
  examples: [
    'xvault serve',
    'XVAULT_LISTEN=0.0.0.0:8080 XVAULT_TOKEN_FILE=/run/secrets/token xvault serve',
  ],
  options: {},
  words: { min: 0, max: 0 },
  notes: `The log goes to stdout, one JSON line an event. SIGTERM: no new work, XVAULT_DRAIN_SECONDS for running jobs,
then they are cancelled and cleaned up; a second signal ends the process at once (the next start cleans up).`,
  async run({ terminal, signal }) {
    const { settings, warnings } = readSettings({ needs: ['pools', 'bucket', 'access'] });
    const log = createLog({ level: settings.logLevel, write: terminal.out });
    for (const warning of warnings) log.warn(warning);
    process.on('uncaughtExceptionMonitor', (error) => log.error('hit a bug', { error }));
    const { startServer } = await import('./server.ts');
    const server = await startServer(settings, { log });
    // A service ends by a signal, often the hard one: the next start shall find what this one compiled.
    flushCompileCache();
    if (!signal.aborted) {
      await new Promise((resolve) => signal.addEventListener('abort', resolve, { once: true }));
    }
    await server.stop({ drainMs: settings.drainMs });
    return 0;
  },
};
