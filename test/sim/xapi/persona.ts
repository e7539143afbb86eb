/**
 * Which product a simulated pool pretends to be, and what that changes on the wire.
 *
 * Sources: the release table of the xapi RPM branches and the data model's lifecycle; `8.3` is XCP-ng 8.3 with its
 * updates of 2026 (xapi 26.1.4), whose exports follow allocated extents instead of looking for zeros.
 */

export type PersonaName = '8.0' | '8.2' | '8.3' | 'broken-26.1.2' | 'xs9';

export interface Persona {
  name: PersonaName;
  productBrand: string;
  productVersion: string;
  buildNumber: string;
  xapi: { major: number; minor: number; build: string };
  apiMinor: number;
  checksum: 'sha1' | 'xxh64';
  zstd: boolean;
  /** VM.snapshot takes ignore_vdis (xapi >= 21.4). */
  ignoreVdis: boolean;
  /** VM.snapshot_with_quiesce is there (removed in CH 8.1). */
  quiesce: boolean;
  /** 'zeros': every block with data in it; 'allocated': every block that touches an allocated cluster. */
  blocks: 'zeros' | 'allocated';
  /** ocaml-tar 1.x wrote mode 0000000, 2.x writes 0000400. */
  tarMode: string;
  /** ova.xml's header carries the time of the export (xapi >= 24.13). */
  stampedOva: boolean;
  httpsOnly: boolean;
  /** xapi 26.0 to 26.1.3: the last block of disks that are no whole MiB is out of order, QCOW2 blocks come twice. */
  brokenExport: boolean;
}

const base82: Persona = {
  name: '8.2',
  productBrand: 'XCP-ng',
  productVersion: '8.2.1',
  buildNumber: 'release/yangtze/master/58',
  xapi: { major: 1, minor: 20, build: '1.249.41' },
  apiMinor: 15,
  checksum: 'xxh64',
  zstd: true,
  ignoreVdis: false,
  quiesce: false,
  blocks: 'zeros',
  tarMode: '0000000',
  stampedOva: false,
  httpsOnly: false,
  brokenExport: false,
};

const base83: Persona = {
  ...base82,
  name: '8.3',
  productVersion: '8.3.0',
  buildNumber: 'cloud',
  xapi: { major: 26, minor: 1, build: '26.1.4' },
  apiMinor: 21,
  ignoreVdis: true,
  blocks: 'allocated',
  tarMode: '0000400',
  stampedOva: true,
};

/** All personas by name. */
export const PERSONAS: Readonly<Record<PersonaName, Persona>> = {
  '8.0': {
    ...base82,
    name: '8.0',
    productVersion: '8.0.0',
    buildNumber: 'release/naples/master/45',
    xapi: { major: 1, minor: 20, build: '1.160.1' },
    apiMinor: 12,
    quiesce: true,
    checksum: 'sha1',
    zstd: false,
  },
  '8.2': base82,
  '8.3': base83,
  'broken-26.1.2': {
    ...base83,
    name: 'broken-26.1.2',
    xapi: { major: 26, minor: 1, build: '26.1.2' },
    brokenExport: true,
  },
  xs9: {
    ...base83,
    name: 'xs9',
    productBrand: 'XenServer',
    productVersion: '9.0.0',
    buildNumber: '20260401',
    xapi: { major: 26, minor: 4, build: '26.4.0' },
    apiMinor: 23,
    httpsOnly: true,
  },
};
