/**
 * The status as a Nagios plug-in says it (monitoring-plugins guidelines): one line `STATUS - text | figures`, then
 * one line for each machine, the worst first. The exit code is the caller's: 0 ok, 1 warning, 2 critical.
 */
import type { StatusReport, Verdict } from '../backup/service.ts';
import { unsteered } from '../plain-text.ts';

const ORDER: readonly Verdict[] = ['critical', 'warning', 'ok'];

/** Text of a status report; ends with a line feed. */
export function nagiosText(report: StatusReport): string {
  const vms = [...report.vms].sort((a, b) => ORDER.indexOf(a.status) - ORDER.indexOf(b.status));
  const counts = ORDER.map((verdict) => vms.filter((vm) => vm.status === verdict).length);
  const [critical = 0, warning = 0, ok = 0] = counts;
  const worst = vms.find((vm) => vm.status !== 'ok');
  const parts = [`${ok} of ${vms.length} machines backed up`];
  if (worst) parts.push(`${clean(worst.vm.name || worst.vm.uuid)}: ${clean(worst.reason)}`);
  if (report.unreachable_pools.length > 0) {
    parts.push(`no answer from pool ${report.unreachable_pools.map(clean).join(', ')}`);
  }
  for (const { vm, reason } of report.gone_at_risk ?? []) {
    parts.push(`${clean(vm.name || vm.uuid)}, on no pool any more: ${clean(reason)}`);
  }
  const unreadable = report.unreadable_records?.length ?? 0;
  if (unreadable > 0) parts.push(`${unreadable} records in the bucket cannot be read`);
  const names = vms.map(({ vm }) => machine(vm));
  const twice = new Set(names.filter((name, at) => names.indexOf(name) !== at));
  const figures = [
    `ok=${ok};;;0`,
    `warning=${warning};;;0`,
    `critical=${critical};;;0`,
    ...vms.flatMap((vm) =>
      vm.age_seconds === undefined
        ? []
        : [
            `'${label(vm.vm, twice)}'=${Math.round(vm.age_seconds)}s;;${vm.max_age_seconds ?? report.max_age_seconds};0`,
          ],
    ),
  ];
  const lines = vms.map(
    (vm) => `${vm.status.toUpperCase()} - ${machine(vm.vm)}: ${clean(vm.reason)}`,
  );
  const first = `${report.status.toUpperCase()} - ${parts.join('; ')} | ${figures.join(' ')}`;
  return `${[first, ...lines].join('\n')}\n`;
}

interface Named {
  uuid: string;
  pool: string;
  name: string;
}

function machine({ uuid, pool, name }: Named): string {
  return clean(`${pool}/${name || uuid}`);
}

/** A label must be there once, so machines of one name have their uuid. A quote is doubled, an equals sign ends it. */
function label(vm: Named, twice: ReadonlySet<string>): string {
  const name = machine(vm);
  const unique = twice.has(name) ? `${name} ${vm.uuid}` : name;
  return unique.replaceAll('=', '-').replaceAll("'", "''");
}

/** Bars and line ends would end the text early. */
function clean(text: string): string {
  return unsteered(text, ' ').replace(/\|+/g, ' ');
}
