/** Names the machine so that a reader can judge the figures; no host name, no paths. */
import { cpus, release, totalmem, type } from 'node:os';

export interface Machine {
  cpu: string;
  cores: number;
  memoryGib: number;
  node: string;
  system: string;
  text: string;
}

/** This machine. */
export function describeMachine(): Machine {
  const cores = cpus();
  const cpu = (cores[0]?.model ?? 'unknown processor').replace(/\s+/g, ' ').trim();
  const memoryGib = Math.round(totalmem() / 1024 ** 3);
  const node = process.versions.node;
  const system = `${type()} ${release().split('.')[0]}`;
  const text = `${cpu}, ${cores.length} cores, ${memoryGib} GiB, Node ${node}, ${system}`;
  return { cpu, cores: cores.length, memoryGib, node, system, text };
}

/** The same as part of a file name. */
export function machineLabel({ cpu, cores, memoryGib, node }: Machine): string {
  const label = `${cpu}-${cores}-cores-${memoryGib}-gib-node-${node.split('.')[0]}`;
  return label.toLowerCase().replace(/[^a-z0-9]+/g, '-');
}
