import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { findLeak } from '../test/security/leaks.ts';
import { inspectSettings } from './config.ts';
import { EVENTS } from './notices.ts';
import { NOTIFY_KINDS, wantedBy } from './notify-targets.ts';

const SECRET = 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw';
const ADDRESS = 'https://hooks.example.com/T0KEN-in-the-path';
const FILES: Record<string, string> = {
  '/run/url': `${ADDRESS}\n`,
  '/run/empty': '',
  '/run/password': 'mail-secret\n',
  '/run/ca.pem': '-----BEGIN CERTIFICATE-----',
};

function read(targets: unknown) {
  const readFile = (path: string) => {
    if (path === '/etc/notify.json') {
      return typeof targets === 'string' ? targets : JSON.stringify(targets);
    }
    const text = FILES[path];
    if (text === undefined) throw Object.assign(new Error('no file'), { code: 'ENOENT' });
    return text;
  };
  return inspectSettings({ env: { XVAULT_NOTIFY_FILE: '/etc/notify.json' }, readFile });
}

test('each kind of target is read, secrets from the file or from files of their own', () => {
  const { settings, mistakes } = read([
    { name: 'hub', kind: 'webhook', url: ADDRESS, secret: `${SECRET},${SECRET}` },
    { name: 'bus', kind: 'cloudevents', url_file: '/run/url', token: 'bearer' },
    { name: 'ops', kind: 'slack', url_file: '/run/url', events: ['*.failed', 'backup.*'] },
    { name: 'team', kind: 'mattermost', url: 'http://10.0.0.9/hooks/x', insecure: true },
    { name: 'db', kind: 'healthchecks', url: ADDRESS, vms: ['db-1'], ca_file: '/run/ca.pem' },
    {
      name: 'mail',
      kind: 'email',
      server: 'smtp://mail.example.com',
      username: 'xvault',
      password_file: '/run/password',
      from: 'Backups <xvault@example.com>',
      to: 'ops@example.com',
    },
  ]);
  assert.deepEqual(mistakes, []);
  const [hub, bus, ops, team, db, mail] = settings?.notify ?? [];
  assert.ok(hub?.kind === 'webhook' && bus?.kind === 'cloudevents' && mail?.kind === 'email');
  assert.equal(hub.secrets.length, 2);
  assert.equal(hub.events.size, EVENTS.length);
  assert.equal(bus.url.reveal(), ADDRESS);
  assert.deepEqual([...(ops?.events ?? [])].sort(), [
    'backup.cancelled',
    'backup.failed',
    'backup.started',
    'backup.succeeded',
    'restore.failed',
    'verify.failed',
  ]);
  assert.equal(team?.events.has('backup.succeeded'), false, 'people hear of what is worth a look');
  assert.deepEqual(mail.server, { host: 'mail.example.com', port: 587, tls: false });
  assert.equal(mail.login?.password.reveal(), 'mail-secret');
  const vm = { uuid: 'u', name: 'db-1', pool: 'p' };
  assert.ok(db);
  assert.deepEqual(wantedBy([db], { event: 'backup.started', vm }), ['db']);
  assert.deepEqual(wantedBy([db], { event: 'backup.started', vm: { ...vm, name: 'web' } }), []);
  assert.deepEqual(wantedBy([db], { event: 'restore.started', vm }), []);
  assert.deepEqual(wantedBy([db], { event: 'restore.started', vm, chat: db.kind }), ['db']);
});

const slack = { name: 'ops', kind: 'slack', url: ADDRESS };
const email = {
  name: 'mail',
  kind: 'email',
  server: 'smtp://mail.example.com',
  from: 'x@example.com',
  to: ['o@example.com'],
};

const MISTAKES: [string, unknown, RegExp][] = [
  ['no JSON', `[{"url": "${ADDRESS}"`, /XVAULT_NOTIFY_FILE the file is no JSON/],
  ['no list', {}, /expected array/i],
  ['an empty list', [], /XVAULT_NOTIFY_FILE/],
  ['an unknown kind', [{ ...slack, kind: 'pigeon' }], /kind: one of webhook, .*healthchecks/],
  ['an unknown field', [{ ...slack, channel: '#ops' }], /channel/],
  ['a bad name', [{ ...slack, name: 'a b' }], /0\.name: letters, digits/],
  ['a name twice', [slack, slack], /\(ops\) names of targets must differ/],
  ['no address', [{ name: 'ops', kind: 'slack' }], /\(ops\) set url or url_file/],
  ['two addresses', [{ ...slack, url_file: '/run/url' }], /\(ops\) set url or url_file/],
  [
    'a file that is not there',
    [{ name: 'ops', kind: 'slack', url_file: '/x' }],
    /\(ops: url_file\)/,
  ],
  ['an empty file', [{ name: 'ops', kind: 'slack', url_file: '/run/empty' }], /the file is empty/],
  ['no URL', [{ ...slack, url: 'hooks' }], /\(ops\) url: not a URL/],
  ['plain HTTP', [{ ...slack, url: 'http://a/T0KEN-in-the-path' }], /"insecure": true allows/],
  ['another scheme', [{ ...slack, url: 'ftp://a/' }], /not https/],
  ['a password in the URL', [{ ...slack, url: 'https://u:p@a/' }], /user or password/],
  [
    'an event that is none',
    [{ ...slack, events: ['backup.faild'] }],
    /did you mean backup\.failed\?/,
  ],
  ['a webhook without secret', [{ ...slack, kind: 'webhook' }], /set secret or secret_file/],
  ['a bad secret', [{ ...slack, kind: 'webhook', secret: 'whsec_x' }], /expected whsec_/],
  ['a mail server that is none', [{ ...email, server: 'mail' }], /expected smtp:\/\/host:587/],
  ['a password without a user', [{ ...email, password: 'mail-secret' }], /belong together/],
  ['no mail address', [{ ...email, to: ['ops'] }], /e-mail address/],
  ['a header in an address', [{ ...email, to: ['o@example.com\r\nBcc: x@y.z'] }], /e-mail address/],
];

test('every mistake names its target and tells no secret', () => {
  for (const [what, targets, says] of MISTAKES) {
    const { mistakes } = read(targets);
    const text = mistakes.map(({ name, message }) => `${name} ${message}`).join('\n');
    assert.match(text, says, what);
    const secrets = { path: 'T0KEN-in-the-path', password: 'mail-secret' };
    assert.equal(findLeak([JSON.stringify(mistakes)], secrets), undefined, what);
  }
});

test('the page tells of every event and every kind of target', () => {
  const page = readFileSync(new URL('../docs/notifications.md', import.meta.url), 'utf8');
  for (const name of [...EVENTS, ...NOTIFY_KINDS]) assert.ok(page.includes(`\`${name}\``), name);
});
