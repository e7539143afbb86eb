/** Which machines a run means: one table. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { runRequestSchema } from '../catalog/run.ts';
import { type Candidate, selectMachines } from './runs-select.ts';

const UUID = 'a0a0a0a0-0000-4000-8000-00000000000';
const machine = (at: number, name: string, tags: string[] = []): Candidate => ({
  vm: { uuid: `${UUID}${at}`, name, pool: 'dc1' },
  tags,
});
const MACHINES = [
  machine(0, 'web-1', ['nightly', 'web']),
  machine(1, 'web-2', ['web']),
  machine(2, 'db', ['nightly']),
  machine(3, 'Test-1', ['nightly', 'xvault:skip']),
  machine(4, 'twin'),
  machine(5, 'twin'),
];

interface Row {
  what: string;
  select: object;
  skip?: string[];
  selected: string[];
  skipped?: string[];
  missing?: string[];
  notes?: RegExp;
}

const ROWS: Row[] = [
  {
    what: 'all but the one that carries the tag',
    select: { all: true },
    selected: ['web-1', 'web-2', 'db', 'twin', 'twin'],
    skipped: ['Test-1: it carries the tag xvault:skip'],
  },
  {
    what: 'a tag',
    select: { tags: ['web'] },
    selected: ['web-1', 'web-2'],
  },
  {
    what: 'any of several tags and names, each machine once',
    select: { tags: ['web', 'nightly'], names: ['web-1', 'twin'] },
    selected: ['web-1', 'web-2', 'db', 'twin', 'twin'],
    skipped: ['Test-1: it carries the tag xvault:skip'],
  },
  { what: 'a uuid in capitals', select: { names: [`${UUID}2`.toUpperCase()] }, selected: ['db'] },
  {
    what: 'a name in full only, and its case',
    select: { names: ['web', 'DB', 'db'] },
    selected: ['db'],
    missing: ['web', 'DB'],
  },
  {
    what: 'the tag also where the machine is named',
    select: { names: ['Test-1'] },
    selected: [],
    skipped: ['Test-1: it carries the tag xvault:skip'],
  },
  {
    what: 'skipping by a part of the name, its case, and by uuid',
    select: { all: true },
    skip: ['eb-', 'test', `${UUID}4`],
    selected: ['db', 'twin'],
    skipped: [
      'web-1: eb- is in the skip list',
      'web-2: eb- is in the skip list',
      'Test-1: it carries the tag xvault:skip',
      `twin: ${UUID}4 is in the skip list`,
    ],
    notes: /^test of the skip list fits no machine$/,
  },
  {
    what: 'only what was meant is told as skipped',
    select: { tags: ['web'] },
    skip: ['twin', 'web-2'],
    selected: ['web-1'],
    skipped: ['web-2: web-2 is in the skip list'],
  },
  {
    what: 'a tag nobody carries is told, and no failure',
    select: { tags: ['weekly', 'web'] },
    selected: ['web-1', 'web-2'],
    notes: /^no machine carries the tag weekly$/,
  },
];

for (const row of ROWS) {
  test(`a run means: ${row.what}`, () => {
    const { select, skip } = runRequestSchema.parse({ select: row.select, skip: row.skip ?? [] });
    const found = selectMachines(MACHINES, { select, skip });
    assert.deepEqual(
      found.selected.map(({ vm }) => vm.name),
      row.selected,
    );
    assert.deepEqual(
      found.skipped.map(({ vm, reason }) => `${vm.name}: ${reason}`),
      row.skipped ?? [],
    );
    assert.deepEqual(found.missing, row.missing ?? []);
    assert.match(found.notes.join('\n'), row.notes ?? /^$/);
  });
}

test('a request says which machines it means, in one way, and nothing a run does not know', () => {
  const refused = [
    {},
    { select: {} },
    { select: { all: false } },
    { select: { all: true, tags: ['web'] } },
    { select: { all: true, who: 'me' } },
    { select: { all: true }, pool: 'dc1' },
    { select: { all: true }, hooks: { before_snapshot: 'https://a.example/' } },
    { select: { names: [''] } },
    { select: { all: true }, skip: [''] },
    { select: { all: true }, deadline: 'soon' },
    { select: { all: true }, deadline: '8 h' },
    { select: { all: true }, deadline: '2026-11-24T06:00:00' },
  ];
  for (const body of refused) {
    assert.equal(runRequestSchema.safeParse(body).success, false, JSON.stringify(body));
  }
  for (const deadline of ['90m', '8h', '2026-11-24T06:00:00+01:00', '2026-11-24T06:00:00Z']) {
    assert.ok(runRequestSchema.safeParse({ select: { all: true }, deadline }).success, deadline);
  }
});
