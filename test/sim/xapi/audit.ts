/**
 * What a backup or a restore may leave behind on a pool, found by comparing with how the pool was at the start.
 * A machine that is there on purpose is named in `kept`: then it and what belongs to it do not count, as with those
 * that were there from the start.
 *
 * Tasks that are marked for destruction count as gone: a client cannot do more about a task nobody works on (xapi
 * removes it after a day).
 */
import type { HostListener } from './listener.ts';
import { type Sim, waitFor } from './sim.ts';
import { isCancelled } from './tasks.ts';
import { flag, list, map, text } from './values.ts';

export interface Audit {
  look(options?: AuditOptions): string[];
  whenQuiet(options?: QuietOptions): Promise<string[]>;
}

export interface AuditOptions {
  /** Refs of machines that stay on purpose. */
  kept?: readonly string[];
}

export interface QuietOptions extends AuditOptions {
  /** 5 s unless given. */
  limitMs?: number;
  /** Lines that do not count, such as connections a client keeps. */
  ignore?: RegExp;
}

/** How long the quiet may take to come. */
const QUIET_LIMIT_MS = 5000;

/** Sockets close without telling the database: look again this often while waiting. */
const LOOK_EVERY_MS = 20;

function isMarked(operations: Record<string, string>): boolean {
  return Object.values(operations).includes('destroy');
}

/** What belongs to these machines: themselves, drives, disks, cards, and the networks of those. */
function belongings(sim: Sim, vms: readonly string[]): Set<string> {
  const refs = new Set<string>();
  for (const ref of vms) {
    const vm = sim.world.find('VM', ref);
    if (vm === undefined) continue;
    refs.add(ref);
    for (const vbd of list(vm, 'VBDs')) refs.add(text(sim.world.get('VBD', vbd), 'VDI'));
    for (const vif of list(vm, 'VIFs')) {
      refs.add(vif).add(text(sim.world.get('VIF', vif), 'network'));
    }
  }
  return refs;
}

/** Classes whose objects an import makes. */
const MADE = ['VM', 'VDI', 'VIF', 'network'] as const;

function presentRefs(sim: Sim): string[] {
  return MADE.flatMap((cls) => sim.world.all(cls).map(([ref]) => ref));
}

/** What an import makes: machines, disks, cards, networks. */
function objects(sim: Sim, kept: Set<string>): string[] {
  const { world } = sim;
  const found: string[] = [];
  for (const [ref, vm] of world.all('VM')) {
    if (flag(vm, 'is_a_snapshot') || kept.has(ref)) continue;
    found.push(`machine ${text(vm, 'name_label')} (${ref})`);
  }
  for (const [ref, vdi] of world.all('VDI')) {
    if (flag(vdi, 'is_a_snapshot') || !flag(vdi, 'managed') || kept.has(ref)) continue;
    found.push(`disk ${text(vdi, 'name_label')} (${ref})`);
  }
  for (const [ref] of world.all('VIF')) {
    const vm = world.find('VM', text(world.get('VIF', ref), 'VM'));
    const ofSnapshot = vm !== undefined && flag(vm, 'is_a_snapshot');
    if (!ofSnapshot && !kept.has(ref)) found.push(`network card (${ref})`);
  }
  for (const [ref, network] of world.all('network')) {
    if (!kept.has(ref)) found.push(`network ${text(network, 'name_label')} (${ref})`);
  }
  return found;
}

function leftovers(sim: Sim): string[] {
  const { world } = sim;
  const found: string[] = [];
  for (const [ref, vm] of world.all('VM')) {
    if (flag(vm, 'is_a_snapshot')) found.push(`snapshot ${text(vm, 'name_label')} (${ref})`);
    for (const operation of Object.values(map(vm, 'current_operations'))) {
      found.push(`operation ${operation} on ${text(vm, 'name_label')}`);
    }
  }
  for (const [ref, vdi] of world.all('VDI')) {
    if (!flag(vdi, 'is_a_snapshot')) continue;
    const orphan = list(vdi, 'VBDs').length === 0 ? 'orphan ' : '';
    found.push(`${orphan}snapshot disk ${text(vdi, 'name_label')} (${ref})`);
  }
  for (const [ref, task] of world.all('task')) {
    if (isMarked(map(task, 'current_operations'))) continue;
    const cancelled = isCancelled(sim, ref) ? ', cancel asked' : '';
    found.push(`task ${text(task, 'name_label')} ${text(task, 'status')}${cancelled} (${ref})`);
  }
  for (const [, session] of world.all('session')) {
    found.push(`session of ${text(session, 'originator') || 'nobody'}`);
  }
  for (const [ref, vbd] of world.all('VBD')) {
    const vm = world.find('VM', text(vbd, 'VM'));
    if (vm !== undefined && flag(vm, 'is_control_domain')) found.push(`disk on dom0 (${ref})`);
  }
  return found;
}

/** Remembers how the pool is now and later tells what came on top. */
export function createAudit(sim: Sim, listeners: HostListener[]): Audit {
  const before = new Set(leftovers(sim));
  // by ref: a machine that was renamed is no new one
  const present = presentRefs(sim);
  const look = ({ kept = [] }: AuditOptions = {}) => {
    // a disk somebody hung on a machine that was there is no leftover
    const machines = [...present, ...kept].filter((ref) => sim.world.find('VM', ref));
    const known = new Set([...present, ...belongings(sim, machines)]);
    const left = leftovers(sim).filter((line) => !before.has(line));
    const found = [...objects(sim, known), ...left];
    const open = listeners.reduce((sum, { sockets }) => sum + sockets.size, 0);
    return open === 0 ? found : [...found, `${open} open connections`];
  };
  return {
    look,
    async whenQuiet({ limitMs = QUIET_LIMIT_MS, ignore, ...options } = {}) {
      const seen = () => look(options).filter((line) => ignore?.test(line) !== true);
      const until = performance.now() + limitMs;
      while (seen().length > 0 && performance.now() < until) {
        const quiet = () => (seen().length === 0 ? true : undefined);
        await waitFor(sim, quiet, { signal: sim.closing, timeoutMs: LOOK_EVERY_MS });
      }
      return seen();
    },
  };
}
