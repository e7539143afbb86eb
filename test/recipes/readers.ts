/**
 * What reads the recipes for real, beside the shells their commands are run by: systemd's own loader, Ansible, the parser of GitHub's own
 * language server, and gitlab-ci-local, which holds a pipeline to GitLab's published schema and runs its jobs.
 *
 * Of Jenkins there is nothing that is small: its pipelines are read by the server itself.
 */
import { spawnSync } from 'node:child_process';
import { chmodSync, cpSync, mkdirSync, writeFileSync } from 'node:fs';
import { createRequire, registerHooks } from 'node:module';
import { dirname, join, relative } from 'node:path';

/** Which of these programs cannot be run here. */
export function missing(...names: readonly string[]): string[] {
  return names.filter((name) => spawnSync(name, ['--version']).error !== undefined);
}

/** Blocks the whole process meanwhile, so that no time-out of a test would end it. */
const READ_LIMIT_MS = 60_000;
/** Nobody: systemd refuses to play a start for root. */
const NOBODY = 65_534;
const SYSTEMD = '/lib/systemd/systemd';

export interface ReadUnits {
  /** What it complains of. */
  complaints: string[];
  /** As it would start it. */
  argv: string[];
  environment: string[];
}

/** A timer and its service as systemd loads them; whoever runs the tests may share the way to `folder` with nobody. */
export function readUnits(folder: string, name: string): ReadUnits {
  for (const path of [dirname(folder), folder]) chmodSync(path, 0o755);
  const runtime = join(folder, 'run');
  mkdirSync(runtime, { recursive: true });
  chmodSync(runtime, 0o777);
  // the two that every unit hangs on; of the rest of the machine nothing is looked at
  for (const target of ['basic', 'shutdown', 'timers']) {
    writeFileSync(join(folder, `${target}.target`), '[Unit]\n');
  }
  const files = ['service', 'timer'].map((kind) => join(folder, `${name}.${kind}`));
  const verified = spawnSync('systemd-analyze', ['verify', '--man=no', ...files], {
    timeout: READ_LIMIT_MS,
  });
  const dropped = process.getuid?.() === 0 ? { uid: NOBODY, gid: NOBODY } : {};
  const args = ['--test', '--user', `--unit=${name}.service`];
  const env = { XDG_RUNTIME_DIR: runtime, SYSTEMD_UNIT_PATH: folder };
  const options = { env, ...dropped, encoding: 'utf8' as const, timeout: READ_LIMIT_MS };
  const played = spawnSync(SYSTEMD, args, options);
  const text = played.stdout + played.stderr;
  const [, command = ''] = /Command Line: (.*xvault-run\.sh.*)/.exec(text) ?? [];
  return {
    complaints: `${verified.stdout}${verified.stderr}`.split('\n').filter((l) => l.includes(name)),
    // its quotes are C's, and so are JSON's
    argv: (command.match(/"(?:[^"\\]|\\.)*"|\S+/g) ?? []).map((word) =>
      word.startsWith('"') ? JSON.parse(word) : word,
    ),
    environment: [...text.matchAll(/^\s*Environment: (XVAULT.*)$/gm)].map(([, line]) => line ?? ''),
  };
}

/** A workflow as GitHub's own parser has it: its steps' commands, and what is wrong with it. */
export async function readWorkflow(content: string): Promise<{ wrong: string[]; runs: string[] }> {
  // the package imports JSON without saying so, which bundlers take
  const hooks = registerHooks({
    load: (url, context, next) =>
      /@actions\/.*\.json$/.test(url)
        ? next(url, { ...context, importAttributes: { type: 'json' } })
        : next(url, context),
  });
  const { convertWorkflowTemplate, NoOperationTraceWriter, parseWorkflow } = await import(
    '@actions/workflow-parser'
  );
  hooks.deregister();
  const file = { name: 'workflow.yaml', content };
  const { context, value } = parseWorkflow(file, new NoOperationTraceWriter());
  const template = value && (await convertWorkflowTemplate(context, value));
  const steps = (template?.jobs ?? []).flatMap((job) => (job.type === 'job' ? job.steps : []));
  return {
    wrong: context.errors.getErrors().map(String),
    runs: steps.flatMap((step) => ('run' in step ? [String(step.run)] : [])),
  };
}

const GITLAB = createRequire(import.meta.url).resolve('gitlab-ci-local');

/** The command that runs the job `backup` of a pipeline in `cwd`, in a repository of its own that is made in `folder`. */
export function gitlabJob(
  { folder, cwd }: { folder: string; cwd: string },
  { pipeline, script, variables }: { pipeline: string; script: string; variables: object },
): string[] {
  mkdirSync(folder);
  writeFileSync(join(folder, '.gitlab-ci.yml'), pipeline);
  cpSync(script, join(folder, 'xvault-run.sh'));
  spawnSync('git', ['init', '--quiet', folder]);
  spawnSync('git', ['-C', folder, 'add', '.']);
  const given = Object.entries(variables).flatMap(([name, value]) => [
    '--variable',
    `${name}=${value}`,
  ]);
  const options = ['--cwd', relative(cwd, folder), '--home', folder, '--force-shell-executor'];
  return [process.execPath, GITLAB, 'backup', ...options, ...given];
}
