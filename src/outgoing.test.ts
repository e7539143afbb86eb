import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { checkTarget, parseAllowList, refuseAddress } from './outgoing.ts';

const SETTING = 'XVAULT_HOOK_ALLOW';

function allow(text: string) {
  const { list, mistakes } = parseAllowList(SETTING, text);
  assert.deepEqual(mistakes, []);
  return list;
}

const LIST = allow(
  'https://db.example.com/hooks, https://10.0.0.5:8443, http://plain.example.com, https://[fd00::5], https://xn--bcher-kva.example',
);

describe('a URL in the list', () => {
  for (const url of [
    'https://db.example.com/hooks',
    'https://db.example.com/hooks/freeze',
    'https://db.example.com/hooks?db=main',
    'https://10.0.0.5:8443',
    'https://10.0.0.5:8443/any/path',
    'http://plain.example.com/freeze',
    'https://[fd00::5]/freeze',
    'https://xn--bcher-kva.example/freeze',
  ]) {
    test(`${url} is allowed`, () => {
      assert.equal(
        checkTarget(LIST, { field: 'hooks.before_snapshot', url }).protocol.slice(0, 4),
        'http',
      );
    });
  }
});

const TRICKS: [string, string, RegExp][] = [
  ['another host', 'https://evil.example.com/hooks', /is not in XVAULT_HOOK_ALLOW/],
  ['a path beside the one allowed', 'https://db.example.com/hooksier', /is not in/],
  ['a path above the one allowed', 'https://db.example.com/', /is not in/],
  ['a path that climbs out', 'https://db.example.com/hooks/../admin', /not written as it is read/],
  ['one that climbs out encoded', 'https://db.example.com/hooks/%2e%2e/admin', /not written as/],
  ['one that climbs out half encoded', 'https://db.example.com/hooks/..%2fadmin', /separator/],
  ['a backslash encoded', 'https://db.example.com/hooks/..%5Cadmin', /separator/],
  ['an empty segment', 'https://db.example.com/hooks//admin', /separator/],
  ['another port', 'https://db.example.com:8443/hooks', /is not in/],
  ['plain http where https is listed', 'http://db.example.com/hooks', /is not in/],
  ['https where plain http is listed', 'https://plain.example.com/freeze', /is not in/],
  ['another scheme', 'file:///etc/passwd', /not https/],
  ['a script', 'javascript:alert(1)', /not https/],
  ['gopher', 'gopher://db.example.com/hooks', /not https/],
  ['a user that looks like the host', 'https://db.example.com@evil.example.com/hooks', /a user/],
  ['a user and a password', 'https://a:b@db.example.com/hooks', /a user/],
  ['a fragment', 'https://db.example.com/hooks#x', /fragment/],
  ['an empty fragment', 'https://db.example.com/hooks#', /fragment/],
  ['a backslash for a slash', 'https://evil.example.com\\@db.example.com/hooks', /not written as/],
  ['one slash too few', 'https:/db.example.com/hooks', /not written as/],
  ['a tab in the host', 'https://db.exa\tmple.com/hooks', /not written as/],
  ['a newline at the end', 'https://db.example.com/hooks\n', /not written as/],
  ['a space in front', ' https://db.example.com/hooks', /not written as/],
  ['upper case', 'https://DB.example.com/hooks', /not written as/],
  ['the default port', 'https://db.example.com:443/hooks', /not written as/],
  ['a dot at the end of the host', 'https://db.example.com./hooks', /a dot at the end/],
  ['a longer host', 'https://db.example.com.evil.example/hooks', /is not in/],
  ['a percent-encoded host', 'https://db%2eexample.com/hooks', /not written as/],
  ['full-width letters', 'https://ｄb.example.com/hooks', /not written as/],
  ['an ideographic full stop', 'https://db。example.com/hooks', /not written as/],
  ['letters of another script', 'https://dЬ.example.com/hooks', /not written as/],
  ['the same in punycode', 'https://xn--d-jtb.example.com/hooks', /is not in/],
  ['letters that are punycode in truth', 'https://bücher.example/freeze', /not written as/],
  ['a decimal address', 'https://167772165:8443/', /not written as/],
  ['an octal address', 'https://012.0.0.5:8443/', /not written as/],
  ['a hexadecimal address', 'https://0x0a.0.0.5:8443/', /not written as/],
  ['a short address', 'https://10.5:8443/', /not written as/],
  ['an address inside an IPv6 one', 'https://[::ffff:10.0.0.5]:8443/', /not written as/],
  ['the same as it is read', 'https://[::ffff:a00:5]:8443/', /is not in/],
  ['a long IPv6 address', 'https://[fd00:0:0:0:0:0:0:5]/', /not written as/],
  ['an IPv6 zone', 'https://[fe80::1%25eth0]/', /not a URL/],
  ['loopback', 'https://127.0.0.1/', /is not in/],
  ['metadata', 'http://169.254.169.254/latest/meta-data/', /is not in/],
  ['no URL at all', 'db.example.com/hooks', /not a URL/],
  ['nothing', '', /not a URL/],
];

