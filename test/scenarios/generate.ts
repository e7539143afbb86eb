/** From a seed to a scenario: which machine, one to three faults or none, what is done to the process, who else is there. */
import { createRandom, type Random } from '../crash/random.ts';
import type { Ending } from './named-fault.ts';
import { type Deed, FAULTS, type Plan } from './play.ts';

const NAMES = Object.keys(FAULTS);
/** The snapshot's refusals differ in words only: together they are drawn as often as two others. */
const REFUSALS = NAMES.filter((name) => name.startsWith('snapshot-refused:'));
const OTHERS = NAMES.filter((name) => !name.startsWith('snapshot-refused:'));
const REFUSAL_SHARE = 2;
/** As often as they stand here. */
const MACHINES = ['small', 'small', 'small', 'several', 'several', 'parts', 'parts', 'diskless'];
const DEEDS: Deed[] = ['cancel', 'cancel', 'cancel-elsewhere', 'drain', 'kill', 'kill-and-cut'];
/** Trying the bucket is a third of a scenario's requests, and the same in each. */
const PROBES_ONE_IN = 6;
/** Telling is two requests more, and the same in each. */
const TELLS_ONE_IN = 4;
/** Requests of a start and a backup, roughly: a deed falls on one of them, or comes too late. */
const REQUESTS = 130;

/** The scenario of a seed: always the same. */
export function generate(seed: number): Plan {
  const random = createRandom(seed);
  const machine = random.pick(MACHINES);
  const count = random.pick([0, 1, 1, 1, 2, 2, 3]);
  const faults = Array.from({ length: count }, () => ({
    name: pickFault(random),
    seed: random.between(1, 1_000_000),
  }));
  const isDone = count === 0 || random.between(1, 2) === 1;
  const deed = { what: random.pick(DEEDS), atRequest: random.between(1, REQUESTS) };
  const rival = { atRequest: random.between(1, REQUESTS) };
  return {
    machine,
    faults,
    ...(isDone ? { deed } : {}),
    ...(random.between(1, 5) === 1 ? { rival } : {}),
    attempts: random.pick([1, 1, 3]),
    serves: random.between(1, 4) === 1,
    probes: random.between(1, PROBES_ONE_IN) === 1,
    tells: random.between(1, TELLS_ONE_IN) === 1,
  };
}

function pickFault(random: Random): string {
  const at = random.between(0, OTHERS.length + REFUSAL_SHARE - 1);
  return OTHERS[at] ?? random.pick(REFUSALS);
}

const OF_DEEDS: Record<Deed, readonly Ending[]> = {
  cancel: ['cancelled'],
  'cancel-elsewhere': ['cancelled'],
  drain: ['draining'],
  kill: [],
  'kill-and-cut': [],
};

/** How the job of a plan may end; anything else is a misunderstanding of what happened. */
export function endingsOf({ faults, deed, rival }: Plan): Set<Ending> {
  return new Set<Ending>([
    'succeeded',
    ...faults.flatMap(({ name }) => FAULTS[name]?.ends ?? []),
    ...(deed ? OF_DEEDS[deed.what] : []),
    ...(rival ? (['job_conflict'] as const) : []),
  ]);
}

/** The plan in a line, for whoever has to find out why it failed. */
export function describePlan({ machine, faults, deed, rival }: Plan): string {
  const parts = [
    machine,
    ...faults.map(({ name, seed }) => `${name} (${seed})`),
    ...(deed ? [`${deed.what} at request ${String(deed.atRequest)}`] : []),
    ...(rival ? [`another instance asks at request ${rival.atRequest}`] : []),
  ];
  return parts.join(', ');
}
