/**
 * The ready-made files of infra/: each is parsed as its users' programs would, names only settings and commands there are, and
 * says what the code says. What a cluster or a cloud makes of them is not seen from here.
 */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { PutBucketLifecycleConfigurationCommand, S3Client } from '@aws-sdk/client-s3';
import { NODE_FLAGS } from '../../bench/measure.ts';
import { r2Rules, s3Rules } from '../../infra/rules.ts';
import { createArena } from '../../src/arena.ts';
import { ALL_RULES } from '../../src/bucket-rule.ts';
import { createKeys } from '../../src/catalog/keys.ts';
import { planRotation, wantedRules } from '../../src/catalog/rotation.ts';
import { systemClock } from '../../src/clock.ts';
import { inspectSettings } from '../../src/config.ts';
import { createS3Store } from '../../src/s3/store.ts';
import { DEFAULT_ROTATION } from '../../src/settings-rotation.ts';
import { NEVER } from '../../src/signals.ts';
import { UNIT_BYTES } from '../conformance/store-target.ts';
import { createTestLog, silentMeter } from '../e2e/world.ts';
import { readPolicy } from '../security/policy.ts';
import { startSimS3 } from '../sim/s3/index.ts';
import { at, list, read, readEnv, readTofu, readUnit } from './files.ts';
import { assertCommand, assertGrace, assertSettings, assertStarts, OVERHEAD_MIB } from './held.ts';

const MIB = 1_048_576;
describe('rules', () => {
  test('the files are those the code makes: npm run docs writes them', () => {
    assert.equal(read('lifecycle.json'), s3Rules());
    assert.equal(read('r2/lifecycle.json'), r2Rules());
  });

  test('where they were set, xvault lifecycle finds nothing to change', async () => {
    await using sim = await startSimS3({ buckets: ['vm-backups'] });
    const { endpoint, region, accessKeyId, secretAccessKey } = sim;
    const access = { endpoint, region, credentials: { accessKeyId, secretAccessKey } };
    const store = createS3Store(
      { ...access, bucket: 'vm-backups', prefix: '' },
      {
        clock: systemClock,
        log: createTestLog(),
        arena: createArena({ totalBytes: UNIT_BYTES, unitBytes: UNIT_BYTES }),
        meter: silentMeter,
      },
    );
    const client = new S3Client({ ...access, forcePathStyle: true });
    const { settings } = inspectSettings({ env: {} });
    const { Rules } = JSON.parse(read('lifecycle.json')) as { Rules: { ID: string }[] };
    for (const versioned of [true, false]) {
      const some = Rules.filter(({ ID }) => versioned || !ID.startsWith('xvault:versions-'));
      const LifecycleConfiguration = { Rules: some as never };
      const input = { Bucket: 'vm-backups', LifecycleConfiguration };
      await client.send(new PutBucketLifecycleConfigurationCommand(input));
      const { changes, warnings } = planRotation({
        found: (await store.lifecycle({ signal: NEVER })) ?? [],
        wish: {
          keys: createKeys(''),
          retentionDays: settings?.retentionDays ?? {},
          rotation: DEFAULT_ROTATION,
          holds: { archives: true, state: true },
          versioned,
        },
        limits: ALL_RULES,
        classesInUse: [],
      });
      assert.deepEqual(
        changes.filter(({ action }) => action !== 'keep'),
        [],
      );
      assert.deepEqual(warnings, []);
    }
    client.destroy();
    store.close();
  });

  test('locks of R2 end before their class does, and leave state alone', () => {
    const { rules } = JSON.parse(read('r2/lock.json')) as { rules: object[] };
    const days = inspectSettings({ env: {} }).settings?.retentionDays ?? {};
    assert.ok(rules.length > 0);
    for (const rule of rules) {
      const [, name = ''] = /^backups\/([a-z]+)\/$/.exec(String(at(rule, 'prefix'))) ?? [];
      const seconds = Number(at(rule, 'condition', 'maxAgeSeconds'));
      assert.ok(seconds > 0 && seconds / 86_400 < (days[name] ?? 0), name);
      assert.equal(at(rule, 'condition', 'type'), 'Age');
    }
  });
});

