import assert from 'node:assert/strict';
import { test } from 'node:test';
import { exampleBackup } from '../../test/http/records.ts';
import { type RestoreRequest, restoreRequestSchema } from '../catalog/restore.ts';
import { BackupError } from '../errors.ts';
import type {
  ImportNetwork,
  ImportSr,
  ImportTargets,
  PresentMachine,
  SrRef,
  VmRef,
} from '../ports.ts';
import type { OvaFacts } from '../xva/ova-facts.ts';
import { planRestore } from './restore-plan.ts';

const MIB = 1_048_576;
const GIB = 1024 * MIB;

function sr(name: string, over: Partial<ImportSr> = {}): ImportSr {
  return {
    ref: `OpaqueRef:${name}` as SrRef,
    uuid: `sr-${name}`,
    nameLabel: name,
    type: 'nfs',
    shared: true,
    physicalSizeBytes: 100 * GIB,
    physicalUtilisationBytes: 0,
    virtualAllocationBytes: 0,
    canSnapshot: true,
    thick: false,
    isDefault: false,
    attachedHosts: [{ uuid: 'h', nameLabel: 'host', address: '192.0.2.1' }],
    freeBytes: 50 * GIB,
    takesDisks: true,
    ...over,
  };
}

const network = (name: string, over: Partial<ImportNetwork> = {}): ImportNetwork => ({
  uuid: `here-${name}`,
  nameLabel: name,
  bridge: `br-${name}`,
  ...over,
});

function machine(over: Partial<PresentMachine> = {}): PresentMachine {
  return {
    ref: 'OpaqueRef:1' as VmRef,
    uuid: 'someone',
    nameLabel: 'someone',
    nameDescription: '',
    kind: 'vm',
    powerState: 'Running',
    tags: [],
    macSeed: 'other',
    macs: [],
    version: 0,
    ...over,
  };
}

/** A machine of two disks on the network LAN. */
function facts(over: Partial<OvaFacts> = {}): OvaFacts {
  const disk = (n: number, virtualSizeBytes: number) => ({
    archiveId: `Ref:00${n}`,
    vdiUuid: `vdi-${n}`,
    nameLabel: 'disk',
    userdevice: String(n),
    virtualSizeBytes,
    bootable: n === 0,
    readOnly: false,
  });
  return {
    uuid: 'web-uuid',
    nameLabel: 'web',
    nameDescription: '',
    macSeed: 'seed',
    xapi: { major: 1, minor: 20 },
    productVersion: '8.2.1',
    disks: [disk(0, 20 * GIB), disk(1, 10 * GIB)],
    interfaces: [{ id: 'vif', device: '0', mac: '02:AA', networkId: 'net' }],
    networks: [{ id: 'net', uuid: 'lan-uuid', nameLabel: 'LAN', bridge: 'xenbr0' }],
    hasTpm: false,
    loadedDrives: 0,
    ...over,
  };
}

interface Given {
  ova?: Partial<OvaFacts>;
  targets?: Partial<ImportTargets>;
  stored?: number;
}

function plan(wish: Partial<RestoreRequest> = {}, { ova, targets, stored = 1000 }: Given = {}) {
  const machineFacts = facts(ova);
  const example = exampleBackup();
  const backup = {
    ...example,
    disks: machineFacts.disks.map(({ archiveId, userdevice, virtualSizeBytes }, index) => ({
      index,
      archive_id: archiveId,
      vdi_uuid: `vdi-${index}`,
      name: 'disk',
      userdevice,
      virtual_size_bytes: virtualSizeBytes,
      stored_bytes: stored * MIB,
      stored_blocks: stored,
    })),
  };
  return planRestore({
    backup,
    ova: machineFacts,
    request: restoreRequestSchema.parse(wish),
    pool: 'dr',
    targets: {
      version: { major: 1, minor: 20 },
      productVersion: '8.2.1',
      upgrading: false,
      readsZstd: true,
      readsXxhash: true,
      srs: [sr('main', { isDefault: true }), sr('ssd')],
      networks: [network('LAN'), network('Lab')],
      machines: [],
      ...targets,
    },
  });
}

function refusal(work: () => unknown): string {
  try {
    work();
  } catch (error) {
    assert.ok(error instanceof BackupError, String(error));
    return String(error.details.reason ?? error.code);
  }
  return 'taken';
}

const nicOf = ({ plan: { networks } }: ReturnType<typeof plan>) => networks[0];

test('the same network is taken by its uuid, whatever it is called now', () => {
  const networks = [network('LAN'), network('renamed', { uuid: 'lan-uuid' })];
  const found = plan({}, { targets: { networks } });
  assert.deepEqual(nicOf(found)?.to, { uuid: 'lan-uuid', name: 'renamed' });
  assert.deepEqual(found.networks.get('net'), { nameLabel: 'renamed', bridge: 'br-renamed' });
});

