/**
 * Which machines a run means, and why one of them is left out. Pure.
 *
 * Candidates are ordinary machines: templates, snapshots and control domains never come this far. Leaving out is the
 * dangerous side, so it is exact about case, always told, and needs a reason somebody wrote down: the tag on the machine or
 * an entry of the skip list. A name that fits no machine is a problem of the run, since somebody believes it is backed up.
 */
import type { RunSelect, RunSkipped } from '../catalog/run.ts';

/** A machine carrying this tag is left out of selections and of the status. */
export const SKIP_TAG = 'xvault:skip';

export interface Candidate {
  vm: { uuid: string; name: string; pool: string };
  tags: readonly string[];
}

export interface Selection {
  /** In the order of the candidates. */
  selected: Candidate[];
  /** Meant by the selection, and left out all the same. */
  skipped: RunSkipped[];
  /** Names no machine has. */
  missing: string[];
  /** Entries that fit nothing, and are no failure. */
  notes: string[];
}

/** Takes the machines the selection means, but for those to skip. */
export function selectMachines(
  candidates: readonly Candidate[],
  { select, skip }: { select: RunSelect; skip: readonly string[] },
): Selection {
  const meant = candidates.filter((candidate) => isMeant(candidate, select));
  const selected: Candidate[] = [];
  const skipped: RunSkipped[] = [];
  for (const candidate of meant) {
    const reason = skipReason(candidate, skip);
    if (reason === undefined) selected.push(candidate);
    else skipped.push({ vm: candidate.vm, reason });
  }
  const unused = skip.filter((entry) => !candidates.some(({ vm }) => fitsSkip(vm, entry)));
  const bare = select.tags.filter((tag) => !candidates.some(({ tags }) => tags.includes(tag)));
  return {
    selected,
    skipped,
    missing: select.names.filter((name) => !candidates.some(({ vm }) => isCalled(vm, name))),
    notes: [
      ...bare.map((tag) => `no machine carries the tag ${tag}`),
      ...unused.map((entry) => `${entry} of the skip list fits no machine`),
    ],
  };
}

function isMeant({ vm, tags }: Candidate, select: RunSelect): boolean {
  return (
    select.all ||
    select.tags.some((tag) => tags.includes(tag)) ||
    select.names.some((name) => isCalled(vm, name))
  );
}

function skipReason({ vm, tags }: Candidate, skip: readonly string[]): string | undefined {
  if (tags.includes(SKIP_TAG)) return `it carries the tag ${SKIP_TAG}`;
  const entry = skip.find((one) => fitsSkip(vm, one));
  return entry === undefined ? undefined : `${entry} is in the skip list`;
}

function isCalled({ uuid, name }: Candidate['vm'], wanted: string): boolean {
  return name === wanted || uuid === wanted.toLowerCase();
}

/** An entry is a uuid, or a part of a name. */
function fitsSkip({ uuid, name }: Candidate['vm'], entry: string): boolean {
  return name.includes(entry) || uuid === entry.toLowerCase();
}