describe('OpenTofu', () => {
  test('every file parses; the bucket is private, encrypted, and kept', async () => {
    const files = list('tofu/aws/*.tf');
    assert.deepEqual(
      files.map((file) => file.split('/').at(-1)),
      ['main.tf', 'outputs.tf', 'policies.tf', 'variables.tf'],
    );
    const main = await readTofu('tofu/aws/main.tf');
    const one = (type: string, name = 'this') => at(main, 'resource', type, name, 0);
    const access = one('aws_s3_bucket_public_access_block') as Record<string, unknown>;
    const walls = Object.entries(access).filter(([name]) => /^(block|ignore|restrict)_/.test(name));
    assert.deepEqual(
      walls.map(([, value]) => value),
      [true, true, true, true],
    );
    assert.equal(at(one('aws_s3_bucket'), 'lifecycle', 0, 'prevent_destroy'), true);
    assert.equal(
      at(one('aws_s3_bucket_ownership_controls'), 'rule', 0, 'object_ownership'),
      'BucketOwnerEnforced',
    );
    const encryption = at(
      one('aws_s3_bucket_server_side_encryption_configuration'),
      'rule',
      0,
      'apply_server_side_encryption_by_default',
      0,
      'sse_algorithm',
    );
    assert.match(String(encryption), /"AES256" : "aws:kms"/);
    for (const type of ['aws_s3_bucket_policy', 'aws_s3_bucket_lifecycle_configuration']) {
      assert.equal(at(one(type), 'for_each'), `$\{aws_s3_bucket.this}`, type);
    }
    const https = at(main, 'data', 'aws_iam_policy_document', 'https_only', 0, 'statement', 0);
    assert.equal(at(https, 'condition', 0, 'variable'), 'aws:SecureTransport');
  });

  test('rules and policies are the files of infra/, and every name in these is replaced', async () => {
    const main = read('tofu/aws/main.tf');
    const text = read('tofu/aws/policies.tf');
    const named = [...(main + text).matchAll(/file\("\$\{path\.module\}\/\.\.\/\.\.\/([^"]+)"\)/g)];
    assert.deepEqual(named.map(([, name]) => name).sort(), [
      'admin-policy.json',
      'bucket-policy.json',
      'lifecycle.json',
      'restore-policy.json',
    ]);
    const policies = await readTofu('tofu/aws/policies.tf');
    assert.equal(at(policies, 'locals', 0, 'example'), 'arn:aws:s3:::vm-backups');
    const keys = createKeys('');
    const rules = wantedRules(
      {
        keys,
        retentionDays: {},
        rotation: DEFAULT_ROTATION,
        holds: { archives: false, state: true },
        versioned: false,
      },
      ALL_RULES,
    ).rules.map(({ prefix }) => prefix);
    // leases go by themselves; trial objects lie in both buckets
    const state = [...rules.filter((prefix) => prefix !== keys.probePrefix), keys.leasesPrefix];
    const [, folders = ''] = /state_folders = (\[.+\])/.exec(main) ?? [];
    assert.deepEqual((JSON.parse(folders) as string[]).toSorted(), state.toSorted());
    const [, names = ''] = /vm-backups\\\\\/\(([a-z|]+)\)/.exec(text) ?? [];
    assert.deepEqual(
      names
        .split('|')
        .map((name) => `${name}/`)
        .sort(),
      state.toSorted(),
    );
  });

  test('the settings it gives exist', async () => {
    const outputs = await readTofu('tofu/aws/outputs.tf');
    const value = String(at(outputs, 'output', 'settings', 0, 'value'));
    const names = value.match(/XVAULT_\w+/g) ?? [];
    assert.ok(names.length >= 5);
    assertSettings(names, 'outputs.tf');
    const variables = await readTofu('tofu/aws/variables.tf');
    const days = at(variables, 'variable', 'retention_days', 0, 'default');
    assert.deepEqual(days, inspectSettings({ env: {} }).settings?.retentionDays);
  });
});

test('who restores cannot write or delete a backup, and who sets rules can do nothing else', () => {
  const actionsOn = (file: Parameters<typeof readPolicy>[2], folder: string) =>
    readPolicy('b', '', file)
      .Statement.filter(({ Resource }) => Resource.some((arn) => arn.includes(`b/${folder}`)))
      .flatMap(({ Action }) => Action);
  for (const folder of ['backups/', 'pinned/']) {
    assert.deepEqual(actionsOn('restore-policy.json', folder), ['s3:GetObject']);
    assert.deepEqual(actionsOn('admin-policy.json', folder), ['s3:GetObject']);
  }
  const changes = readPolicy('b', '', 'admin-policy.json')
    .Statement.flatMap(({ Action }) => Action)
    .filter((action) => !/^s3:(Get|List)/.test(action));
  assert.deepEqual(changes, ['s3:PutLifecycleConfiguration']);
  for (const file of ['restore-policy.json', 'admin-policy.json'] as const) {
    for (const { Action } of readPolicy('b', '', file).Statement) {
      assert.ok(!Action.some((action) => action.includes('*')), file);
    }
  }
});

describe('systemd', () => {
  const file = readEnv(read('systemd/xvault.env').split('\n'));

  for (const name of ['xvault.service', 'xvault-run@.service']) {
    test(`${name}: xvault starts with what it is given, and writes nothing`, async () => {
      const { Service = {} } = readUnit(`systemd/${name}`);
      const { NODE_OPTIONS, ...own } = readEnv(Service.Environment ?? []);
      assertStarts({ ...file, ...own }, name);
      assert.equal(NODE_OPTIONS, NODE_FLAGS.join(' '));
      const credentials = (Service.LoadCredential ?? []).map((text) => text.split(':')[0]);
      const used = Object.values(own).map((path) => path.replace('%d/', ''));
      assert.deepEqual(used, credentials);
      const [, words = ''] =
        /^\/usr\/bin\/env xvault (.+)$/.exec(Service.ExecStart?.[0] ?? '') ?? [];
      const command = words.replace('%I', 'web-1').split(' ');
      await assertCommand(command, name);
      assertGrace(command, file, Number(Service.TimeoutStopSec?.[0]), name);
      const limit = Number.parseInt(Service.MemoryMax?.[0] ?? '', 10);
      assert.ok(limit * MIB >= (Number(file.XVAULT_MEMORY_MIB) + OVERHEAD_MIB) * MIB);
      for (const wall of ['DynamicUser', 'NoNewPrivileges', 'PrivateTmp', 'PrivateDevices']) {
        assert.deepEqual(Service[wall], ['yes'], wall);
      }
      assert.deepEqual(Service.ProtectSystem, ['strict']);
    });
  }

  test('systemd itself finds nothing wrong', async (t) => {
    const folder = mkdtempSync(join(tmpdir(), 'xvault-units-'));
    t.after(() => rmSync(folder, { recursive: true }));
    const units = ['xvault.service', 'xvault-run@.service', 'xvault-run@.timer'].map((name) => {
      const path = join(folder, name.replace('@', '@web-1'));
      writeFileSync(path, read(`systemd/${name}`));
      return path;
    });
    const { error, stderr } = spawnSync('systemd-analyze', ['verify', ...units], {
      encoding: 'utf8',
    });
    if (error) return t.skip('no systemd-analyze here');
    // others' units, which ours come after, may have faults of their own
    assert.deepEqual(
      stderr.split('\n').filter((line) => line.includes('xvault')),
      [],
    );
  });

  test('the timer starts the unit of its name, and makes up for nights that were missed', () => {
    const { Timer = {}, Install = {} } = readUnit('systemd/xvault-run@.timer');
    assert.deepEqual(Timer.Persistent, ['true']);
    assert.deepEqual(Install.WantedBy, ['timers.target']);
    assert.ok(Timer.OnCalendar?.[0]);
  });
});

test('everywhere Node is started as the bench starts it', () => {
  const flags = NODE_FLAGS.join(' ');
  const { scripts } = JSON.parse(read('../package.json')) as { scripts: Record<string, string> };
  assert.equal(scripts.start, `node ${flags} src/main.ts serve`);
  assert.equal(scripts.xvault, `node ${flags} src/main.ts`);
  const [, entry = ''] = /^ENTRYPOINT (.+)$/m.exec(read('../Dockerfile')) ?? [];
  const [node, ...rest] = JSON.parse(entry) as string[];
  assert.deepEqual([node, ...rest.slice(0, NODE_FLAGS.length)], ['node', ...NODE_FLAGS]);
  assert.ok(read('../docs/deploy.md').includes(`NODE_OPTIONS='${flags}'`));
});

test('each folder says in a few lines how it is used, and docs/deploy.md leads there', () => {
  const page = read('../docs/deploy.md');
  for (const folder of ['tofu/aws', 'r2', 'kubernetes', 'platforms', 'systemd']) {
    const text = read(`${folder}/README.md`);
    assert.ok(text.split('\n').length <= 22, folder);
    assert.ok(page.includes(`../infra/${folder}`), `docs/deploy.md does not name infra/${folder}`);
  }
});
