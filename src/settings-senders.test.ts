import assert from 'node:assert/strict';
import { test } from 'node:test';
import { inspectSettings } from './config.ts';

const WHSEC = `whsec_${Buffer.alloc(32, 7).toString('base64')}`;

function sendersOf(env: Record<string, string>) {
  const { settings, mistakes } = inspectSettings({ env });
  assert.deepEqual(mistakes, []);
  return settings?.senders ?? {};
}

test('no sender may call unless it has a secret', () => {
  assert.deepEqual(sendersOf({}), {});
  assert.deepEqual(sendersOf({ XVAULT_HOOK_GITHUB_VMS: 'web-*' }), {});
});

test('each sender has its own secrets, machines and people', () => {
  const senders = sendersOf({
    XVAULT_HOOK_STANDARD_SECRET: `${WHSEC}, ${WHSEC}`,
    XVAULT_HOOK_STANDARD_VMS: 'web-*, db-1',
    XVAULT_HOOK_SLACK_SECRET: '8f742231b10e8888abcd99yyyzzz85a5',
    XVAULT_HOOK_SLACK_USERS: '{"U1": ["run"], "*": []}',
    XVAULT_HOOK_MATTERMOST_TOKEN: 'bfoyy3cfobf8pxgbumogbsp8hr',
    XVAULT_HOOK_MATTERMOST_URL: 'https://chat.example.com/',
  });
  assert.deepEqual(Object.keys(senders), ['standard', 'slack', 'mattermost']);
  assert.equal(senders.standard?.secrets.length, 2);
  assert.deepEqual(senders.standard?.vms, ['web-*', 'db-1']);
  assert.deepEqual(senders.slack?.users, { U1: ['run'], '*': [] });
  assert.deepEqual(senders.mattermost?.users, { '*': ['status', 'list'] });
  assert.deepEqual(senders.mattermost?.replyOrigins, ['https://chat.example.com']);
  assert.equal(JSON.stringify(senders).includes('whsec_'), false);
});

test('what would let in strangers, or nobody, is a mistake by name', () => {
  const wrong: Record<string, string> = {
    XVAULT_HOOK_STANDARD_SECRET: 'whsec_c2hvcnQ=',
    XVAULT_HOOK_STANDARD_VMS: '*-db',
    XVAULT_HOOK_GITHUB_SECRET: 'short',
    XVAULT_HOOK_GITHUB_VMS: 'web-1,,db-1',
    XVAULT_HOOK_SLACK_SECRET: '8f742231b10e8888abcd99yyyzzz85a5,',
    XVAULT_HOOK_SLACK_USERS: '{"U1": ["restore"]}',
    XVAULT_HOOK_SLACK_VMS: ',',
    XVAULT_HOOK_MATTERMOST_TOKEN: 'bfoyy3cfobf8',
    XVAULT_HOOK_MATTERMOST_URL: 'chat.example.com',
    XVAULT_HOOK_MATTERMOST_USERS: 'everybody',
  };
  const { mistakes } = inspectSettings({ env: wrong });
  assert.deepEqual(
    [...new Set(mistakes.map(({ name }) => name))].sort(),
    Object.keys(wrong).sort(),
  );
});

test('a secret is taken from a file, and printed nowhere', () => {
  const { settings, sources } = inspectSettings({
    env: { XVAULT_HOOK_GITHUB_SECRET_FILE: '/run/secrets/hook' },
    readFile: () => 'a-secret-of-some-length\n',
  });
  assert.equal(settings?.senders.github?.secrets[0]?.reveal(), 'a-secret-of-some-length');
  const shown = sources.find(({ name }) => name === 'XVAULT_HOOK_GITHUB_SECRET');
  assert.deepEqual([shown?.value, shown?.source], ['***', 'file']);
});
