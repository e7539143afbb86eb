/** Where a notice leads: the page of its job, run or machine, else the first page. Pure. */
import type { Notice } from '../notices.ts';

/** The notice with the address of its page, where people have one. */
export function withLink(notice: Notice, publicUrl: string | undefined): Notice {
  return publicUrl === undefined ? notice : { ...notice, link: `${publicUrl}${pageOf(notice)}` };
}

function pageOf({ event, about, vm }: Notice): string {
  const [topic = ''] = event.split('.');
  if (about !== undefined && topic === 'run') return `/runs/${encodeURIComponent(about)}`;
  if (about !== undefined && ['backup', 'restore', 'verify'].includes(topic)) {
    return `/jobs/${encodeURIComponent(about)}`;
  }
  if (vm === undefined) return '/';
  return `/vms/${encodeURIComponent(vm.pool)}/${encodeURIComponent(vm.uuid)}`;
}
