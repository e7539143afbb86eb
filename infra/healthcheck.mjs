/**
 * The image's health check: asks the process beside it for /livez and says by exit code whether it is alive.
 *
 * A script, because the image has neither shell nor curl. It reads the address the service listens on; the
 * wildcard address is asked on the loopback. Kubernetes and most platforms use their own probe instead.
 */

const TIMEOUT_MS = 2000;

// biome-ignore lint/style/noProcessEnv: no part of the program, and starts too often to load its settings
const listen = process.env.XVAULT_LISTEN ?? '127.0.0.1:8080';
const [, host = '', port] = /^(.*):(\d+)$/.exec(listen) ?? ['', '', '8080'];
const name = ['', '0.0.0.0', '[::]', '*'].includes(host) ? '127.0.0.1' : host;

fetch(`http://${name}:${port}/livez`, { signal: AbortSignal.timeout(TIMEOUT_MS) }).then(
  (answer) => {
    process.exitCode = answer.ok ? 0 : 1;
  },
  () => {
    process.exitCode = 1;
  },
);