test('the only network of a name somebody chose is taken; of two, or of a name of the house, none', () => {
  assert.deepEqual(nicOf(plan())?.to, { uuid: 'here-LAN', name: 'LAN' });
  const twins = [network('LAN'), network('LAN', { uuid: 'twin', bridge: 'br-twin' })];
  assert.equal(
    refusal(() => plan({}, { targets: { networks: twins } })),
    'network_missing',
  );
  const house = 'Pool-wide network associated with eth0';
  const networks = [{ id: 'net', uuid: 'lan-uuid', nameLabel: house, bridge: 'xenbr0' }];
  const given = { ova: { networks }, targets: { networks: [network(house)] } };
  assert.equal(
    refusal(() => plan({}, given)),
    'network_missing',
  );
  assert.equal(nicOf(plan({ networks: { [house]: house } }, given))?.because, 'asked for');
});

test('a network whose name others have, too, is given to the importer by its bridge', () => {
  const twins = [network('LAN'), network('LAN', { uuid: 'twin', bridge: 'br-twin' })];
  const found = plan({ networks: { LAN: 'twin' } }, { targets: { networks: twins } });
  assert.deepEqual(found.networks.get('net'), { nameLabel: 'xvault:twin', bridge: 'br-twin' });
});

test('a wish counts more than a match, all others come last, none leaves the interface out', () => {
  assert.equal(nicOf(plan({ networks: { 'lan-uuid': 'Lab' } }))?.to?.name, 'Lab');
  // what is said counts before what is known: `*=none` is a machine that meets nobody
  assert.equal(nicOf(plan({ networks: { '*': 'Lab' } }))?.to?.name, 'Lab');
  assert.equal(nicOf(plan({ networks: { '*': 'none' } }))?.to, undefined);
  assert.equal(nicOf(plan({ networks: { '*': 'none', LAN: 'LAN' } }))?.to?.name, 'LAN');
  const none = plan({ networks: { LAN: 'none' } });
  assert.equal(nicOf(none)?.to, undefined);
  assert.equal(none.networks.get('net'), 'none');
  assert.equal(
    refusal(() => plan({ networks: { DMZ: 'Lab' } })),
    'invalid_request',
  );
  assert.equal(
    refusal(() => plan({ networks: { LAN: 'constructor' } })),
    'network_missing',
  );
});

test('storage is the default or the one named, and must take the disks', () => {
  assert.equal(plan().sr.nameLabel, 'main');
  assert.equal(plan({ sr: 'sr-ssd' }).sr.nameLabel, 'ssd');
  const iso = sr('ISO', { takesDisks: false });
  const away = sr('away', { takesDisks: false, attachedHosts: [] });
  const srs = [iso, away, sr('twin'), sr('twin', { uuid: 'sr-2' })];
  for (const name of [undefined, 'ISO', 'away', 'twin', 'nowhere']) {
    const wish = name === undefined ? {} : { sr: name };
    assert.equal(
      refusal(() => plan(wish, { targets: { srs } })),
      'sr_unsuitable',
      name,
    );
  }
  assert.equal(plan({ sr: 'sr-2' }, { targets: { srs } }).sr.uuid, 'sr-2');
});

test('thin storage needs room for what is stored, thick storage for all of the disks', () => {
  const thin = sr('main', { isDefault: true, freeBytes: 2000 * MIB });
  assert.equal(plan({}, { targets: { srs: [thin] } }).disks.length, 2);
  assert.equal(
    refusal(() => plan({}, { targets: { srs: [thin] }, stored: 1001 })),
    'sr_full',
  );
  const thick = { ...thin, thick: true, freeBytes: 30 * GIB };
  assert.equal(plan({}, { targets: { srs: [thick] } }).disks.length, 2);
  const less = { ...thick, freeBytes: 30 * GIB - 1 };
  assert.equal(
    refusal(() => plan({}, { targets: { srs: [less] } })),
    'sr_full',
  );
  assert.equal(plan({ disks: ['1'] }, { targets: { srs: [less] } }).disks.length, 1);
  const silent = { ...thin, freeBytes: -1 };
  assert.equal(plan({}, { targets: { srs: [silent] }, stored: 9999 }).disks.length, 2);
});

test('disks are found by device, uuid or a name only one of them has', () => {
  assert.deepEqual(
    plan({ disks: ['vdi-1'] }).disks.map(({ facts: { userdevice } }) => userdevice),
    ['1'],
  );
  assert.equal(
    refusal(() => plan({ disks: ['disk'] })),
    'invalid_request',
  );
  assert.equal(
    refusal(() => plan({ disks: ['0'], disk_srs: { '1': 'ssd' } })),
    'invalid_request',
  );
  const apart = plan({ disk_srs: { '1': 'ssd' } });
  assert.deepEqual(
    apart.disks.map((disk) => [disk.sr.nameLabel, disk.apart]),
    [
      ['main', false],
      ['ssd', true],
    ],
  );
});

