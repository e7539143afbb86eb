/**
 * Which network of the pool each interface of the backup goes to. Pure.
 *
 * An importer looks for a network by name, takes the first of several, then by bridge, and makes one where there is none,
 * without a word. So ova.xml is edited: a chosen network is given by its name where only it has it, else by its bridge,
 * which is unique in a pool, under a name nothing has.
 */
import type { RestorePlan } from '../catalog/restore.ts';
import { BackupError } from '../errors.ts';
import type { ImportNetwork } from '../ports.ts';
import type { NetworkPlace } from '../xva/ova-edit.ts';
import type { OvaFacts, OvaNetwork } from '../xva/ova-facts.ts';

/** In the place of a network: the interfaces on it are left out. */
const NONE = 'none';
/** In the place of a network's name: all that are not named. */
const ALL_OTHERS = '*';

/** Made by XenServer itself at every installation: equal names say nothing. */
const HOUSE_NAMES = /^(Pool-wide network associated with |Host internal management network$)/;

interface Choice {
  target?: ImportNetwork;
  because: string;
}

/** Errors: `restore_refused` (network_missing) with the choices; `invalid_request` for a map that names what is not there. */
export function planNetworks(
  { interfaces, networks }: OvaFacts,
  wishes: Readonly<Record<string, string>>,
  there: readonly ImportNetwork[],
): { networks: Map<string, NetworkPlace>; shown: RestorePlan['networks'] } {
  const used = networks.filter(({ id }) => interfaces.some(({ networkId }) => networkId === id));
  checkNames(wishes, used);
  const choices = new Map(
    used.map((network) => [network.id, choose(network, { wishes, there, used })]),
  );
  const missing = used.filter(({ id }) => choices.get(id) === undefined);
  if (missing.length > 0) throw unmapped(missing, there);
  const places = new Map<string, NetworkPlace>();
  for (const [id, choice] of choices) {
    places.set(id, choice?.target ? placeOf(choice.target, there) : NONE);
  }
  const shown = interfaces.map(({ device, mac, networkId }) => {
    const from = used.find(({ id }) => id === networkId) as OvaNetwork;
    const { target, because } = choices.get(networkId) as Choice;
    const to = target && { uuid: target.uuid, name: target.nameLabel };
    return { device, mac, from: from.nameLabel, ...(to ? { to } : {}), because };
  });
  return { networks: places, shown };
}

function choose(
  network: OvaNetwork,
  {
    wishes,
    there,
    used,
  }: {
    wishes: Readonly<Record<string, string>>;
    there: readonly ImportNetwork[];
    used: readonly OvaNetwork[];
  },
): Choice | undefined {
  const { uuid, nameLabel } = network;
  const isNamedAlone = used.filter((one) => one.nameLabel === nameLabel).length === 1;
  const wishOf = new Map(Object.entries(wishes));
  const wish = wishOf.get(uuid) ?? (isNamedAlone ? wishOf.get(nameLabel) : undefined);
  if (wish !== undefined) return wished(wish, there, 'asked for');
  // before what is known: whoever says that all go nowhere must not meet the original on its network
  const rest = wishOf.get(ALL_OTHERS);
  if (rest !== undefined) return wished(rest, there, 'asked for all others');
  const same = there.find((one) => one.uuid === uuid);
  if (same) return { target: same, because: 'the same network' };
  const [only, ...others] = there.filter((one) => one.nameLabel === nameLabel);
  if (only && others.length === 0 && nameLabel !== '' && !HOUSE_NAMES.test(nameLabel)) {
    return { target: only, because: 'the only network of this name' };
  }
  return undefined;
}

function wished(wish: string, there: readonly ImportNetwork[], because: string): Choice {
  const exact = there.filter(({ uuid }) => uuid === wish);
  const found = exact.length > 0 ? exact : there.filter(({ nameLabel }) => nameLabel === wish);
  const [target] = found;
  if (target && found.length === 1) return { target, because };
  if (target === undefined && wish === NONE) return { because: `left out, ${because}` };
  const why = target
    ? `${found.length} carry this name, use a uuid`
    : 'there is none of that uuid or name';
  throw new BackupError('restore_refused', `find network ${wish}: ${why}`, {
    details: { reason: 'network_missing', choices: there.map(choiceOf) },
  });
}

function checkNames(wishes: Readonly<Record<string, string>>, used: readonly OvaNetwork[]): void {
  for (const name of Object.keys(wishes)) {
    if (name === ALL_OTHERS) continue;
    const meant = used.filter(({ uuid, nameLabel }) => uuid === name || nameLabel === name);
    if (meant.length === 1 || meant[0]?.uuid === name) continue;
    const why =
      meant.length === 0 ? 'the backup has no interface on it' : 'ambiguous, use its uuid';
    throw new BackupError('invalid_request', `map network ${name}: ${why}`, {
      details: { networks: used.map(({ uuid, nameLabel }) => ({ uuid, name: nameLabel })) },
    });
  }
}

function unmapped(missing: readonly OvaNetwork[], there: readonly ImportNetwork[]): BackupError {
  const names = missing.map(({ nameLabel, uuid }) => `"${nameLabel || uuid}"`).join(', ');
  return new BackupError(
    'restore_refused',
    `place networks: say where the interfaces on ${names} belong on this pool: networks {"<there>": "<here>"}, or "none" to leave them out`,
    {
      details: {
        reason: 'network_missing',
        missing: missing.map(({ uuid, nameLabel }) => ({ uuid, name: nameLabel })),
        choices: there.map(choiceOf),
      },
    },
  );
}

function placeOf(
  { uuid, nameLabel, bridge }: ImportNetwork,
  there: readonly ImportNetwork[],
): NetworkPlace {
  const isAlone = there.filter((one) => one.nameLabel === nameLabel).length === 1;
  return { nameLabel: isAlone && nameLabel !== '' ? nameLabel : `xvault:${uuid}`, bridge };
}

function choiceOf({ uuid, nameLabel, bridge }: ImportNetwork) {
  return { uuid, name: nameLabel, bridge };
}
