import assert from 'node:assert/strict';
import { test } from 'node:test';
import { inspect } from 'node:util';
import { inspectSettings, readSettings } from './config.ts';
import { isBackupError } from './errors.ts';

const POOL = {
  XVAULT_POOL_URL: 'https://10.0.0.11',
  XVAULT_POOL_USERNAME: 'xvault',
  XVAULT_POOL_PASSWORD: 'hunter2-hunter2',
};
const FULL = { ...POOL, XVAULT_BUCKET: 'vm-backups' };
const ALL = ['pools', 'bucket', 'access'] as const;
const DIGEST = 'ab'.repeat(32);

function read(env: Record<string, string>, files: Record<string, string> = {}) {
  return inspectSettings({
    env,
    needs: ALL,
    readFile: (path) => {
      const text = files[path];
      if (text === undefined) throw Object.assign(new Error('no such file'), { code: 'ENOENT' });
      return text;
    },
  });
}

function settingsOf(env: Record<string, string>, files: Record<string, string> = {}) {
  const report = read(env, files);
  assert.deepEqual(report.mistakes, []);
  assert.ok(report.settings);
  return report.settings;
}

test('the defaults are those of the documentation', () => {
  const settings = settingsOf(FULL);
  assert.equal(settings.listen.host, '127.0.0.1');
  assert.equal(settings.listen.port, 8080);
  assert.equal(settings.memoryBytes, 256 * 1_048_576);
  assert.deepEqual(
    [settings.concurrency, settings.concurrencyPerPool, settings.concurrencyPerSr],
    [4, 2, 1],
  );
  assert.deepEqual(settings.retentionDays, { daily: 14, weekly: 60, monthly: 400, yearly: 2600 });
  assert.equal(settings.drainMs, 30_000);
  assert.equal(settings.pools[0]?.name, 'default');
  assert.deepEqual(settings.pools[0]?.trust, { kind: 'system' });
  assert.equal(settings.bucket.pathStyle, false);
});

test('prices and the share of seams are read, and mistakes in them named', () => {
  const settings = settingsOf({
    ...FULL,
    XVAULT_SEAM_CHECK_PERCENT: '12.5',
    XVAULT_S3_PRICES:
      '{"currency":"EUR","as_of":"ours","upload_per_1000":1,"copy_per_1000":2,"read_per_1000":0}',
  });
  assert.equal(settings.seamCheckPercent, 12.5);
  assert.equal(settings.prices.copy_per_1000, 2);
  assert.equal(settings.prices.sent_per_gb, 0);
  assert.equal(settingsOf(FULL).prices.currency, 'USD');
  const { mistakes } = read({
    ...FULL,
    XVAULT_SEAM_CHECK_PERCENT: '101',
    XVAULT_S3_PRICES: '{"currency":"EUR"}',
  });
  const names = new Set(mistakes.map(({ name }) => name));
  assert.deepEqual([...names].sort(), ['XVAULT_S3_PRICES', 'XVAULT_SEAM_CHECK_PERCENT']);
});

test('the settings of rotation are read, and mistakes in them named', () => {
  const { settings } = read({
    ...FULL,
    XVAULT_TIME_ZONE: 'Europe/Berlin',
    XVAULT_TRANSITIONS: '{"monthly":{"days":30,"storage_class":"STANDARD_IA"}}',
  });
  assert.equal(settings?.rotation.timeZone, 'Europe/Berlin');
  assert.equal(settings?.rotation.transitions.monthly?.storage_class, 'STANDARD_IA');
  assert.equal(settings?.rotation.noncurrentDays, 7);
  const { mistakes } = read({
    ...FULL,
    XVAULT_TIME_ZONE: 'Europe/Bonn',
    XVAULT_TRANSITIONS: '{"monthly":{"days":30}}',
    XVAULT_NONCURRENT_DAYS: '0',
    XVAULT_RETENTION_DAYS: '{"auto":3}',
  });
  assert.deepEqual(mistakes.map(({ name }) => name).sort(), [
    'XVAULT_NONCURRENT_DAYS',
    'XVAULT_RETENTION_DAYS',
    'XVAULT_TIME_ZONE',
    'XVAULT_TRANSITIONS',
  ]);
  assert.match(JSON.stringify(mistakes), /auto is no class/);
});

