/**
 * docs/one-file.md and docs/restore-without-xvault.md, run as they stand: curl, nbdkit and qemu read files, partitions and disks out of backups through the
 * service, and what they get is what the machine has. Programs that are not installed skip their part.
 */
import assert from 'node:assert/strict';
import { execFile, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { createServer as createTlsServer } from 'node:https';
import type { AddressInfo, Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, type TestContext, test } from 'node:test';
import { promisify } from 'node:util';
import { createAdaptorServer } from '@hono/node-server';
import type { Backup } from '../../src/catalog/record.ts';
import { systemClock } from '../../src/clock.ts';
import { createListener } from '../../src/commands/listener.ts';
import { importXva } from '../importer.ts';
import { createGeneratedDisk } from '../sim/disk.ts';
import { readFixtureManifest } from '../sim/disks/fixture.ts';
import { compareVolume, missingTool } from '../sim/disks/read-files.ts';
import { DEFAULT_MACHINES } from '../sim/machines.ts';
import { createCertificate } from '../sim/xapi/certificate.ts';
import { type HttpWorld, READ_TOKEN, startHttpWorld } from './app.ts';
import { BUCKET, contentDigest } from './world.ts';

const isLong = process.env.XVAULT_TEST_LONG !== undefined;
const BLOCKS = commandsOf('one-file.md');
const [NEWEST = '', LOOK = '', ONE_FILE = '', WINDOWS = '', QEMU = ''] = BLOCKS;
const BY_HAND = commandsOf('restore-without-xvault.md');
const [FIND = '', FETCH = '', CURL = '', CHECK = '', UNPACK = ''] = BY_HAND;

const SMALL_BYTES = 18 * 1_048_576 + 1536;
const openSmall = () => createGeneratedDisk({ sizeBytes: SMALL_BYTES, seed: 8, density: 0.5 });
const SMALL = {
  name: 'small',
  disks: [{ name: 'root', storage: 'nfs' as const, open: openSmall }],
};

const execute = promisify(execFile);
const folder = mkdtempSync(join(tmpdir(), 'xvault-one-file-'));
const servers: Server[] = [];
let world: HttpWorld;
/** Backups that are there from the start. */
let [web, full, delta, packed]: Backup[] = [];
/** Where the service listens, without and with TLS. */
let [plain, secure] = ['', ''];

before(async () => {
  const machines = [...DEFAULT_MACHINES.filter(({ name }) => /^(web|win)-01$/.test(name)), SMALL];
  world = await startHttpWorld({ pool: { machines } });
  const { keyPem: key, certPem: cert } = createCertificate({
    address: '127.0.0.1',
    serial: 1,
    nowMs: Date.now(),
  });
  const fetch = (request: Request) => world.fetch(request);
  const listener = createListener({ fetch, log: world.log, clock: systemClock });
  const serverOptions = { key, cert };
  const tls = createAdaptorServer({ fetch, createServer: createTlsServer, serverOptions });
  plain = `http://127.0.0.1:${await listen(listener)}`;
  secure = `https://127.0.0.1:${await listen(tls as Server)}`;
  web = await backUp('web-01', { compression: 'zstd' });
  full = await backUp('small', {});
  delta = await backUp('small', { mode: 'delta' });
  packed = await backUp('small', { compression: 'zstd', mode: 'full' });
  writeFileSync(join(folder, 'token'), READ_TOKEN);
  writeFileSync(join(folder, 'ca.pem'), cert);
});
after(async () => {
  for (const server of servers) {
    if ('closeAllConnections' in server) (server.closeAllConnections as () => void)();
    server.close();
  }
  await world[Symbol.asyncDispose]();
  rmSync(folder, { recursive: true });
});

/** The shell commands of a page, block by block. */
function commandsOf(page: string): string[] {
  const text = readFileSync(new URL(`../../docs/${page}`, import.meta.url), 'utf8');
  return [...text.matchAll(/^```sh\n(.*?)^```/gms)].map(([, block]) => block ?? '');
}

async function listen(server: Server): Promise<number> {
  servers.push(server);
  await once(server.listen(0, '127.0.0.1'), 'listening');
  return (server.address() as AddressInfo).port;
}

/** Runs commands of the page in the folder with the token. */
async function run(script: string, env: Record<string, string> = {}): Promise<string> {
  const { stdout } = await execute('bash', ['-euo', 'pipefail', '-c', script], {
    cwd: folder,
    env: { PATH: `${process.env.PATH}:/usr/sbin:/sbin`, XVAULT_URL: plain, ...env },
  });
  return stdout;
}

/** Skips the test where one of the programs is not there. */
function skipped(t: TestContext, programs: readonly string[]): boolean {
  const missing = programs.find((name) => spawnSync(name, ['--version']).error !== undefined);
  if (missing !== undefined) t.skip(`${missing} is not installed`);
  return missing !== undefined;
}

async function backUp(vm: string, body: object): Promise<Backup> {
  const { result, error } = await world.run(vm, body);
  assert.ok(result, JSON.stringify(error));
  return result;
}

test('the pages have the commands that are tried here, and no others', () => {
  assert.deepEqual(
    BLOCKS.map((block) => /backup=|fdisk|ext2file|windows\.img|qemu-img/.exec(block)?.[0]),
    ['backup=', 'fdisk', 'ext2file', 'windows.img', 'qemu-img'],
  );
  assert.deepEqual(
    BY_HAND.map((block) => /s3\(\)|s3 -o|curl -fsSL|tar|zstd/.exec(block)?.[0]),
    ['s3()', 's3 -o', 'curl -fsSL', 'tar', 'zstd'],
  );
});

test('three commands get one file out of the newest backup of a machine', async (t) => {
  if (skipped(t, ['curl', 'jq', 'nbdkit', 'nbdcopy', '/sbin/fdisk'])) return;
  const backup = (await run(`${NEWEST} echo "$backup"`)).trim();
  assert.equal(backup, web?.id);
  const looked = await run(LOOK, { backup });
  assert.match(looked, /^0 {2}3221225472 {2}web-01 root$/m);
  assert.match(looked, /start\.img2 +133120 /, 'the second partition begins at 65 MiB');
  await run(ONE_FILE, { backup });
  const root = readFixtureManifest('linux-root').volumes[1];
  const { sizeBytes } = root?.files.find(({ path }) => path === 'etc/hostname') ?? {};
  assert.equal(readFileSync(join(folder, 'hostname')).length, sizeBytes);
  // and over https, with a certificate of one's own
  const command = `${ONE_FILE.replace('curl url=', 'curl cainfo=ca.pem url=')} cat hostname`;
  rmSync(join(folder, 'hostname'));
  assert.equal(await run(command, { backup, XVAULT_URL: secure }), 'web-1\n');
});

test('qemu takes a disk of a backup for a disk, and copies it bit for bit', async (t) => {
  if (skipped(t, ['qemu-img'])) return;
  const formats = spawnSync('sh', ['-c', 'ls /usr/lib/*/qemu/block-curl.so'], { encoding: 'utf8' });
  if (formats.status !== 0) return t.skip('qemu-block-extra is not installed');
  const { id: backup = '' } = delta ?? {};
  const said = await run(QEMU, { backup });
  assert.match(said, new RegExp(`virtual size: .* \\(${SMALL_BYTES} bytes\\)`));
  const wanted = Buffer.alloc(SMALL_BYTES);
  openSmall().read(0, wanted);
  assert.ok(readFileSync(join(folder, 'disk.raw')).equals(wanted));
  const overTls = QEMU.replace('file.driver=http', 'file.driver=https,file.sslverify=off');
  assert.match(await run(overTls, { backup, XVAULT_URL: secure }), new RegExp(`${SMALL_BYTES}`));
});

/** The importer takes it, and the disk is the machine's. */
async function assertImports(file: string): Promise<void> {
  const { disks, vm } = await importXva(join(folder, file));
  assert.equal(vm.name, 'small');
  assert.deepEqual(
    disks.map(({ image }) => contentDigest(image)),
    [contentDigest(openSmall())],
  );
}

test('with nothing but the bucket a backup is found, fetched, checked and imported', async (t) => {
  if (skipped(t, ['curl', 'jq', 'tar'])) return;
  const [key, older] = [delta?.archive.key ?? '', full?.archive.key ?? ''];
  const { endpoint = '', region = '', accessKeyId = '', secretAccessKey = '' } = world.s3 ?? {};
  const env = {
    S3: `${endpoint}/${BUCKET}`,
    AWS_REGION: region,
    AWS_ACCESS_KEY_ID: accessKeyId,
    AWS_SECRET_ACCESS_KEY: secretAccessKey,
    key,
  };
  const keys = (await run(FIND, env)).trim().split('\n');
  assert.ok(keys.includes(key) && keys.includes(older));
  await run(`${FIND} ${FETCH} ${CHECK}`, env);
  assert.match(readFileSync(join(folder, 'members'), 'latin1'), /^ova\.xml\nRef:\d+\/00000000\n/);
  await assertImports('web-1.xva');
});

test('from the service an archive is fetched on where it stopped, unpacked for old hosts and imported', async (t) => {
  if (skipped(t, ['curl', 'zstd'])) return;
  assert.ok(packed);
  const { id, archive } = packed;
  const file = join(folder, 'web-1.xva');
  rmSync(file, { force: true });
  await run(CURL, { backup: id });
  assert.equal(readFileSync(file).length, archive.size_bytes);
  truncateSync(file, 5000);
  await run(CURL.replace('/xva"', '/xva?direct=1"'), { backup: id });
  await run(UNPACK);
  await assertImports('web-1.xva');
  await assertImports('plain.xva');
});

const PARTITIONS = [
  { vm: 'web-01', fixture: 'linux-root', number: 1, isShort: true },
  { vm: 'web-01', fixture: 'linux-root', number: 2, isShort: false },
  { vm: 'win-01', fixture: 'windows', number: 1, isShort: false },
] as const;

for (const { vm, fixture, number, isShort } of PARTITIONS) {
  test(`partition ${number} of ${vm} is copied, and every file in it is what the machine has`, async (t) => {
    if (!isShort && !isLong) return t.skip('in the long run');
    if (skipped(t, ['nbdkit', 'nbdcopy'])) return;
    const volume = readFixtureManifest(fixture).volumes[number - 1];
    assert.ok(volume);
    const missing = missingTool(volume.kind);
    if (missing !== undefined) return t.skip(missing);
    const { id: windows = '' } = (vm === 'web-01' ? web : await backUp(vm, {})) ?? {};
    const look = volume.kind === 'ntfs' ? WINDOWS : WINDOWS.replace(/^ntfsls.*\n/m, '');
    await run(look.replace('partition=1', `partition=${number}`), { windows });
    const image = join(folder, 'windows.img');
    assert.deepEqual(await compareVolume(image, { ...volume, offsetBytes: 0 }), []);
    rmSync(image);
  });
}
