/**
 * How long is a disk's chain, and is one of its links waiting to be coalesced?
 *
 * Every snapshot puts a link into the chain of VHDs under a disk; the storage manager merges links again, later and one
 * at a time, and refuses the 30th (SR_BACKEND_FAILURE_109). The links are VDIs with managed=false on the same SR,
 * found by `sm_config.vhd-parent` (a uuid). A link waits to be coalesced when its only child is itself such an
 * inner link; Xen Orchestra refuses new snapshots by the same rule. The last link above a live disk does not count: it
 * stays until the disk is detached or little was written. One call per SR, a second only where a link may be waiting.
 */
import type { Cancellable } from '../ports.ts';
import { flag, text, textMap, toRecords, type XapiRecord } from './fields.ts';
import type { Session } from './session.ts';

/** The storage manager's own limit is 30; a loop in the records must not hang us. */
const MAX_DEPTH = 64;
/** Types whose disks are VHD chains and say so; on others nothing is known. */
const CHAINED_TYPES = new Set([
  'ext',
  'file',
  'nfs',
  'smb',
  'cifs',
  'xfs',
  'largeblock',
  'lvm',
  'lvmoiscsi',
  'lvmohba',
  'lvmofcoe',
]);

export interface Chain {
  chainDepth?: number;
  uncoalesced: boolean;
}

export interface ChainInput {
  vdi: XapiRecord;
  srType: string;
}

type Links = ReadonlyMap<string, XapiRecord>;

/** The chain of each disk, in the order given. */
export async function readChains(
  session: Pick<Session, 'call'>,
  disks: readonly ChainInput[],
  options: Cancellable,
): Promise<Chain[]> {
  const chained = disks.filter((disk) => parentOf(disk.vdi) !== undefined);
  const srs = [...new Set(chained.map((disk) => text(disk.vdi, 'SR')))];
  const linksBySr = new Map<string, Links>();
  const shared = new Set<string>();
  for (const sr of srs) {
    const links = await readVdis(session, { sr, managed: false }, options);
    linksBySr.set(sr, links);
    const onSr = chained.filter((disk) => text(disk.vdi, 'SR') === sr);
    if (!onSr.some((disk) => follow(disk.vdi, links).length > 1)) continue;
    for (const vdi of (await readVdis(session, { sr, managed: true }, options)).values()) {
      const parent = parentOf(vdi);
      if (parent !== undefined) shared.add(parent);
    }
  }
  return disks.map(({ vdi, srType }) => {
    const links = linksBySr.get(text(vdi, 'SR')) ?? new Map();
    const ancestors = follow(vdi, links);
    if (ancestors.length === 0 && !CHAINED_TYPES.has(srType)) return { uncoalesced: false };
    return { chainDepth: ancestors.length, uncoalesced: isWaiting(ancestors, links, shared) };
  });
}

/** Ancestors, nearest first. */
function follow(vdi: XapiRecord, links: Links): string[] {
  const ancestors: string[] = [];
  let parent = parentOf(vdi);
  while (parent !== undefined && ancestors.length < MAX_DEPTH) {
    ancestors.push(parent);
    parent = parentOf(links.get(parent) ?? {});
  }
  return ancestors;
}

/** Whether an ancestor has one child only, the next ancestor; `shared` are parents of disks or snapshots. */
function isWaiting(
  ancestors: readonly string[],
  links: Links,
  shared: ReadonlySet<string>,
): boolean {
  return ancestors.slice(1).some((ancestor) => {
    const inner = [...links.values()].filter((link) => parentOf(link) === ancestor);
    return inner.length === 1 && !shared.has(ancestor);
  });
}

function parentOf(vdi: XapiRecord): string | undefined {
  return textMap(vdi, 'sm_config')['vhd-parent'] || undefined;
}

async function readVdis(
  session: Pick<Session, 'call'>,
  { sr, managed }: { sr: string; managed: boolean },
  options: Cancellable,
): Promise<Links> {
  const expression = `field "SR"="${sr}" and field "managed"="${managed}"`;
  const records = await session.call('VDI.get_all_records_where', [expression], options);
  const found = [...toRecords(records).values()].filter((vdi) => flag(vdi, 'managed') === managed);
  return new Map(found.map((vdi) => [text(vdi, 'uuid'), vdi]));
}
