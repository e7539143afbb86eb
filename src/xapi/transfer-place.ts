/**
 * Which host to talk to: one that is live and has every SR of the machine attached.
 *
 * Any member takes the request, but one that does not see a disk answers with a redirect, and one that holds a local SR
 * is the only one that can. On export an inserted ISO counts, too: xapi asks for the SRs of all non-empty VBDs.
 */
import type { Cancellable, VmRef } from '../ports.ts';
import { type Host, readAttachments, readHosts } from './facts.ts';
import { flag, ref, text, texts, toRecord } from './fields.ts';
import { mapParallel } from './parallel.ts';
import type { Session } from './session.ts';

export interface Place {
  /** All members. */
  hosts: readonly Host[];
  /** Hosts that can do it, best first; [] when the pool thinks none can. */
  able: readonly Host[];
}

/** Hosts that see all of these SRs. `load` says how many transfers of ours a host has. */
export async function findPlace(
  session: Session,
  input: { srs: readonly string[]; load: (host: Host) => number },
  options: Cancellable,
): Promise<Place> {
  const { srs, load } = input;
  const [hosts, attachments] = await Promise.all([
    readHosts(session, options),
    readAttachments(session, options),
  ]);
  const able = hosts
    .filter((host) => host.live && host.address !== '')
    .filter((host) => srs.every((sr) => attachments.get(sr)?.has(host.ref)))
    // A host in maintenance (not enabled) still serves, but it is about to go.
    .sort((a, b) => Number(b.enabled) - Number(a.enabled) || load(a) - load(b));
  return { hosts, able };
}

/** SRs of everything inserted in a machine. */
export async function readSrsOf(
  session: Session,
  vm: VmRef,
  options: Cancellable,
): Promise<readonly string[]> {
  const record = toRecord(await session.call('VM.get_record', [vm], options));
  const srs = await mapParallel(texts(record, 'VBDs'), async (vbdRef) => {
    const vbd = toRecord(await session.call('VBD.get_record', [vbdRef], options));
    const vdiRef = flag(vbd, 'empty') ? undefined : ref(vbd, 'VDI');
    if (vdiRef === undefined) return '';
    return text(toRecord(await session.call('VDI.get_record', [vdiRef], options)), 'SR');
  });
  return [...new Set(srs.filter((sr) => sr !== ''))];
}
