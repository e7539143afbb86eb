/** `doctor` on a pool: reach, certificate, login, hosts, what it can do, storage of the machines. */

import type { Cancellable, Pool, PoolFacts, SrFacts, VmState } from '../ports.ts';
import { type Report, runCheck } from './doctor-checks.ts';
import { nameList } from './doctor-words.ts';
import { formatBytes } from './format.ts';

/** Machines whose disks are looked at; each costs calls to the pool. */
const MAX_MACHINES = 200;
const LOOKS_AT_ONCE = 4;
/** Fuller storage may not hold a snapshot that grows while it is exported. */
const FULL_SHARE = 0.9;
/** Drivers refuse at 30 ancestors. */
const LONG_CHAIN = 24;

/** Looks at one pool. */
export async function checkPool(
  pool: Pool,
  report: Report,
  { signal }: Cancellable,
): Promise<void> {
  const login = { check: 'login', report, signal };
  const facts = await runCheck(login, (options) => pool.facts(options));
  if (facts === undefined) return;
  const version = [
    ...new Set(facts.hosts.map((host) => `${host.productBrand} ${host.productVersion}`)),
  ];
  report({
    check: 'login',
    state: 'ok',
    text: `logged in at ${facts.masterAddress}: ${facts.hosts.length} hosts, ${version.join(', ')}`,
  });
  reportTrust(facts, report);
  reportHosts(facts, report);
  reportFeatures(facts, report);
  await reportMachines(pool, report, signal);
  report({
    check: 'rights',
    state: 'unknown',
    text: 'the role cannot be seen beforehand',
    mend: 'The role vm-power-admin is enough; `xvault backup <machine> --dry-run` asks the pool itself.',
  });
  report({
    check: 'clock',
    state: 'unknown',
    text: 'the pool does not tell its time this way',
    mend: 'Run NTP on the hosts; xvault compares no times with them.',
  });
}

function reportTrust({ trust }: PoolFacts, report: Report): void {
  if (trust !== 'insecure') {
    const by = { system: 'the system’s CAs', ca: 'the given CA', fingerprint: 'its fingerprint' };
    report({ check: 'certificate', state: 'ok', text: `trusted by ${by[trust]}` });
    return;
  }
  report({
    check: 'certificate',
    state: 'warn',
    text: 'not checked: whoever is on the way can read the password and every disk',
    mend: 'Set XVAULT_POOL_FINGERPRINT or XVAULT_POOL_CA_FILE instead of XVAULT_POOL_INSECURE.',
  });
}

function reportHosts({ hosts }: PoolFacts, report: Report): void {
  const away = hosts.filter((host) => !host.live || !host.enabled);
  if (away.length === 0) return;
  report({
    check: 'hosts',
    state: 'warn',
    text: `down or in maintenance: ${nameList(away.map((host) => host.nameLabel))}`,
    mend: 'Machines whose storage only these hosts see cannot be exported until they are back.',
  });
}

function reportFeatures({ features }: PoolFacts, report: Report): void {
  const words = [
    features.ignoreVdis ? 'disks can be left out' : 'disks cannot be left out (older xapi)',
    features.cbt ? 'changed blocks can be tracked' : 'no changed block tracking',
  ];
  report({ check: 'features', state: 'info', text: words.join('; ') });
}

async function reportMachines(pool: Pool, report: Report, signal: AbortSignal): Promise<void> {
  const machines = await runCheck({ check: 'machines', report, signal }, (options) =>
    pool.listVms(options),
  );
  if (machines === undefined) return;
  const states: VmState[] = [];
  const pending = machines.slice(0, MAX_MACHINES);
  const look = async (): Promise<void> => {
    for (let vm = pending.shift(); vm !== undefined; vm = pending.shift()) {
      const { ref } = vm;
      const state = await runCheck({ check: 'machines', report, signal }, (options) =>
        pool.inspectVm(ref, options),
      );
      if (state !== undefined) states.push(state);
    }
  };
  await Promise.all(Array.from({ length: LOOKS_AT_ONCE }, look));
  const looked = states.length === machines.length ? '' : `, ${states.length} looked at`;
  report({ check: 'machines', state: 'ok', text: `${machines.length} machines${looked}` });
  reportStorage(states, report);
  const long = states.flatMap((state) =>
    state.disks
      .filter((disk) => (disk.chainDepth ?? 0) >= LONG_CHAIN)
      .map((disk) => `${state.nameLabel}/${disk.nameLabel} (${disk.chainDepth})`),
  );
  if (long.length > 0) {
    report({
      check: 'chains',
      state: 'warn',
      text: `long chains of snapshots: ${nameList(long)}`,
      mend: 'Let the host coalesce: free some space, look at SMlog, rescan the storage.',
    });
  }
}

function reportStorage(states: readonly VmState[], report: Report): void {
  const storages = new Map<string, { sr: SrFacts; machines: Set<string> }>();
  for (const state of states) {
    for (const { sr } of state.disks) {
      const known = storages.get(sr.uuid) ?? { sr, machines: new Set() };
      known.machines.add(state.nameLabel || state.uuid);
      storages.set(sr.uuid, known);
    }
  }
  for (const { sr, machines } of storages.values()) {
    const about = `${sr.nameLabel} (${sr.type})`;
    if (!sr.canSnapshot) {
      report({
        check: 'storage',
        state: 'warn',
        text: `${about} cannot make snapshots: ${nameList([...machines])}`,
        mend: 'Leave its disks out with exclude_disks, or move them to other storage.',
      });
      continue;
    }
    const { physicalSizeBytes: size, physicalUtilisationBytes: used } = sr;
    const free = size > 0 ? size - used : undefined;
    const full = free !== undefined && used / size > FULL_SHARE;
    const space = free === undefined ? 'does not tell its space' : `${formatBytes(free)} free`;
    report({
      check: 'storage',
      state: full ? 'warn' : 'ok',
      text: `${about}: ${space}${sr.thick ? '; a snapshot takes a disk’s full size' : ''}`,
      ...(full
        ? { mend: 'Free some space: a snapshot grows with what is written meanwhile.' }
        : {}),
    });
  }
}
