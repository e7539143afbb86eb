/**
 * A network of its own for source and sink, joined to this one by a pair of virtual interfaces: as another machine is.
 *
 * Over loopback the kernel does a sender's work on the time of whoever acknowledges, so that the same source costs its
 * reader more the more exports it reads at once. Here each interface has a thread that receives (NAPI, threaded), and
 * neither side pays for the other. What waits on the far side to be sent lies in the same cache all the same, so its
 * socket buffers are small. Linux from 5.13, root, iproute2 and ethtool; nothing of it outlives `close`, and what a
 * killed bench left is removed by the next.
 */
import { execFileSync } from 'node:child_process';

export interface Link {
  /** Of the far side, where nothing else listens. */
  address: string;
  /** Put before a command, it runs on the far side. */
  prefix: readonly string[];
  close(): void;
}

const NAME = 'xvault-bench';
const NEAR = 'xvbench0';
const FAR = 'xvbench1';
/** Kept for measuring networks (RFC 2544): nobody's own. */
const NEAR_ADDRESS = '198.18.77.1';
const FAR_ADDRESS = '198.18.77.2';
/**
 * Of each socket of the far side. Linux lets 4 MiB wait to be sent and 6 or 32 received: with sixteen exports more than
 * the cache of a processor, which on two machines would not be the reader's.
 */
export const FAR_BUFFER_BYTES = 256 * 1024;
const PREFIX = ['ip', 'netns', 'exec', NAME];

/** Opens the link; a text says why there can be none, and then nothing is left of it. */
export function openLink(): Link | string {
  close();
  try {
    run('ip', 'netns', 'add', NAME);
    run('ip', 'link', 'add', NEAR, 'type', 'veth', 'peer', 'name', FAR, 'netns', NAME);
    setUp([], NEAR, NEAR_ADDRESS);
    setUp(PREFIX, FAR, FAR_ADDRESS);
    limitBuffers();
  } catch (error) {
    close();
    return String(error).split('\n').slice(0, 2).join(' ');
  }
  return { address: FAR_ADDRESS, prefix: PREFIX, close };
}

function setUp(prefix: readonly string[], name: string, address: string): void {
  run(...prefix, 'ip', 'address', 'add', `${address}/30`, 'dev', name);
  run(...prefix, 'ip', 'link', 'set', name, 'up');
  // A virtual interface has NAPI, and with it a thread, only while it joins packets.
  run(...prefix, 'ethtool', '-K', name, 'gro', 'on');
  run(...prefix, 'sh', '-c', `echo 1 > /sys/class/net/${name}/threaded`);
}

function limitBuffers(): void {
  for (const name of ['tcp_wmem', 'tcp_rmem']) {
    const sizes = `4096 65536 ${FAR_BUFFER_BYTES}`;
    run(...PREFIX, 'sh', '-c', `echo '${sizes}' > /proc/sys/net/ipv4/${name}`);
  }
}

/** The interfaces go with the network they are in. */
function close(): void {
  try {
    run('ip', 'netns', 'delete', NAME);
  } catch {
    // There was none.
  }
}

function run(...command: string[]): void {
  const [program = '', ...args] = command;
  const env = { ...process.env, PATH: `${process.env.PATH}:/usr/sbin:/sbin` };
  execFileSync(program, args, { env, stdio: ['ignore', 'ignore', 'pipe'] });
}