test('every mistake is reported at once, each with its name and an example', () => {
  const { mistakes, settings } = read({
    XVAULT_LISTEN: 'nowhere',
    XVAULT_CONCURRENCY: 'many',
    XVAULT_POOL_URL: 'ftp://x',
    XVAULT_RETENTION_DAYS: '{"Daily": 3}',
    XVAULT_PREFIX: '/a b',
  });
  assert.equal(settings, undefined);
  const names = mistakes.map((mistake) => mistake.name).sort();
  assert.deepEqual(names, [
    'XVAULT_BUCKET',
    'XVAULT_CONCURRENCY',
    'XVAULT_LISTEN',
    'XVAULT_POOL_PASSWORD',
    'XVAULT_POOL_URL',
    'XVAULT_POOL_USERNAME',
    'XVAULT_PREFIX',
    'XVAULT_RETENTION_DAYS',
  ]);
  assert.ok(mistakes.every((mistake) => mistake.example?.includes('XVAULT_')));
});

test('readSettings throws one configuration error that names them all', () => {
  assert.throws(
    () => readSettings({ env: {}, needs: ALL }),
    (error) =>
      isBackupError(error, 'configuration') &&
      /XVAULT_POOL_URL[\s\S]*XVAULT_BUCKET/.test(error.message),
  );
});

test('a secret comes from NAME_FILE without its last newline', () => {
  const { XVAULT_POOL_PASSWORD: _, ...rest } = FULL;
  const files = { '/run/p': 'two\nlines\n' };
  const settings = settingsOf({ ...rest, XVAULT_POOL_PASSWORD_FILE: '/run/p' }, files);
  assert.equal(settings.pools[0]?.password.reveal(), 'two\nlines');
});

test('a secret set both ways is a mistake', () => {
  const { mistakes } = read({ ...FULL, XVAULT_POOL_PASSWORD_FILE: '/run/p' }, { '/run/p': 'x' });
  assert.deepEqual(
    mistakes.map((mistake) => mistake.message),
    ['set XVAULT_POOL_PASSWORD or XVAULT_POOL_PASSWORD_FILE, not both'],
  );
});

test('an unreadable or empty secret file is one mistake, with its path', () => {
  const { XVAULT_POOL_PASSWORD: _, ...rest } = FULL;
  const missing = read({ ...rest, XVAULT_POOL_PASSWORD_FILE: '/gone' }).mistakes;
  assert.equal(missing.length, 1);
  assert.match(missing[0]?.message ?? '', /path=\/gone reason=ENOENT/);
  const empty = read({ ...rest, XVAULT_POOL_PASSWORD_FILE: '/e' }, { '/e': '\n' }).mistakes;
  assert.match(empty[0]?.message ?? '', /the file is empty/);
});

test('secrets print as *** wherever they end up', () => {
  const settings = settingsOf({ ...FULL, XVAULT_TOKEN: 'long-enough-for-a-token' });
  for (const text of [
    JSON.stringify(settings),
    inspect(settings, { depth: 9 }),
    `${settings.pools[0]?.password}`,
    JSON.stringify(read({ ...FULL, XVAULT_TOKEN: 'long-enough-for-a-token' }).sources),
  ]) {
    assert.ok(!text.includes('hunter2') && !text.includes('long-enough'), text);
  }
});

