/**
 * infra/platforms: each file parsed in its own language, and what it makes of xvault held to the code: settings, command, memory, and time
 * between the signal and the kill. Whether the platform takes the file is not seen from here.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parse as parseToml } from 'smol-toml';
import { ROUTES } from '../../src/http/routes/index.ts';
import { at, list, read, readTofu, readYaml } from './files.ts';
import { assertCommand, assertGrace, assertStarts, OVERHEAD_MIB } from './held.ts';

interface Use {
  image: string;
  words: string[];
  env: Record<string, string>;
  /** Between SIGTERM and the kill. */
  graceSeconds: number;
  memoryMib: number;
}

const SECRET = 'a-long-enough-secret';
const all = (value: unknown) => value as Record<string, unknown>[];
const pairs = (value: unknown) =>
  Object.fromEntries(all(value).map((one) => [String(one.name), String(one.value ?? SECRET)]));

const PLATFORMS: Record<string, (file: string) => Use | Promise<Use>> = {
  'cloud-run-job.yaml': (file) => {
    const task = at(readYaml(file)[0], 'spec', 'template', 'spec', 'template', 'spec');
    const container = at(task, 'containers', 0);
    const env = pairs(at(container, 'env'));
    const mounts = all(at(container, 'volumeMounts')).map(({ mountPath }) => `${mountPath}/`);
    for (const path of Object.values(env).filter((value) => value.startsWith('/'))) {
      assert.ok(
        mounts.some((mount) => path.startsWith(mount)),
        path,
      );
    }
    return {
      image: String(at(container, 'image')),
      words: at(container, 'args') as string[],
      env,
      graceSeconds: 10,
      memoryMib: Number.parseInt(String(at(container, 'resources', 'limits', 'memory')), 10),
    };
  },
  'container-apps-job.yaml': (file) => {
    const properties = at(readYaml(file)[0], 'properties');
    const container = at(properties, 'template', 'containers', 0);
    const secrets = all(at(properties, 'configuration', 'secrets')).map(({ name }) => name);
    for (const { secretRef } of all(at(container, 'env'))) {
      assert.ok(secretRef === undefined || secrets.includes(secretRef), String(secretRef));
    }
    return {
      image: String(at(container, 'image')),
      words: at(container, 'args') as string[],
      env: pairs(at(container, 'env')),
      graceSeconds: 30,
      memoryMib: Number.parseFloat(String(at(container, 'resources', 'memory'))) * 1024,
    };
  },
  'fargate.json': (file) => {
    const task: unknown = JSON.parse(read(file));
    const container = at(task, 'containerDefinitions', 0);
    assert.equal(at(container, 'readonlyRootFilesystem'), true);
    assert.deepEqual(at(container, 'linuxParameters', 'capabilities', 'drop'), ['ALL']);
    assert.ok(Number(at(container, 'stopTimeout')) <= 120, 'the most Fargate gives');
    return {
      image: String(at(container, 'image')),
      words: at(container, 'command') as string[],
      env: { ...pairs(at(container, 'environment')), ...pairs(at(container, 'secrets')) },
      graceSeconds: Number(at(container, 'stopTimeout')),
      memoryMib: Number(at(task, 'memory')),
    };
  },
  'nomad.hcl': async (file) => {
    const job = at(await readTofu(file), 'job', 'xvault-web-1', 0);
    assert.equal(at(job, 'periodic', 0, 'prohibit_overlap'), true);
    const task = at(job, 'group', 'run', 0, 'task', 'xvault', 0);
    assert.equal(at(task, 'config', 0, 'readonly_rootfs'), true);
    assert.equal(at(task, 'kill_signal'), 'SIGTERM');
    const env = at(task, 'env', 0) as Record<string, string>;
    const written = all(at(task, 'template')).map(({ destination }) => `/${destination}`);
    const wanted = Object.values(env).filter((value) => value.startsWith('/'));
    assert.deepEqual(wanted.toSorted(), written.toSorted());
    return {
      image: String(at(task, 'config', 0, 'image')),
      words: at(task, 'config', 0, 'args') as string[],
      env,
      graceSeconds: Number.parseInt(String(at(task, 'kill_timeout')), 10),
      memoryMib: Number(at(task, 'resources', 0, 'memory')),
    };
  },
  'fly.toml': (file) => {
    const text = read(file);
    const app = parseToml(text);
    assert.equal(app.kill_signal, 'SIGTERM');
    assert.equal(at(app, 'http_service', 'auto_stop_machines'), 'off');
    const path = at(app, 'http_service', 'checks', 0, 'path');
    assert.ok(ROUTES.some((route) => route.path === path));
    const [, said = ''] = /fly secrets set (.+)/.exec(text) ?? [];
    const secrets = said.match(/\w+(?==…)/g)?.map((name) => [name, SECRET]) ?? [];
    return {
      image: String(at(app, 'build', 'image')),
      words: String(at(app, 'processes', 'app')).split(' '),
      env: { ...(app.env as Record<string, string>), ...Object.fromEntries(secrets) },
      graceSeconds: Number(app.kill_timeout),
      memoryMib: Number.parseInt(String(at(app, 'vm', 0, 'memory')), 10),
    };
  },
};

for (const [name, understand] of Object.entries(PLATFORMS)) {
  test(`${name}: xvault starts with what it is given, and is given time and memory enough`, async () => {
    const { image, words, env, graceSeconds, memoryMib } = await understand(`platforms/${name}`);
    assert.match(image, /\/xvault:\d/);
    assertStarts(env, name);
    await assertCommand(words, name);
    assertGrace(words, env, graceSeconds, name);
    assert.ok(memoryMib >= Number(env.XVAULT_MEMORY_MIB) + OVERHEAD_MIB, `${memoryMib} MiB`);
    assert.ok(read('platforms/README.md').includes(`\`${name}\``), 'the README does not name it');
  });
}

test('every file of infra/platforms is looked at', () => {
  const files = list('platforms/*').filter((file) => !file.endsWith('README.md'));
  assert.deepEqual(
    files,
    Object.keys(PLATFORMS)
      .map((name) => `platforms/${name}`)
      .toSorted(),
  );
});

test('every file names the image of this version', () => {
  const { version } = JSON.parse(read('../package.json')) as { version: string };
  const named = ['../Dockerfile', ...list('platforms/*'), ...list('kubernetes/**/*.yaml')].flatMap(
    (file) =>
      [...read(file).matchAll(/(?:\/xvault:|newTag: "|ARG VERSION=)([\d.]+)/g)].map(
        ([, found]) => `${file} ${found}`,
      ),
  );
  assert.ok(named.length >= 8);
  assert.deepEqual(
    named.filter((text) => !text.endsWith(` ${version}`)),
    [],
  );
});
