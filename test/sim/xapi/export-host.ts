/**
 * Which host exports a machine: one that is live and sees all storage of its non-empty drives, CDs included.
 */
import { hostAt, type Sim, type SimHost, seesStorage } from './sim.ts';
import { liveUuid } from './snapshot.ts';
import { flag, list, text, XenError } from './values.ts';

export type Target =
  | { kind: 'here' }
  | { kind: 'redirect'; authority: string }
  | { kind: 'none'; error: XenError };

/** Loopback, but no simulated host ever listens there. */
const UNREACHABLE_ADDRESS = '127.0.0.99';

/** Nothing listens at port 1 of any simulated host. */
const CLOSED_PORT = 1;

function storagesOf(sim: Sim, vmRef: string): string[] {
  const refs = list(sim.world.get('VM', vmRef), 'VBDs').flatMap((vbdRef) => {
    const vbd = sim.world.get('VBD', vbdRef);
    const vdi = sim.world.find('VDI', text(vbd, 'VDI'));
    return vdi === undefined || flag(vbd, 'empty') ? [] : [text(vdi, 'SR')];
  });
  return [...new Set(refs)];
}

/** An armed fault that sends a request somewhere useless: nowhere, a closed port, or here again. */
export function misdirected(sim: Sim, host: SimHost, vm?: string): string | undefined {
  const away = sim.faults.take('redirect-unreachable', { vm });
  if (away !== undefined) {
    return away.member === true
      ? `${host.address}:${CLOSED_PORT}`
      : `${UNREACHABLE_ADDRESS}:${host.port}`;
  }
  return sim.faults.take('redirect-loop', { vm }) && `${host.address}:${host.port}`;
}

/** Decides for a request that reached `host`; faults of redirects and silence fire here. */
export function hostFor(sim: Sim, host: SimHost, vmRef: string): Target {
  const vm = liveUuid(sim, vmRef);
  const silent = sim.faults.take('export-no-response', { vm });
  if (silent !== undefined) {
    const error = new XenError(silent.code ?? 'NO_HOSTS_AVAILABLE', silent.params);
    return { kind: 'none', error };
  }
  const authority = misdirected(sim, host, vm);
  if (authority !== undefined) return { kind: 'redirect', authority };
  const storages = storagesOf(sim, vmRef);
  if (seesStorage(sim, host.ref, storages)) return { kind: 'here' };
  const able = sim.hosts.filter((candidate) => seesStorage(sim, candidate.ref, storages));
  const [first] = able;
  if (first !== undefined) {
    const other = able.find((candidate) => candidate.index !== host.index) ?? first;
    return { kind: 'redirect', authority: `${other.address}:${other.port}` };
  }
  const blind = storages.find((sr) => !seesStorage(sim, hostAt(sim, sim.masterIndex).ref, [sr]));
  const error = new XenError('VM_REQUIRES_SR', [vmRef, blind ?? '']);
  return { kind: 'none', error };
}