test('each value has its source', () => {
  const { sources } = read({ ...FULL, XVAULT_TOKEN_FILE: '/t' }, { '/t': 'abc' });
  const of = (name: string) => sources.find((source) => source.name === name);
  assert.deepEqual(of('XVAULT_BUCKET'), {
    name: 'XVAULT_BUCKET',
    value: 'vm-backups',
    source: 'environment',
  });
  assert.equal(of('XVAULT_TOKEN')?.source, 'file');
  assert.equal(of('XVAULT_TOKEN')?.value, '***');
  assert.equal(of('XVAULT_CONCURRENCY')?.source, 'default');
  assert.equal(of('XVAULT_URL')?.source, 'unset');
});

test('an empty variable counts as unset', () => {
  assert.equal(settingsOf({ ...FULL, XVAULT_CONCURRENCY: '', XVAULT_TOKEN: '' }).concurrency, 4);
});

test('without tokens the address has to be a loopback one', () => {
  for (const listen of ['0.0.0.0:8080', '[::]:8080', '10.0.0.5:80', 'example.com:80']) {
    const { mistakes } = read({ ...FULL, XVAULT_LISTEN: listen });
    assert.deepEqual(
      mistakes.map((mistake) => mistake.name),
      ['XVAULT_TOKEN'],
      listen,
    );
    settingsOf({ ...FULL, XVAULT_LISTEN: listen, XVAULT_TOKEN: 'abcabcabcabcabcabc' });
  }
  for (const listen of ['127.0.0.1:1', '127.9.9.9:1', '[::1]:1', 'localhost:1']) {
    assert.equal(settingsOf({ ...FULL, XVAULT_LISTEN: listen }).listen.loopback, true, listen);
  }
});

test('XVAULT_TOKEN has every scope but restore', () => {
  const [token] = settingsOf({ ...FULL, XVAULT_TOKEN: 'abc' }).tokens;
  assert.deepEqual(token?.scopes, ['backup', 'read', 'admin']);
  assert.match(token?.sha256 ?? '', /^ba7816bf8f01cfea414140de5dae2223/);
});

test('a path behind the endpoint is a bucket in the wrong place, but for local servers', () => {
  const at = (XVAULT_S3_ENDPOINT: string) => read({ ...FULL, XVAULT_S3_ENDPOINT }).mistakes;
  assert.match(at('https://a.r2.cloudflarestorage.com/xvault')[0]?.message ?? '', /XVAULT_BUCKET/);
  assert.deepEqual(at('http://127.0.0.1:8787/cdn-cgi/local/r2/s3'), []);
});

test('tokens may be given without a file, and not in two places', () => {
  const good = [{ name: 'ci', sha256: DIGEST, scopes: ['restore'] }];
  const env = { ...FULL, XVAULT_TOKENS: JSON.stringify(good) };
  assert.deepEqual(
    settingsOf(env).tokens.filter(({ name }) => name === 'ci'),
    good,
  );
  assert.match(read({ ...env, XVAULT_TOKENS: '{' }).mistakes[0]?.message ?? '', /no JSON/);
  const both = read({ ...env, XVAULT_TOKENS_FILE: '/t' }, { '/t': JSON.stringify(good) });
  assert.match(both.mistakes[0]?.message ?? '', /not both/);
});

test('the tokens file is read, and what is wrong in it is named', () => {
  const good = [{ name: 'ci', sha256: DIGEST.toUpperCase(), scopes: ['backup'] }];
  const env = { ...FULL, XVAULT_TOKENS_FILE: '/t' };
  assert.deepEqual(settingsOf(env, { '/t': JSON.stringify(good) }).tokens, [
    { name: 'ci', sha256: DIGEST, scopes: ['backup'] },
  ]);
  const bad = [{ name: 'ci', sha256: 'x', scopes: ['root'], extra: 1 }];
  const { mistakes } = read(env, { '/t': JSON.stringify(bad) });
  const text = mistakes.map((mistake) => mistake.message).join('\n');
  assert.match(text, /0\.sha256/);
  assert.match(text, /0\.scopes\.0/);
  assert.match(text, /extra/);
  assert.match(read(env, { '/t': '{' }).mistakes[0]?.message ?? '', /no JSON/);
});