describe('a trick:', () => {
  for (const [what, url, says] of TRICKS) {
    test(`${what} is refused`, () => {
      assert.throws(() => checkTarget(LIST, { field: 'hooks.before_snapshot', url }), {
        code: 'invalid_request',
        message: says,
      });
    });
  }

  test('the field is named', () => {
    assert.throws(() => checkTarget(LIST, { field: 'hooks.after_snapshot', url: 'x' }), {
      message: /^allow hooks\.after_snapshot: /,
      details: { field: 'hooks.after_snapshot' },
    });
  });
});

describe('a name that resolves to', () => {
  const list = allow('https://db.example.com, 10.2.0.0/16, fd12::/16, 192.168.1.7, 169.254.0.0/16');
  const cases: [string, RegExp | undefined][] = [
    ['1.1.1.1', undefined],
    ['2606:4700::1111', undefined],
    ['10.2.3.4', undefined],
    ['::ffff:10.2.3.4', undefined],
    ['fd12::9', undefined],
    ['192.168.1.7', undefined],
    ['169.254.7.7', undefined],
    ['192.168.1.8', /a private address/],
    ['10.3.0.1', /a private address/],
    ['172.31.255.255', /a private address/],
    ['fd13::9', /a private address/],
    ['::ffff:10.3.0.1', /a private address/],
    ['64:ff9b::a03:1', /a private address/],
    ['127.0.0.1', /a loopback address/],
    ['127.255.255.254', /a loopback address/],
    ['::1', /a loopback address/],
    ['::ffff:127.0.0.1', /a loopback address/],
    ['fe80::1', /a link-local address/],
    ['fe80::1%eth0', /a link-local address/],
    // not even though its network is listed
    ['169.254.169.254', /a metadata address/],
    ['::ffff:169.254.169.254', /a metadata address/],
    ['::ffff:a9fe:a9fe', /a metadata address/],
    ['fd00:ec2::254', /a metadata address/],
    ['100.100.100.200', /a metadata address/],
    ['168.63.129.16', /a metadata address/],
    ['0.0.0.0', /a special-purpose address/],
    ['::', /a special-purpose address/],
    ['100.64.0.1', /a special-purpose address/],
    ['192.0.2.1', /a special-purpose address/],
    ['198.19.0.1', /a special-purpose address/],
    ['224.0.0.1', /a special-purpose address/],
    ['255.255.255.255', /a special-purpose address/],
    ['ff02::1', /a special-purpose address/],
    ['::127.0.0.1', /a special-purpose address/],
    ['::ffff:0:127.0.0.1', /a special-purpose address/],
    ['64:ff9b:1::1', /a special-purpose address/],
    ['2002:7f00:1::', /a special-purpose address/],
    ['2001:db8::1', /a special-purpose address/],
    ['fec0::1', /a special-purpose address/],
    ['not an address', /a special-purpose address/],
  ];
  for (const [address, says] of cases) {
    test(`${address} is ${says ? 'refused' : 'allowed'}`, () => {
      const reason = refuseAddress(list, { hostname: 'db.example.com', address });
      if (says === undefined) assert.equal(reason, undefined);
      else assert.match(reason ?? '', says);
    });
  }

  test('localhost is loopback by definition, so its name in the list is enough; other names are not', () => {
    const named = allow('https://localhost:8443');
    const look = (hostname: string, address: string) => refuseAddress(named, { hostname, address });
    assert.equal(look('localhost', '127.0.0.1'), undefined);
    assert.equal(look('db.localhost', '::1'), undefined);
    assert.match(look('localhost', '10.0.0.1') ?? '', /private/);
    assert.match(look('notlocalhost', '127.0.0.1') ?? '', /loopback/);
  });
});

describe('a list with a mistake is refused:', () => {
  for (const [entry, says] of [
    ['https://*.example.com', /no wildcards/],
    ['https://db.example.com?x=1', /a query/],
    ['https://a@db.example.com', /a user/],
    ['https://DB.example.com', /not written as it is read: https:\/\/db/],
    ['db.example.com', /neither a URL nor a network/],
    ['10.0.0.0/33', /neither/],
    ['10.0.0.0/8/8', /neither/],
    ['10.0.0/8', /neither/],
    ['ftp://db.example.com', /not https/],
    ['https://db.example.com.', /a dot at the end/],
  ] as const) {
    test(entry, () => {
      const { mistakes } = parseAllowList(SETTING, `https://good.example.com, ${entry}`);
      assert.equal(mistakes.length, 1);
      assert.match(mistakes[0] ?? '', says);
    });
  }
});
