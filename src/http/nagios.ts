/**
 * The status as a Nagios plug-in says it (monitoring-plugins guidelines): one line `STATUS - text | figures`, then
 * one line for each machine, the worst first. The exit code is the caller's: 0 ok, 1 warning, 2 critical.
 */
import type { StatusReport, Verdict } from '../backup/service.ts';

const ORDER: readonly Verdict[] = ['critical', 'warning', 'ok'];

/** Text of a status report; ends with a line feed. */
export function nagiosText(report: StatusReport): string {
  const vms = [...report.vms].sort((a, b) => ORDER.indexOf(a.status) - ORDER.indexOf(b.status));
  const counts = ORDER.map((verdict) => vms.filter((vm) => vm.status === verdict).length);
  const [critical = 0, warning = 0, ok = 0] = counts;
  const worst = vms.find((vm) => vm.status !== 'ok');
  const parts = [`${ok} of ${vms.length} machines backed up`];
  if (worst) parts.push(`${clean(worst.vm.name)}: ${clean(worst.reason)}`);
  if (report.unreachable_pools.length > 0) {
    parts.push(`no answer from pool ${report.unreachable_pools.map(clean).join(', ')}`);
  }
  const figures = [
    `ok=${ok};;;0`,
    `warning=${warning};;;0`,
    `critical=${critical};;;0`,
    ...vms.flatMap((vm) =>
      vm.age_seconds === undefined
        ? []
        : [`'${label(vm.vm)}'=${Math.round(vm.age_seconds)}s;${report.max_age_seconds};;0`],
    ),
  ];
  const lines = vms.map(
    (vm) => `${vm.status.toUpperCase()} - ${machine(vm.vm)}: ${clean(vm.reason)}`,
  );
  const first = `${report.status.toUpperCase()} - ${parts.join('; ')} | ${figures.join(' ')}`;
  return `${[first, ...lines].join('\n')}\n`;
}

function machine(vm: { pool: string; name: string }): string {
  return clean(`${vm.pool}/${vm.name}`);
}

/** In quotes: an equals sign would end it, a quote is doubled. */
function label(vm: { pool: string; name: string }): string {
  return machine(vm).replaceAll('=', '-').replaceAll("'", "''");
}

/** Bars and line ends would end the text early. */
function clean(text: string): string {
  return text.replace(/[\p{Cc}|]+/gu, ' ');
}
