/**
 * Which addresses a request may make xvault call: an allow list from the settings, and never anything it does not name.
 *
 * A URL is compared as parsed, and must be written as it parses: no user, no fragment, no upper case, no default port,
 * no decimal or octal address, no `..`, no letters that are punycode in truth, so nothing means one thing to the reader
 * and another to the socket. A name may resolve to public addresses only; loopback, link-local, private and metadata
 * addresses must be in the list themselves, as the host of an entry or inside a network. They are looked at when the
 * connection is made (notify/guarded-agent.ts), since a name may resolve to something else every time.
 * Ranges: the special-purpose registries of IANA (RFC 6890 and its successors). No network access here.
 */
import { BlockList, isIP } from 'node:net';
import { BackupError } from './errors.ts';

/** Scheme, host and port of an entry, and the path everything below it is allowed. */
interface AllowedTarget {
  origin: string;
  path: string;
}

export interface AllowList {
  /** Its name in the settings, for whoever is refused. */
  readonly setting: string;
  readonly targets: readonly AllowedTarget[];
  /** Networks names may resolve into though they are not public. */
  readonly networks: BlockList;
}

/** 64 guests with two hooks each is a lot; a list of thousands is a mistake. */
const MAX_ENTRIES = 1000;

/** Where clouds tell machines their secrets: no network in the list opens these, only the address itself. */
const METADATA = blockList([
  '169.254.169.254', // AWS, Azure, Google, most others
  '169.254.170.2', // AWS ECS
  '169.254.170.23', // AWS EKS
  '100.100.100.200', // Alibaba
  '168.63.129.16', // Azure's wire server
  '192.0.0.192', // Oracle
  'fd00:ec2::254',
  'fd00:ec2::23',
  'fd20:ce::254', // Google
]);

const SPECIAL_V4 = blockList([
  '0.0.0.0/8',
  '10.0.0.0/8',
  '100.64.0.0/10',
  '127.0.0.0/8',
  '169.254.0.0/16',
  '172.16.0.0/12',
  '192.0.0.0/24',
  '192.0.2.0/24',
  '192.88.99.0/24',
  '192.168.0.0/16',
  '198.18.0.0/15',
  '198.51.100.0/24',
  '203.0.113.0/24',
  '224.0.0.0/4',
  '240.0.0.0/4',
]);

/** All that is routed in public lies in 2000::/3; these parts of it do not. */
const GLOBAL_V6 = blockList(['2000::/3']);
const SPECIAL_V6 = blockList(['2001::/23', '2001:db8::/32', '2002::/16', '3fff::/20']);

/** Reads the list of a setting: URLs (scheme and host, perhaps a path) and networks, comma-separated. */
export function parseAllowList(
  setting: string,
  text: string,
): { list: AllowList; mistakes: string[] } {
  const targets: AllowedTarget[] = [];
  const networks = new BlockList();
  const mistakes: string[] = [];
  const entries = text.split(',').map((part) => part.trim());
  if (entries.length > MAX_ENTRIES) mistakes.push(`more than ${MAX_ENTRIES} entries`);
  for (const entry of entries.slice(0, MAX_ENTRIES).filter((part) => part !== '')) {
    if (!entry.includes('://')) {
      if (!addNetwork(networks, entry)) mistakes.push(`${entry} is neither a URL nor a network`);
      continue;
    }
    const problem = urlProblem(entry, { query: false });
    if (problem !== undefined) mistakes.push(`${entry}: ${problem}`);
    else targets.push({ origin: new URL(entry).origin, path: new URL(entry).pathname });
  }
  return { list: { setting, targets, networks }, mistakes };
}

/** The URL, if the list allows it. Errors: `invalid_request`, naming `field` and what is wrong. */
export function checkTarget(
  allow: AllowList,
  { field, url: text }: { field: string; url: string },
) {
  const problem = urlProblem(text, { query: true }) ?? unlisted(allow, new URL(text));
  if (problem === undefined) return new URL(text);
  throw new BackupError('invalid_request', `allow ${field}: ${problem}`, { details: { field } });
}

