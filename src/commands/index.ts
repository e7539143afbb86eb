/** The list of commands: enough for the help page; their modules are imported when they are called. */
import type { Command } from './command.ts';

interface Entry {
  summary: string;
  load: () => Promise<{ command: Command }>;
}

/** All commands in the order of the help page. */
export const COMMANDS: Readonly<Record<string, Entry>> = {
  demo: {
    summary: 'See it work: a simulated pool, an embedded bucket, every machine backed up',
    load: () => import('./demo.ts'),
  },
  serve: { summary: 'Run the service', load: () => import('./serve.ts') },
  run: {
    summary: 'Back up one machine or many in the foreground, for schedulers',
    load: () => import('./run.ts'),
  },
  backup: { summary: 'Back up one machine, with progress', load: () => import('./backup.ts') },
  list: { summary: 'Backups, newest first', load: () => import('./list.ts') },
  status: {
    summary: 'Every machine, its newest good backup, its age',
    load: () => import('./status.ts'),
  },
  check: { summary: 'The same for Nagios and Icinga', load: () => import('./check.ts') },
  jobs: { summary: 'Jobs, newest first', load: () => import('./jobs.ts') },
  runs: { summary: 'Runs over many machines, newest first', load: () => import('./runs.ts') },
  index: {
    summary: 'Check an archive and make its index anew',
    load: () => import('./index-backup.ts'),
  },
  adopt: { summary: 'Take in an archive made by hand', load: () => import('./adopt.ts') },
  verify: {
    summary: 'Check that a backup is still what was stored',
    load: () => import('./verify.ts'),
  },
  restore: {
    summary: 'Bring a backup back: a machine, or one of its disks',
    load: () => import('./restore.ts'),
  },
  cancel: { summary: 'Cancel a job', load: () => import('./cancel.ts') },
  pin: {
    summary: 'Keep a backup whatever the rules delete',
    load: () => import('./pin.ts'),
  },
  unpin: {
    summary: 'Put a pinned backup back into rotation',
    load: () => import('./unpin.ts'),
  },
  lifecycle: {
    summary: 'The rules of the bucket: as they are, as they should be',
    load: () => import('./lifecycle.ts'),
  },
  notify: { summary: 'Who is told of what, and a test message', load: () => import('./notify.ts') },
  sweep: { summary: 'Remove what crashed runs left', load: () => import('./sweep.ts') },
  doctor: {
    summary: 'Check pool, bucket and settings, and say the mend',
    load: () => import('./doctor.ts'),
  },
  config: {
    summary: 'The settings in effect and where they come from',
    load: () => import('./config.ts'),
  },
};
