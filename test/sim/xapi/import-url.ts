/**
 * VM.import: the host that sees the storage reads the archive from a link itself.
 *
 * Source: xen-api `ocaml/xapi/xapi_vm.ml` (import_inner). http and https; certificates are checked only where the pool's
 * verification is on; at most 5 redirects; anything but 200 is IMPORT_ERROR with the status. The body is taken as it
 * comes: a chunked one is no archive. The rest is the import of a stream; the task's result are the machines' refs.
 */
import { get, type IncomingMessage } from 'node:http';
import { get as getSecurely } from 'node:https';
import { HostDied, importMachine } from './import-machine.ts';
import { type CallContext, type Sim, type SimHost, seesStorage } from './sim.ts';
import { createTask } from './tasks.ts';
import { flag, type Value, XenError } from './values.ts';

/** xapi's max_redirects. */
const MAX_REDIRECTS = 5;

function importError(text: string): XenError {
  return new XenError('IMPORT_ERROR', [text]);
}

function request(sim: Sim, url: URL, signal: AbortSignal): Promise<IncomingMessage> {
  const verify = flag(sim.world.get('pool', sim.poolRef), 'tls_verification_enabled');
  const common = { agent: false as const, signal };
  return new Promise((resolve, reject) => {
    const outgoing =
      url.protocol === 'https:'
        ? getSecurely(url, { ...common, rejectUnauthorized: verify }, resolve)
        : get(url, common, resolve);
    outgoing.once('error', reject);
  });
}

async function open(sim: Sim, link: string, signal: AbortSignal): Promise<IncomingMessage> {
  let url = link;
  for (let hop = 0; hop <= MAX_REDIRECTS; hop += 1) {
    if (!URL.canParse(url) || !/^https?:$/.test(new URL(url).protocol)) {
      throw importError(`Unsupported URI scheme: ${url}`);
    }
    const answer = await request(sim, new URL(url), signal).catch((error) => {
      throw importError(`Unix.Unix_error(${String(error.code ?? error.message)}, "connect", "")`);
    });
    const status = answer.statusCode ?? 0;
    if (status === 200) return answer;
    answer.destroy();
    if (status < 300 || status > 399) throw importError(`${status} ${answer.statusMessage}`);
    const { location } = answer.headers;
    if (location === undefined) throw importError('Redirect with no new location');
    url = location;
  }
  throw importError('Maximum redirect limit reached');
}

async function* bodyOf(answer: IncomingMessage): AsyncGenerator<Uint8Array> {
  // xapi knows no transfer coding: it would take the length of the first chunk for a tar header
  if (answer.headers['transfer-encoding'] !== undefined) {
    throw new XenError('IMPORT_ERROR_PREMATURE_EOF');
  }
  try {
    for await (const piece of answer) yield piece as Uint8Array;
  } catch (error) {
    if (!answer.errored) throw error;
  }
}

function hostOf(sim: Sim, sr: string): SimHost {
  sim.world.get('SR', sr);
  const host = sim.hosts.find((candidate) => seesStorage(sim, candidate.ref, [sr]));
  if (host === undefined) throw new XenError('NO_HOSTS_AVAILABLE');
  return host;
}

/** The call: url, SR, full_restore, force. */
export async function importFromUrl(context: CallContext, params: Value[]): Promise<Value> {
  const { sim, signal } = context;
  const [url, sr, fullRestore, force] = params;
  const task = context.task ?? createTask(sim, 'VM.import');
  const config = { sr: String(sr), fullRestore: fullRestore === true, force: force === true, task };
  // cancelling is noticed by progress only, but a pool that closes must not wait for the store
  const stop = new AbortController();
  const onClosing = () => stop.abort(sim.closing.reason);
  sim.closing.addEventListener('abort', onClosing, { once: true });
  try {
    const host = hostOf(sim, config.sr);
    const answer = await open(sim, String(url), stop.signal);
    return await importMachine(sim, { config, host, source: bodyOf(answer), signal });
  } catch (error) {
    // nobody is left to end the task
    if (error instanceof HostDied)
      await new Promise((resolve) => stop.signal.addEventListener('abort', resolve));
    throw error;
  } finally {
    stop.abort();
    sim.closing.removeEventListener('abort', onClosing);
    if (context.task === undefined && sim.world.find('task', task) !== undefined) {
      sim.world.destroy('task', task);
    }
  }
}