/** Why a connection for `hostname` to `address` must not be made; undefined when it may. */
export function refuseAddress(
  allow: AllowList,
  { hostname, address }: { hostname: string; address: string },
): string | undefined {
  const plain = address.replace(/%.*$/, '');
  const kind = specialKind(plain);
  // an address in the URL itself was in the list, or the URL would not have passed
  if (kind === undefined || isIP(bare(hostname)) !== 0) return undefined;
  if (kind === 'loopback' && /(^|\.)localhost$/.test(hostname)) return undefined;
  if (kind !== 'metadata' && contains(allow.networks, plain)) return undefined;
  return `${hostname} resolves to ${plain}, a ${kind} address that ${allow.setting} does not name`;
}

function unlisted(allow: AllowList, url: URL): string | undefined {
  const fits = ({ origin, path }: AllowedTarget) =>
    origin === url.origin &&
    (path === url.pathname || url.pathname.startsWith(path.endsWith('/') ? path : `${path}/`));
  if (allow.targets.some(fits)) return undefined;
  return `${url.origin}${url.pathname} is not in ${allow.setting}`;
}

/** What is wrong with the text of a URL, whatever the list says. */
function urlProblem(text: string, { query }: { query: boolean }): string | undefined {
  if (!URL.canParse(text)) return 'not a URL';
  const url = new URL(text);
  if (url.protocol !== 'https:' && url.protocol !== 'http:') return 'not https://';
  if (url.username !== '' || url.password !== '') return 'a user or password in it';
  if (url.hash !== '' || text.includes('#')) return 'a fragment in it';
  if (!query && (url.search !== '' || text.includes('?'))) return 'a query in it';
  if (url.hostname.includes('*')) return 'no wildcards: name each host';
  if (url.hostname.endsWith('.')) return 'a dot at the end of its host';
  if (/%(2e|2f|5c|00)|\/\//i.test(url.pathname)) return 'an encoded separator in its path';
  if (url.href === text || url.href === `${text}/`) return undefined;
  return `not written as it is read: ${url.href}`;
}

type SpecialKind = 'metadata' | 'loopback' | 'link-local' | 'private' | 'special-purpose';

const KINDS: readonly [SpecialKind, BlockList][] = [
  ['metadata', METADATA],
  ['loopback', blockList(['127.0.0.0/8', '::1'])],
  ['link-local', blockList(['169.254.0.0/16', 'fe80::/10'])],
  ['private', blockList(['10.0.0.0/8', '172.16.0.0/12', '192.168.0.0/16', 'fc00::/7'])],
];

/** What kind of address this is, if no public one. Text that is no address is special, too. */
function specialKind(address: string): SpecialKind | undefined {
  const family = isIP(address);
  const inner = family === 6 ? embedded(address) : undefined;
  if (inner !== undefined) return specialKind(inner);
  const known = KINDS.find(([, list]) => contains(list, address));
  if (known !== undefined) return known[0];
  const isPublic =
    family === 4
      ? !contains(SPECIAL_V4, address)
      : family === 6 && contains(GLOBAL_V6, address) && !contains(SPECIAL_V6, address);
  return isPublic ? undefined : 'special-purpose';
}

/** The IPv4 address inside an IPv6 one that only wraps it: mapped (::ffff:0:0/96) or translated (64:ff9b::/96). */
function embedded(address: string): string | undefined {
  const canonical = bare(new URL(`http://[${address}]`).hostname);
  const tail = /^(?:::ffff:|64:ff9b::)([0-9a-f]{1,4}):([0-9a-f]{1,4})$/.exec(canonical);
  if (tail === null) return undefined;
  const [high = 0, low = 0] = tail.slice(1).map((part) => Number.parseInt(part, 16));
  return [high >> 8, high & 255, low >> 8, low & 255].join('.');
}

function bare(hostname: string): string {
  return hostname.replace(/^\[|\]$/g, '');
}

function contains(list: BlockList, address: string): boolean {
  const family = isIP(address);
  return family !== 0 && list.check(address, family === 6 ? 'ipv6' : 'ipv4');
}

function blockList(entries: readonly string[]): BlockList {
  const list = new BlockList();
  for (const entry of entries) addNetwork(list, entry);
  return list;
}

/** Adds `address` or `address/bits`; false when it is neither. */
function addNetwork(list: BlockList, text: string): boolean {
  const [address = '', bits, ...rest] = text.split('/');
  const family = isIP(address);
  const most = family === 6 ? 128 : 32;
  if (family === 0 || rest.length > 0) return false;
  if (bits !== undefined && !(/^\d{1,3}$/.test(bits) && Number(bits) <= most)) return false;
  list.addSubnet(address, Number(bits ?? most), family === 6 ? 'ipv6' : 'ipv4');
  return true;
}
