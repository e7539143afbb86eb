import assert from 'node:assert/strict';
import { test } from 'node:test';
import { inspect } from 'node:util';
import { inspectSettings } from './config.ts';

const SECRET = 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw';
const ALLOW = 'https://db-1.example.com/hooks,10.0.0.0/24';

function read(env: Record<string, string>) {
  return inspectSettings({ env, readFile: (path) => `content of ${path}\n` });
}

test('without an allow list there are no hooks', () => {
  const { settings, mistakes } = read({ XVAULT_HOOK_SECRET: SECRET });
  assert.deepEqual(mistakes, []);
  assert.equal(settings?.hooks, undefined);
});

test('list, secrets, time-out and CA are read', () => {
  const { settings, mistakes } = read({
    XVAULT_HOOK_ALLOW: ALLOW,
    XVAULT_HOOK_SECRET: `${SECRET}, whsec_${Buffer.alloc(64).toString('base64')}`,
    XVAULT_HOOK_TIMEOUT_SECONDS: '60',
    XVAULT_HOOK_CA_FILE: '/ca.pem',
  });
  assert.deepEqual(mistakes, []);
  assert.equal(settings?.hooks?.secrets[0]?.reveal(), SECRET);
  assert.equal(settings?.hooks?.secrets.length, 2);
  assert.equal(settings?.hooks?.timeoutMs, 60_000);
  assert.equal(settings?.hooks?.caPem, 'content of /ca.pem\n');
  assert.equal(settings?.hooks?.allow.targets.length, 1);
});

test('an allow list needs a secret, and the mistake says how to make one', () => {
  const [mistake, ...more] = read({ XVAULT_HOOK_ALLOW: ALLOW }).mistakes;
  assert.equal(more.length, 0);
  assert.equal(mistake?.name, 'XVAULT_HOOK_SECRET');
  assert.match(mistake?.message ?? '', /XVAULT_HOOK_ALLOW/);
});

test('every wrong entry of the list is a mistake of its own', () => {
  const { mistakes } = read({
    XVAULT_HOOK_ALLOW: 'https://*.example.com,nonsense,https://good.example.com',
    XVAULT_HOOK_SECRET: SECRET,
  });
  assert.deepEqual(
    mistakes.map(({ name }) => name),
    ['XVAULT_HOOK_ALLOW', 'XVAULT_HOOK_ALLOW'],
  );
  assert.match(mistakes.map(({ message }) => message).join(), /wildcards.*nonsense/);
});

for (const wrong of ['tooshort', 'whsec_AAAA', 'whsec_!!', `whsec_${'A'.repeat(100)}`]) {
  test(`the secret ${wrong.slice(0, 12)} is refused without being printed`, () => {
    const report = read({ XVAULT_HOOK_ALLOW: ALLOW, XVAULT_HOOK_SECRET: wrong });
    assert.equal(report.mistakes[0]?.name, 'XVAULT_HOOK_SECRET');
    assert.equal(inspect(report, { depth: 9 }).includes(wrong), false);
  });
}

test('the secret is masked wherever settings are shown', () => {
  const report = read({ XVAULT_HOOK_ALLOW: ALLOW, XVAULT_HOOK_SECRET: SECRET });
  assert.equal(inspect(report, { depth: 9 }).includes(SECRET), false);
  assert.equal(JSON.stringify(report).includes(SECRET), false);
});
