#!/usr/bin/env node
/**
 * The program: hands the process to the command line.
 *
 * The compile cache comes before every import: with it the second start reads no source (types stripped, functions
 * compiled). First Ctrl-C or SIGTERM aborts the signal, so that a command stops and cleans up; the second ends the
 * process at once. Output that nobody reads any more (`xvault list | head`) is no error.
 */
import { enableCompileCache } from 'node:module';

enableCompileCache();

const { runCli } = await import('./commands/cli.ts');
const { createTerminal, onInterrupt } = await import('./commands/process.ts');
const { VERSION } = await import('./version.ts');

process.exitCode = await runCli({
  args: process.argv.slice(2),
  terminal: createTerminal(),
  signal: onInterrupt(),
  version: VERSION,
});
// Written text first has to leave; then a library's idle socket or timer must not keep a finished command alive.
process.stdout.write('', () => process.exit());