test('a disk smaller than a block cannot come first where others have gaps', () => {
  const [first, second] = facts().disks as [OvaFacts['disks'][number], OvaFacts['disks'][number]];
  const ova = {
    disks: [
      first,
      { ...second, virtualSizeBytes: 512 },
      { ...first, archiveId: 'Ref:002', userdevice: '2' },
    ],
  };
  assert.equal(plan({}, { ova }).disks.length, 3);
  assert.equal(
    refusal(() => plan({ disks: ['1', '2'] }, { ova })),
    'unsupported',
  );
  assert.equal(plan({ disk: '1' }, { ova }).alone, true);
});

test('an older pool gets lower numbers where that is safe', () => {
  const newer = { xapi: { major: 26, minor: 1 }, productVersion: '8.3.0' };
  const { version } = plan({}, { ova: newer });
  assert.deepEqual(version, { major: 1, minor: 20, productVersion: '8.2.1' });
  assert.equal(
    refusal(() => plan({}, { ova: { ...newer, hasTpm: true } })),
    'pool_too_old',
  );
  const [disk] = facts().disks as [OvaFacts['disks'][number]];
  const large = { ...newer, disks: [{ ...disk, virtualSizeBytes: 2041 * GIB }] };
  assert.equal(
    refusal(() => plan({}, { ova: large })),
    'pool_too_old',
  );
  assert.equal(plan({ disk: '0' }, { ova: large }).alone, true);
  assert.equal(plan({}, { ova: { hasTpm: true } }).version, undefined);
});

test('the name is the machine’s own, unless somebody has it', () => {
  assert.equal(plan().plan.name, 'web');
  const machines = [machine({ nameLabel: 'web' })];
  assert.equal(plan({}, { targets: { machines } }).plan.name, 'web (backup of 2026-11-23 02:00)');
  assert.equal(plan({ name: 'web' }, { targets: { machines } }).plan.name, 'web');
  const snapshots = [machine({ nameLabel: 'web', kind: 'snapshot' })];
  assert.equal(plan({}, { targets: { machines: snapshots } }).plan.name, 'web');
  assert.equal(plan({ disk: '0' }).plan.name, 'disk (backup of 2026-11-23 02:00)');
});

test('a machine that comes back as itself takes a new seed where a snapshot still has the old one', () => {
  const wish = { mac: 'keep', uuid: 'keep' } as const;
  const free = plan(wish);
  assert.deepEqual([free.vmUuid, free.needsMacSeed], ['web-uuid', false]);
  const machines = [machine({ kind: 'snapshot', macSeed: 'seed' })];
  assert.equal(plan(wish, { targets: { machines } }).needsMacSeed, true);
  assert.equal(plan({ mac: 'keep' }).needsMacSeed, true);
  assert.equal(plan().keepIdentity, false);
  const there = [machine({ uuid: 'web-uuid', powerState: 'Halted' })];
  assert.equal(
    refusal(() => plan(wish, { targets: { machines: there } })),
    'machine_exists',
  );
});

test('equal addresses are warned of, and never started beside a running machine', () => {
  const machines = [machine({ macs: ['02:aa'] })];
  const warned = plan({ mac: 'keep' }, { targets: { machines } });
  assert.match(warned.plan.warnings.join(), /never run both/);
  const start = { mac: 'keep', start: true } as const;
  assert.equal(
    refusal(() => plan(start, { targets: { machines } })),
    'mac_conflict',
  );
  const halted = [machine({ macs: ['02:aa'], powerState: 'Halted' })];
  assert.equal(plan(start, { targets: { machines: halted } }).plan.start, true);
});

test('by link only where the archive is right as it is', () => {
  assert.equal(plan().plan.via, 'url');
  const edited: [Partial<RestoreRequest>, Given][] = [
    [{ mac: 'keep' }, {}],
    [{ disks: ['0'] }, {}],
    [{ disk: '0' }, {}],
    [{ disk_srs: { '1': 'ssd' } }, {}],
    [{ networks: { LAN: 'Lab' } }, {}],
    [{ networks: { LAN: 'none' } }, {}],
    [{}, { ova: { loadedDrives: 1 } }],
    [{}, { ova: { xapi: { major: 26, minor: 1 } } }],
    [{}, { targets: { readsXxhash: false } }],
  ];
  for (const [wish, given] of edited) {
    const name = JSON.stringify([wish, given]);
    assert.equal(plan(wish, given).plan.via, 'stream', name);
    assert.equal(
      refusal(() => plan({ ...wish, via: 'url' }, given)),
      'unsupported',
      name,
    );
  }
  assert.equal(plan({ via: 'stream' }).plan.via_reason, 'asked for');
});

test('nothing is begun during a rolling upgrade', () => {
  assert.equal(
    refusal(() => plan({}, { targets: { upgrading: true } })),
    'upgrading',
  );
});
