/**
 * Starting and stopping machines, and what a guest then says of itself.
 *
 * Sources: xen-api `ocaml/xapi/xapi_vm.ml` (start), `xapi_xenops.ml`, `xapi_guest_agent.ml`. A start forgets the guest
 * metrics there were (an import brings old ones along) and makes empty ones, `live` all the same; the guest's tools fill
 * them in some time later. A shutdown leaves them as they are.
 */
import { duringOperation } from './operations.ts';
import {
  type CallContext,
  type CallTable,
  masterRef,
  nowDate,
  type Sim,
  seesStorage,
} from './sim.ts';
import { liveUuid } from './snapshot.ts';
import { flag, list, text, type Value, XenError } from './values.ts';

/** Changes a machine's power state and what follows from it. */
export function setPower(sim: Sim, vmRef: string, state: string, host = masterRef(sim)): void {
  const vm = sim.world.get('VM', vmRef);
  const up = state === 'Running' || state === 'Paused';
  sim.world.set('VM', vmRef, {
    power_state: state,
    resident_on: up ? host : 'OpaqueRef:NULL',
    domid: up ? 7 : -1,
  });
  for (const ref of list(vm, 'VBDs')) sim.world.set('VBD', ref, { currently_attached: up });
  for (const ref of list(vm, 'VIFs')) sim.world.set('VIF', ref, { currently_attached: up });
}

/** A live host that sees all storage of the machine's drives. */
function hostForStart(sim: Sim, vmRef: string): string {
  const storages = list(sim.world.get('VM', vmRef), 'VBDs').flatMap((ref) => {
    const vdi = sim.world.find('VDI', text(sim.world.get('VBD', ref), 'VDI'));
    return vdi === undefined ? [] : [text(vdi, 'SR')];
  });
  const found = sim.hosts.find((host) => seesStorage(sim, host.ref, storages));
  if (found === undefined) throw new XenError('NO_HOSTS_AVAILABLE');
  return found.ref;
}

function forgetGuest(sim: Sim, vmRef: string): string {
  const old = text(sim.world.get('VM', vmRef), 'guest_metrics');
  if (sim.world.find('VM_guest_metrics', old) !== undefined) {
    sim.world.destroy('VM_guest_metrics', old);
  }
  const ref = sim.world.create('VM_guest_metrics', {
    last_updated: nowDate(sim),
    PV_drivers_up_to_date: false,
    PV_drivers_detected: false,
  });
  sim.world.set('VM', vmRef, { guest_metrics: ref });
  return ref;
}

/** The tools' first report, some time after the start; none when the machine is off again or never comes up. */
async function bootGuest(sim: Sim, vmRef: string, metrics: string): Promise<void> {
  if (sim.faults.take('guest-silent', { vm: liveUuid(sim, vmRef) }) !== undefined) return;
  try {
    await sim.clock.sleep(sim.settings.guestBootMs, { signal: sim.closing });
  } catch {
    // The pool closes: nobody will ask any more.
    return;
  }
  const vm = sim.world.find('VM', vmRef);
  if (vm?.power_state !== 'Running' || vm.guest_metrics !== metrics) return;
  const cards = list(vm, 'VIFs').map((ref) => text(sim.world.get('VIF', ref), 'device'));
  sim.world.set('VM_guest_metrics', metrics, {
    os_version: { name: 'Debian GNU/Linux 13 (trixie)', distro: 'debian', major: '13', minor: '0' },
    PV_drivers_version: { major: '7', minor: '30', micro: '0', build: '12' },
    PV_drivers_detected: true,
    PV_drivers_up_to_date: true,
    networks: Object.fromEntries(
      cards.map((card) => [`${card}/ip`, `192.0.2.${10 + Number(card)}`]),
    ),
    last_updated: nowDate(sim),
  });
}

async function during(context: CallContext, vm: string, operation: string, work: () => void) {
  const { sim, signal } = context;
  const taskRef = context.task ?? `OpaqueRef:${sim.newUuid()}`;
  await duringOperation(sim, { vm, operation, taskRef, signal }, () => {
    work();
    return Promise.resolve();
  });
  return '';
}

function start(context: CallContext, params: Value[]): Promise<Value> {
  const { sim } = context;
  const vmRef = String(params[0]);
  return during(context, vmRef, 'start', () => {
    setPower(sim, vmRef, params[1] === true ? 'Paused' : 'Running', hostForStart(sim, vmRef));
    const vm = sim.world.get('VM', vmRef);
    const isProtected = text(vm, 'ha_restart_priority') === 'restart';
    if (isProtected && !flag(vm, 'ha_always_run'))
      sim.world.set('VM', vmRef, { ha_always_run: true });
    const times = { start_time: nowDate(sim), last_updated: nowDate(sim) };
    if (sim.world.find('VM_metrics', text(vm, 'metrics')) !== undefined) {
      sim.world.set('VM_metrics', text(vm, 'metrics'), times);
    }
    sim.track(bootGuest(sim, vmRef, forgetGuest(sim, vmRef)));
  });
}

function powerCall(operation: string, after: string, params: CallTable[string]['params']) {
  return {
    params,
    asyncable: true,
    run: (context: CallContext, [vm]: Value[]) =>
      during(context, String(vm), operation, () => {
        setPower(context.sim, String(vm), after);
        if (after === 'Running') return;
        context.sim.world.set('VM', String(vm), { ha_always_run: false });
      }),
  } as const;
}

/** The calls that change a machine's power state. */
export const powerCalls: CallTable = {
  'VM.start': { params: [3, 3], asyncable: true, run: start },
  'VM.hard_shutdown': powerCall('hard_shutdown', 'Halted', [1, 1]),
  'VM.clean_shutdown': powerCall('clean_shutdown', 'Halted', [1, 1]),
  'VM.suspend': powerCall('suspend', 'Suspended', [1, 1]),
  'VM.resume': powerCall('resume', 'Running', [1, 3]),
};