test('several pools come from XVAULT_POOLS_FILE', () => {
  const pools = [
    { name: 'a', url: 'https://1.1.1.1, https://1.1.1.2', username: 'u', password: 'p' },
    { name: 'b', url: ['https://2.2.2.2'], username: 'u', password_file: '/p', insecure: true },
  ];
  const env = { XVAULT_BUCKET: 'b-b', XVAULT_POOLS_FILE: '/pools' };
  const files = { '/pools': JSON.stringify({ pools }), '/p': 'secret\n' };
  const settings = settingsOf(env, files);
  assert.deepEqual(settings.pools[0]?.urls, ['https://1.1.1.1', 'https://1.1.1.2']);
  assert.equal(settings.pools[1]?.password.reveal(), 'secret');
  assert.deepEqual(settings.pools[1]?.trust, { kind: 'insecure' });
  assert.match(read({ ...env, ...POOL }, files).mistakes[0]?.message ?? '', /not both/);
  const twice = JSON.stringify([pools[0], pools[0]]);
  assert.match(read(env, { '/pools': twice }).mistakes[0]?.message ?? '', /must differ/);
  const none = JSON.stringify([{ name: 'a', url: 'https://1.1.1.1', username: 'u' }]);
  assert.match(read(env, { '/pools': none }).mistakes[0]?.message ?? '', /password_file/);
});

test('one kind of trust at most, and a fingerprint in any usual spelling', () => {
  const print = DIGEST.toUpperCase().replace(/(..)(?=.)/g, '$1:');
  const pinned = settingsOf({ ...FULL, XVAULT_POOL_FINGERPRINT: `sha256:${print}, ${DIGEST}` });
  assert.deepEqual(pinned.pools[0]?.trust, { kind: 'fingerprint', sha256: [DIGEST, DIGEST] });
  const both = { ...FULL, XVAULT_POOL_FINGERPRINT: print, XVAULT_POOL_INSECURE: 'true' };
  assert.match(read(both).mistakes[0]?.message ?? '', /not several/);
  assert.match(
    read({ ...FULL, XVAULT_POOL_FINGERPRINT: 'ab:cd' }).mistakes[0]?.message ?? '',
    /64 hex/,
  );
  const ca = { ...FULL, XVAULT_POOL_CA_FILE: '/ca' };
  assert.match(read(ca, { '/ca': 'hello' }).mistakes[0]?.message ?? '', /no PEM/);
});

test('an unknown XVAULT_ name is a warning with the nearest, what Kubernetes injects is none', () => {
  const { warnings } = read({
    ...FULL,
    XVAULT_BUKET: 'x',
    XVAULT_PORT: 'tcp://10.0.0.1:80',
    XVAULT_PORT_80_TCP: 'x',
    XVAULT_SERVICE_HOST: '10.0.0.1',
  });
  assert.deepEqual(warnings, ['XVAULT_BUKET is no setting; did you mean XVAULT_BUCKET?']);
});

test('a user or password inside an address is refused and not repeated', () => {
  const { mistakes } = read({ ...FULL, XVAULT_POOL_URL: 'https://root:hunter2@10.0.0.1' });
  assert.equal(mistakes.length, 1);
  assert.ok(!JSON.stringify(mistakes).includes('hunter2'));
});

test('a prefix gets its slash, an endpoint means path style', () => {
  const env = { ...FULL, XVAULT_PREFIX: 'xen', XVAULT_S3_ENDPOINT: 'http://127.0.0.1:9000' };
  const { bucket } = settingsOf(env);
  assert.equal(bucket.prefix, 'xen/');
  assert.equal(bucket.pathStyle, true);
  assert.equal(settingsOf({ ...env, XVAULT_S3_PATH_STYLE: 'no' }).bucket.pathStyle, false);
});
