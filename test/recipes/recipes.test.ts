/**
 * Every recipe of docs/recipes/ does what it says: read by its own program where there is a small one (readers.ts), its commands run
 * by a real shell with real curl against a service that listens, over a simulated pool.
 */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { once } from 'node:events';
import {
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import type { Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { serve } from '@hono/node-server';
import { parse } from 'yaml';
import { ROUTES } from '../../src/http/routes/index.ts';
import type { RunView } from '../../src/http/run-answers.ts';
import { type HttpWorld, startHttpWorld, TOKEN } from '../e2e/app.ts';
import { faultsOf } from '../infra/cluster.ts';
import { at } from '../infra/files.ts';
import { createSparseDisk } from '../sim/disk.ts';
import { gitlabJob, missing, readUnits, readWorkflow } from './readers.ts';

const FOLDER = fileURLToPath(new URL('../../docs/recipes/', import.meta.url));
const SCRIPT = join(FOLDER, 'xvault-run.sh');
const DISK = {
  name: 'root',
  storage: 'nfs' as const,
  bootable: true,
  open: () => createSparseDisk(2 * 1_048_576),
};
const MACHINES = [
  { name: 'web-1', power: 'Running' as const, tags: ['nightly'], disks: [DISK] },
  {
    name: 'stick',
    power: 'Running' as const,
    tags: ['usb'],
    disks: [{ ...DISK, storage: 'usb' as const }],
  },
];
/** What GitHub gives `run:` with `shell: bash`, GitLab its scripts, Jenkins its `sh`, cron its lines. */
const SHELLS = {
  github: ['bash', '--noprofile', '--norc', '-eo', 'pipefail', '-c'],
  gitlab: ['bash', '-eo', 'pipefail', '-c'],
  sh: ['sh', '-xe', '-c'],
  cron: ['/bin/sh', '-c'],
} as const;

const skipWithout = (...names: string[]): string | false => {
  const absent = missing('curl', 'bash', ...names);
  return absent.length > 0 && `not installed: ${absent.join(', ')}`;
};
const skip = skipWithout();

let world: HttpWorld;
let server: Server;
let folder: string;
let env: Record<string, string>;

before(async () => {
  world = await startHttpWorld({ pool: { machines: MACHINES } });
  server = serve({ fetch: world.fetch, port: 0, hostname: '127.0.0.1' }) as Server;
  await once(server, 'listening');
  folder = mkdtempSync(join(tmpdir(), 'recipes-'));
  writeFileSync(join(folder, 'token'), `${TOKEN}\n`, { mode: 0o600 });
  const { port } = server.address() as AddressInfo;
  const { PATH = '' } = process.env;
  env = { PATH, XVAULT_URL: `http://127.0.0.1:${port}`, XVAULT_TOKEN_FILE: join(folder, 'token') };
});

after(async () => {
  server?.closeAllConnections();
  server?.close();
  await world?.[Symbol.asyncDispose]();
  rmSync(folder, { recursive: true, force: true });
});

const read = (name: string): string => readFileSync(join(FOLDER, name), 'utf8');

interface Ended {
  code: number;
  out: string;
  err: string;
}

/** Runs one command where the script lies. */
function execute(argv: readonly string[], more: Record<string, string> = {}): Promise<Ended> {
  const [file = '', ...args] = argv;
  return new Promise((resolve) => {
    execFile(file, args, { cwd: FOLDER, env: { ...env, ...more } }, (error, out, err) => {
      const code = error === null ? 0 : Number(error.code ?? -1);
      resolve({ code, out, err });
    });
  });
}

async function newestRun(): Promise<RunView> {
  const page = (await world.call('GET', '/v1/runs')).json<{ runs: RunView[] }>();
  assert.ok(page.runs[0]);
  return page.runs[0];
}

/** The command ends well, with a run of its own that backed web-1 up. */
async function assertBacksUp(
  argv: readonly string[],
  more: Record<string, string> = {},
  says = /^succeeded: /m,
) {
  const seen = (await world.call('GET', '/v1/runs')).json<{ runs: RunView[] }>().runs.length;
  const { code, out, err } = await execute(argv, more);
  assert.equal(code, 0, `${out}\n${err}`);
  assert.match(out, says);
  const { runs } = (await world.call('GET', '/v1/runs')).json<{ runs: RunView[] }>();
  assert.equal(runs.length, seen + 1);
  const run = await newestRun();
  assert.deepEqual([run.status, run.machines.map(({ vm }) => vm.name)], ['succeeded', ['web-1']]);
  return { run, err };
}

test('the script waits for the run; called again it tells the same one and starts nothing', {
  skip,
}, async () => {
  const { run } = await assertBacksUp([
    'sh',
    SCRIPT,
    '{"select": {"all": true}, "skip": ["stick"]}',
    'key-1',
  ]);
  const again = await execute([
    'sh',
    SCRIPT,
    '{"select": {"all": true}, "skip": ["stick"]}',
    'key-1',
  ]);
  assert.equal(again.code, 0);
  assert.equal((await newestRun()).id, run.id);
});

test('the script ends with what became of the run, and with what is wrong where there is none', {
  skip,
}, async () => {
  const ask = (request: string, more: Record<string, string> = {}) =>
    execute(['sh', SCRIPT, request, `key-${request}`], more);
  const partial = await ask('{"select": {"all": true}}');
  assert.equal(partial.code, 3, partial.err);
  assert.match(partial.out, /^partial: 1 of 2 machines/);
  assert.equal((await ask('{"select": {"names": ["stick"]}}')).code, 1);
  const nobody = await ask('{"select": {"tags": ["nobody-has-it"]}}');
  assert.deepEqual([nobody.code, nobody.out], [1, '']);
  assert.match(nobody.err, /"code":"not_found"/);
  const stranger = await ask('{"select": {"all": true}}', { XVAULT_TOKEN: 'wrong' });
  assert.equal(stranger.code, 1);
  assert.match(stranger.err, /"code":"unauthenticated"/);
  assert.equal(`${stranger.out}${stranger.err}`.includes(TOKEN), false);
});

test('crontab: the run and the line with curl alone', { skip }, async () => {
  const lines = read('crontab').split('\n');
  const commands = lines.flatMap((line) => {
    const [, command] = /^\d+ \d+ \S+ \S+ \S+ root (.*)$/.exec(line) ?? [];
    // cron takes % for the end of the command, and \% for it
    return command === undefined ? [] : [command.replaceAll('\\%', '%')];
  });
  assert.equal(
    lines.some((line) => /(^|[^\\])%/.test(line)),
    false,
  );
  const [nightly = '', noon = '', ...more] = commands;
  assert.equal(more.length, 0);
  await assertBacksUp([...SHELLS.cron, nightly.replace('/usr/local/bin/xvault-run.sh', SCRIPT)]);
  const started = await execute([...SHELLS.cron, noon]);
  assert.equal(started.code, 0, started.err);
  const job = JSON.parse(started.out) as { id: string };
  const ended = await world.call('GET', `/v1/jobs/${job.id}`, { headers: { prefer: 'wait=55' } });
  assert.equal(ended.json().status, 'succeeded');
});

test('systemd: a timer, and a service whose credential is the token', {
  skip: skipWithout('systemd-analyze'),
}, async () => {
  const units = join(folder, 'units');
  mkdirSync(units);
  cpSync(join(FOLDER, 'systemd'), units, { recursive: true });
  const file = join(units, 'xvault-nightly.service');
  const unit = readFileSync(file, 'utf8');
  assert.match(unit, /^ExecStart=\/usr\/local\/bin\/xvault-run\.sh /m);
  assert.match(unit, /^LoadCredential=token:\/etc\/xvault\/token$/m);
  // the only thing of it that a machine may have elsewhere
  writeFileSync(file, unit.replace('/usr/local/bin/xvault-run.sh', SCRIPT));
  const seen = readUnits(units, 'xvault-nightly');
  assert.deepEqual(seen.complaints, []);
  assert.deepEqual(seen.environment, [
    'XVAULT_URL=https://xvault.example.com',
    `XVAULT_TOKEN_FILE=${units}/run/credentials/xvault-nightly.service/token`,
  ]);
  await assertBacksUp([...seen.argv, 'systemd-1']);
  writeFileSync(file, unit.replace('TimeoutStartSec=12h', 'TimeoutStartSec=12parsecs'));
  assert.match(String(readUnits(units, 'xvault-nightly').complaints), /TimeoutStartSec/);
});

test('GitHub Actions', { skip }, async () => {
  const { wrong, runs } = await readWorkflow(read('github-actions.yaml'));
  assert.deepEqual(wrong, []);
  const misspelt = await readWorkflow(read('github-actions.yaml').replace('runs-on', 'run-on'));
  assert.match(String(misspelt.wrong), /Unexpected value 'run-on'/);
  const workflow = parse(read('github-actions.yaml'), { strict: true });
  const step = at(workflow, 'jobs', 'backup', 'steps', 1);
  assert.deepEqual(at(step, 'env'), {
    XVAULT_URL: '$' + '{{ vars.XVAULT_URL }}',
    XVAULT_TOKEN: '$' + '{{ secrets.XVAULT_TOKEN }}',
  });
  assert.equal(at(step, 'shell'), 'bash');
  const [script = '', ...more] = runs;
  assert.equal(more.length, 0);
  const summary = join(folder, 'summary');
  const { run } = await assertBacksUp([...SHELLS.github, script], {
    XVAULT_TOKEN: TOKEN,
    GITHUB_RUN_ID: '42',
    GITHUB_RUN_ATTEMPT: '1',
    GITHUB_STEP_SUMMARY: summary,
  });
  assert.equal(run.request.deadline, '8h');
  assert.match(readFileSync(summary, 'utf8'), /^succeeded: /);
  const failing = await execute([...SHELLS.github, script], {
    XVAULT_TOKEN: 'wrong',
    GITHUB_RUN_ID: '43',
    GITHUB_RUN_ATTEMPT: '1',
    GITHUB_STEP_SUMMARY: summary,
  });
  assert.equal(failing.code, 1, 'a pipe does not hide it');
});

test('GitLab CI: the job of the pipeline, and partial success is a warning', {
  skip: skipWithout('git', 'rsync'),
}, async () => {
  const pipeline = read('gitlab-ci.yaml');
  const variables = { XVAULT_URL: env.XVAULT_URL, XVAULT_TOKEN: TOKEN };
  const job = (name: string, text: string) =>
    gitlabJob(
      { folder: join(folder, name), cwd: FOLDER },
      { pipeline: text, script: SCRIPT, variables },
    );
  const alone = { HOME: folder, XVAULT_URL: '', XVAULT_TOKEN_FILE: '' };
  const { run } = await assertBacksUp(job('whole', pipeline), alone, /> succeeded: /);
  assert.equal(run.request.note, 'before a deployment');
  const both = pipeline.replace('"tags": ["nightly"]', '"all": true');
  const partial = await execute(job('partial', both), alone);
  assert.equal(partial.code, 0, partial.out + partial.err);
  assert.match(partial.out, /> partial: 1 of 2 machines[\s\S]* WARN {2}backup/);
  const misspelt = await execute(job('no', pipeline.replace('allow_failure', 'allow_fail')), alone);
  assert.notEqual(misspelt.code, 0, 'the schema is GitLab’s own');
});

test('Jenkins', { skip }, async () => {
  const file = read('Jenkinsfile');
  const [, step = ''] = /sh '''([\s\S]*?)'''/.exec(file) ?? [];
  assert.match(file, /XVAULT_TOKEN = credentials\('xvault-token'\)/);
  const { err } = await assertBacksUp([...SHELLS.sh, step], {
    XVAULT_TOKEN: TOKEN,
    BUILD_TAG: 'jenkins-x-1',
  });
  // Jenkins shows what its shell runs
  assert.match(err, /xvault-run\.sh/);
  assert.equal(err.includes(TOKEN), false);
});

test('Kubernetes: a CronJob with the script of this folder', { skip }, async () => {
  const cronJob = parse(read('kubernetes-cronjob.yaml'), { strict: true });
  assert.deepEqual(await faultsOf([cronJob]), []);
  const spec = at(cronJob, 'spec');
  assert.equal(at(spec, 'concurrencyPolicy'), 'Forbid');
  const pod = at(spec, 'jobTemplate', 'spec', 'template', 'spec');
  const container = at(pod, 'containers', 0);
  const [command = ''] = at(container, 'args') as string[];
  assert.deepEqual(at(container, 'command'), ['sh', '-c']);
  const names = (at(container, 'env') as { name: string }[]).map(({ name }) => name);
  assert.deepEqual(names, ['XVAULT_URL', 'XVAULT_TOKEN_FILE', 'JOB_NAME']);
  const volumes = (at(pod, 'volumes') as { name: string }[]).map(({ name }) => name);
  const mounts = (at(container, 'volumeMounts') as { name: string }[]).map(({ name }) => name);
  assert.deepEqual(mounts, volumes);
  await assertBacksUp(['sh', '-c', command.replace('/scripts/xvault-run.sh', SCRIPT)], {
    JOB_NAME: 'xvault-nightly-29384756',
  });
});

test('Ansible goes on when all is backed up, and not otherwise', {
  skip: skipWithout('ansible-playbook'),
}, async () => {
  const more = { HOME: folder, ANSIBLE_LOCALHOST_WARNING: 'false' };
  const play = ['ansible-playbook', '-v', join(FOLDER, 'ansible.yaml')];
  const { run } = await assertBacksUp(play, more, /changed: \[localhost\].*"stdout": "succeeded: /);
  assert.equal(run.request.note, 'before a change');
  const other = join(folder, 'ansible');
  mkdirSync(other);
  cpSync(SCRIPT, join(other, 'xvault-run.sh'));
  writeFileSync(join(other, 'play.yaml'), read('ansible.yaml').replace('web-1', 'stick'));
  const refused = await execute(['ansible-playbook', join(other, 'play.yaml')], more);
  assert.equal(refused.code, 2, refused.err);
  assert.match(refused.out, /"rc": 1,[\s\S]*failed=1/);
});

test('the Slack app calls the route there is, and asks for no more than commands', () => {
  const app = parse(read('slack-app.yaml'), { strict: true });
  const [command] = app.features.slash_commands as { url: string; usage_hint: string }[];
  const paths = ROUTES.map(({ path }) => path);
  assert.ok(paths.includes(new URL(command?.url ?? '').pathname));
  for (const word of ['run', 'status', 'list', 'cancel', 'help']) {
    assert.ok(command?.usage_hint.includes(word), word);
  }
  assert.deepEqual(app.oauth_config.scopes, { bot: ['commands'] });
});

test('no recipe is left out of these tests', () => {
  const tested = read('README.md').match(/\]\(([\w./-]+)\)/g) ?? [];
  const named = new Set(tested.map((link) => link.slice(2, -1)));
  for (const entry of readdirSync(FOLDER, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile() || entry.name === 'README.md') continue;
    const name = join(entry.parentPath, entry.name).slice(FOLDER.length);
    assert.ok(named.has(name), `${name} is not in README.md`);
  }
  assert.equal(readFileSync(SCRIPT, 'utf8').includes('\t'), false);
});
