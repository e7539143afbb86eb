/**
 * Loaded before every test file by test/run.ts: the test runner follows timers and sockets, and promises no more.
 *
 * To say in which test an error was thrown that nobody caught, the runner has a hook at the making and the end of each
 * promise: a sixth of the CPU time of tests that wait for requests. Without it such an error still fails its file, with
 * its text (summary.ts); which test it was, `node --test` of that file alone says. Source: lib/internal/test_runner/
 * harness.js of Node 24, whose only hook this is.
 */
import { createRequire } from 'node:module';

type Hooks = typeof import('node:async_hooks');

/** The module's own object: the runner's import of it, which comes later, sees what is set here. */
const hooks: Hooks = createRequire(import.meta.url)('node:async_hooks');
const { createHook } = hooks;

hooks.createHook = (callbacks) => {
  hooks.createHook = createHook;
  return createHook({ ...callbacks, trackPromises: false });
};
