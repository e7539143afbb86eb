/**
 * compose.yaml: parsed as Docker does, held to the part of the compose specification it uses (a key we do not know is a mistake), to
 * the settings and commands there are, and to walls round each container. No test starts it: there is no Docker here.
 */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { z } from 'zod';
import { list, read, readEnv, readYaml } from './files.ts';
import { assertCommand, assertGrace, assertSettings, assertStarts, OVERHEAD_MIB } from './held.ts';

const text = z.string().min(1);
const duration = z.string().regex(/^\d+(s|m|h)$/);
const image = z.string().regex(/^(xvault|[a-z0-9./-]+\/[a-z0-9-]+:\d[\w.-]*)$/, 'an image and tag');

const service = z.strictObject({
  image,
  build: text.optional(),
  entrypoint: z.array(text).optional(),
  command: z.array(z.string()),
  environment: z.record(text, z.string()).optional(),
  profiles: z.array(text).optional(),
  restart: z.enum(['no', 'always', 'on-failure', 'unless-stopped']).optional(),
  init: z.boolean().optional(),
  user: text.optional(),
  read_only: z.literal(true),
  tmpfs: z.array(text).optional(),
  cap_drop: z.tuple([z.literal('ALL')]).optional(),
  security_opt: z.tuple([z.literal('no-new-privileges:true')]),
  mem_limit: z
    .string()
    .regex(/^\d+m$/)
    .optional(),
  stop_grace_period: duration.optional(),
  network_mode: z.literal('host').optional(),
  networks: z.array(text).optional(),
  ports: z.array(z.string().regex(/^127\.0\.0\.1:\d+:\d+$/, 'only the loopback')).optional(),
  secrets: z.array(text).optional(),
  volumes: z.array(text).optional(),
  healthcheck: z
    .union([
      z.strictObject({ disable: z.literal(true) }),
      z.strictObject({
        test: z.tuple([z.literal('CMD')], text),
        interval: duration,
        timeout: duration,
        retries: z.int().optional(),
        start_period: duration.optional(),
      }),
    ])
    .optional(),
  depends_on: z
    .record(
      text,
      z.strictObject({
        condition: z.enum(['service_healthy', 'service_completed_successfully']),
      }),
    )
    .optional(),
});
const composeFile = z.strictObject({
  name: text,
  'x-xvault': z.unknown(),
  'x-store-shell': z.unknown(),
  services: z.record(text, service),
  networks: z.record(text, z.strictObject({ internal: z.boolean() }).nullable()),
  volumes: z.record(text, z.null()),
  secrets: z.record(text, z.strictObject({ file: z.string().startsWith('./secrets/') })),
});

const parsed = readYaml('../compose.yaml')[0];
/** `${NAME}` and `${NAME:-default}` as Docker fills them in. */
const filled = (value: string, env: Record<string, string>) =>
  value.replaceAll(
    /\$\{(\w+)(?::-([^}]*))?\}/g,
    (_, name, fallback) => env[name] || fallback || '',
  );

describe('compose.yaml', () => {
  const { services, networks, volumes, secrets } = composeFile.parse(parsed);
  const own = Object.entries(services).filter(([, { image }]) => image === 'xvault');

  test('refers only to what it defines', () => {
    for (const [name, one] of Object.entries(services)) {
      for (const network of one.networks ?? [])
        assert.ok(network in networks, `${name}: ${network}`);
      for (const secret of one.secrets ?? []) assert.ok(secret in secrets, `${name}: ${secret}`);
      for (const volume of one.volumes ?? [])
        assert.ok((volume.split(':')[0] ?? '') in volumes, volume);
      for (const [other, { condition }] of Object.entries(one.depends_on ?? {})) {
        const found = services[other];
        assert.ok(found, `${name}: ${other}`);
        if (condition === 'service_healthy') assert.ok(found.healthcheck, other);
        else assert.match(found.restart ?? 'no', /^(no|on-failure)$/, other);
      }
      assert.ok(one.network_mode !== undefined || one.networks, name);
    }
  });

  test('xvault starts with what it is given, and its commands exist', async () => {
    const example = readEnv(read('compose/example.env').split('\n'));
    assertSettings(Object.keys(example), 'example.env');
    for (const [name, { command, environment = {}, secrets: given = [] }] of own) {
      await assertCommand(command, name);
      if (name === 'demo') continue;
      const env = Object.fromEntries(
        Object.entries(environment).map(([key, value]) => [key, filled(value, example)]),
      );
      assertStarts({ ...env, XVAULT_LISTEN: '0.0.0.0:8080' }, name);
      const files = Object.values(env).filter((value) => value.startsWith('/run/secrets/'));
      assert.deepEqual(files.map((file) => file.slice(13)).sort(), given.toSorted());
      const asked = Object.values(environment).flatMap((value) => value.match(/(?<=\{)\w+/g) ?? []);
      assert.deepEqual(asked.toSorted(), Object.keys(example).toSorted());
    }
  });

  test('xvault has time and memory enough, and no rights it does not need', () => {
    assert.deepEqual(own.map(([name]) => name).sort(), ['demo', 'rules', 'worker', 'xvault']);
    for (const [name, one] of own) {
      assert.deepEqual(one.cap_drop, ['ALL'], name);
      assert.equal(one.user, undefined, `${name}: the image says it`);
      if (name === 'demo') continue;
      const grace = Number.parseInt(one.stop_grace_period ?? '', 10);
      assertGrace(['serve'], one.environment ?? {}, grace, name);
      const limit = Number.parseInt(one.mem_limit ?? '', 10);
      assert.ok(limit >= Number(one.environment?.XVAULT_MEMORY_MIB) + OVERHEAD_MIB, name);
    }
    assert.deepEqual(services.xvault?.ports, ['127.0.0.1:8080:8080']);
    const others = Object.entries(services).filter(([name]) => name !== 'xvault');
    for (const [name, { ports }] of others) assert.equal(ports, undefined, name);
    // who does the work once, and who shares it
    assert.deepEqual(services.worker?.environment, services.xvault?.environment);
  });

  test('store and queue cannot reach out, and names and ports fit', () => {
    for (const name of ['store', 'queue']) {
      assert.deepEqual(services[name]?.networks, [name]);
      assert.deepEqual(networks[name], { internal: true });
    }
    const env = services.xvault?.environment ?? {};
    assert.equal(env.XVAULT_S3_ENDPOINT, 'http://store:8333');
    assert.equal(env.XVAULT_QUEUE_URL, 'redis://queue:6379');
    const bucket = services.bucket?.command[0] ?? '';
    assert.ok(bucket.includes(`s3.bucket.create -name ${env.XVAULT_BUCKET}'`));
    assert.ok(bucket.includes(`grep -w ${env.XVAULT_BUCKET}`));
    assert.ok(services.store?.command.includes('-s3.config=/run/secrets/store.json'));
  });
});

describe('make-secrets.sh', () => {
  const folder = mkdtempSync(join(tmpdir(), 'xvault-compose-'));
  after(() => rmSync(folder, { recursive: true }));
  mkdirSync(join(folder, 'infra/compose'), { recursive: true });
  const script = join(folder, 'infra/compose/make-secrets.sh');
  cpSync(new URL('../../infra/compose/make-secrets.sh', import.meta.url), script);
  const make = () => spawnSync('bash', [script], { input: 'pool secret\n', encoding: 'utf8' });
  const secret = (name: string) => readFileSync(join(folder, 'secrets', name), 'utf8');
  const names = ['pool-password', 's3-credentials', 'store.json', 'token'];

  test('writes what compose.yaml mounts, the same keys on both sides, and keeps what is there', () => {
    const first = make();
    assert.equal(first.status, 0, first.stderr);
    assert.equal(secret('pool-password'), 'pool secret');
    assert.ok(secret('token').length >= 48);
    const { identities } = JSON.parse(secret('store.json')) as {
      identities: { credentials: { accessKey: string; secretKey: string }[] }[];
    };
    const keys = readEnv(secret('s3-credentials').replaceAll(' = ', '=').split('\n'));
    assert.deepEqual(identities[0]?.credentials, [
      { accessKey: keys.aws_access_key_id, secretKey: keys.aws_secret_access_key },
    ]);
    assert.ok((keys.aws_secret_access_key ?? '').length >= 40);
    const before = names.map(secret);
    assert.equal(make().status, 0);
    assert.deepEqual(names.map(secret), before);
    assert.equal(statSync(join(folder, 'secrets')).mode & 0o777, 0o700);
    const { secrets } = composeFile.parse(parsed);
    assert.deepEqual(
      Object.values(secrets)
        .map(({ file }) => file.slice(10))
        .sort(),
      names,
    );
  });
});

test('what compose.yaml brings along is known', () => {
  assert.deepEqual(list('compose/*'), ['compose/example.env', 'compose/make-secrets.sh']);
});
