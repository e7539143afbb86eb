/** XML and JSON made to hurt who reads them: bombs, depth, sheer number, names that mean something to JavaScript. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { decodeAnswer } from '../../src/xapi/codec.ts';
import { parseOva } from '../../src/xva/ova.ts';
import { createHarness } from '../http/harness.ts';

const START = '/v1/vms/web-1/backups';

function answer(value: string, prolog = ''): Buffer {
  return Buffer.from(
    `<?xml version="1.0"?>${prolog}<methodResponse><params><param><value><struct>` +
      '<member><name>Status</name><value>Success</value></member>' +
      `<member><name>Value</name><value>${value}</value></member>` +
      '</struct></value></param></params></methodResponse>',
  );
}

/** A billion laughs: ten entities, each ten times the one before. */
const LAUGHS = `<!DOCTYPE x [<!ENTITY l0 "ha">${Array.from(
  { length: 9 },
  (_, n) => `<!ENTITY l${n + 1} "${`&l${n};`.repeat(10)}">`,
).join('')}]>`;
const OUTSIDE = '<!DOCTYPE x [<!ENTITY f SYSTEM "file:///etc/passwd">]>';

describe('an answer of a pool', () => {
  test('has no entities but those of XML: bombs stay text, files unread', async () => {
    for (const [prolog, entity] of [
      [LAUGHS, '&l9;'],
      [OUTSIDE, '&f;'],
    ] as const) {
      const value = await decodeAnswer(answer(`a${entity}&amp;`, prolog)).catch((error) => {
        assert.equal(error.code, 'pool_unavailable');
        return '';
      });
      assert.ok(String(value).length < 20, String(value).slice(0, 100));
      assert.equal(String(value).includes('root:'), false);
    }
  });

  test('nested a million times is refused, and soon', async () => {
    const deep = '<value><array><data>'.repeat(1_000_000);
    const before = process.memoryUsage().heapUsed;
    await assert.rejects(decodeAnswer(Buffer.from(deep)), { code: 'pool_unavailable' });
    await assert.rejects(decodeAnswer(answer(deep)), { code: 'pool_unavailable' });
    assert.ok(process.memoryUsage().heapUsed - before < 100 * 1024 ** 2);
  });

  test('as deep as any real one is read', async () => {
    const deep = `${'<array><data><value>'.repeat(30)}x${'</value></data></array>'.repeat(30)}`;
    assert.match(JSON.stringify(await decodeAnswer(answer(deep))), /^\[{30}"x"\]{30}$/);
  });

  test('with names of JavaScript changes no object but itself', async () => {
    const member = (name: string) =>
      `<member><name>${name}</name><value><struct><member><name>polluted</name>` +
      '<value>yes</value></member></struct></value></member>';
    const names = ['__proto__', 'constructor', 'prototype', 'toString'];
    const struct = `<struct>${names.map(member).join('')}</struct>`;
    await decodeAnswer(answer(struct));
    assert.equal(({} as Record<string, unknown>).polluted, undefined);
    assert.equal((Object as unknown as Record<string, unknown>).polluted, undefined);
    assert.equal(typeof {}.toString, 'function');
  });

  test('with a text of megabytes or a million values is read without piling up', async () => {
    const text = await decodeAnswer(answer('x'.repeat(4_000_000)));
    assert.equal(String(text).length, 4_000_000);
    const list = `<array><data>${'<value/>'.repeat(100_000)}</data></array>`;
    assert.equal(((await decodeAnswer(answer(list))) as unknown[]).length, 100_000);
  });
});

test('ova.xml with entities, depth or numbers made to hurt is data_corrupt, without quoting it', () => {
  const disk = (size: string) =>
    `<struct><member><name>class</name><value>VDI</value></member><member><name>id</name><value>Ref:1</value></member><member><name>snapshot</name><value><struct><member><name>virtual_size</name><value>${size}</value></member></struct></value></member></struct>`;
  const bombs = [
    `${LAUGHS}<value>&l9;</value>`,
    `${OUTSIDE}<value>&f;</value>`,
    '<value><array><data>'.repeat(100_000),
    `<value><struct>${'<member>'.repeat(100_000)}`,
    `<value><array><data>${'<value/>'.repeat(300_000)}</data></array></value>`,
    `<value>${disk('9'.repeat(400))}</value>`,
    `<value a="${'x'.repeat(1_000_000)}"/>`,
    `<${'n'.repeat(1_000_000)}/>`,
    `<!--${'-'.repeat(1_000_000)}`,
    `<?${'p'.repeat(1_000_000)}`,
    '<value>\u0000\ufffe</value>',
    '\ufeff'.repeat(1000),
  ];
  for (const bomb of bombs) {
    assert.throws(
      () => parseOva(Buffer.from(bomb)),
      (error: Error & { code?: string }) => {
        assert.equal(error.code, 'data_corrupt', bomb.slice(0, 60));
        return error.message.length < 300;
      },
    );
  }
});

describe('a body', () => {
  const raw = async (body: string) => {
    const harness = createHarness();
    const headers = { authorization: 'Bearer all-token', 'content-type': 'application/json' };
    const response = await harness.request('POST', START, { headers, body });
    const text = await response.text();
    return { response, text, started: harness.service.calls.get('startBackup') ?? [] };
  };

  test('nested as deep as a megabyte allows is refused by its place, not by a stack', async () => {
    const deep = 500_000;
    for (const body of [
      '['.repeat(deep),
      `${'['.repeat(deep)}${']'.repeat(deep)}`,
      `{"note":${'['.repeat(deep)}${']'.repeat(deep)}}`,
      `${'{"a":'.repeat(170_000)}1${'}'.repeat(170_000)}`,
    ]) {
      const { response, text, started } = await raw(body);
      assert.ok([400, 422].includes(response.status), `${response.status} ${text.slice(0, 200)}`);
      assert.ok(text.length < 10_000);
      assert.equal(started.length, 0);
    }
  });

  test('with names of JavaScript is refused by name and changes nothing', async () => {
    const body =
      '{"__proto__":{"dry_run":true},"constructor":{"prototype":{"admin":1}},"hasOwnProperty":1}';
    const { response, text, started } = await raw(body);
    assert.equal(response.status, 422);
    for (const name of ['__proto__', 'constructor', 'hasOwnProperty'])
      assert.match(text, RegExp(name));
    assert.equal(started.length, 0);
    assert.equal(({} as Record<string, unknown>).admin, undefined);
    assert.equal(({} as Record<string, unknown>).dry_run, undefined);
  });

  test('with a hundred thousand mistakes gets an answer smaller than itself', async () => {
    const fields = Array.from({ length: 80_000 }, (_, at) => `"f${at}":1`).join(',');
    const bodies = [
      `{${fields}}`,
      `{"${'k'.repeat(900_000)}":1}`,
      `{"exclude_disks":[${'1,'.repeat(400_000)}1]}`,
      `{"mode":"${'m'.repeat(900_000)}"}`,
    ];
    for (const body of bodies) {
      const { response, text } = await raw(body);
      assert.equal(response.status, 422);
      assert.ok(text.length < 20_000, `${body.slice(0, 30)}: ${text.length} characters`);
    }
  });

  test('with huge, odd or repeated values is taken as JSON says or refused', async () => {
    for (const body of [
      '{"note":1e999}',
      '{"dry_run":1}',
      '{"exclude_disks":[1e400,-0,12345678901234567890]}',
      '{"note":"\\ud800"} ',
      '\ufeff{"note":"x"}',
      '{"note":"x"}\u0000',
      '{"mode":"full","mode":"delta","mode":{}}',
    ]) {
      const { response } = await raw(body);
      assert.ok([202, 400, 422].includes(response.status), `${body}: ${response.status}`);
    }
    const { response, started } = await raw('{"mode":"delta","mode":"full"}');
    assert.equal(response.status, 202);
    assert.equal(
      (started as { request: { mode: string } }[])[0]?.request.mode,
      'full',
      'the last one',
    );
  });

  test('of another coding is refused or read as the text it is', async () => {
    const { request, service } = createHarness();
    for (const coding of ['gzip', 'br', 'deflate']) {
      const headers = {
        authorization: 'Bearer all-token',
        'content-type': 'application/json',
        'content-encoding': coding,
      };
      const answer = await request('POST', START, { headers, body: '\x1f\x8b\x08' });
      assert.ok([400, 415].includes(answer.status), String(answer.status));
    }
    assert.equal(service.calls.has('startBackup'), false);
  });
});

test('a query of thousands of parameters gets a short answer', async () => {
  const { get } = createHarness();
  const query = Array.from({ length: 5000 }, (_, at) => `p${at}=1`).join('&');
  for (const path of [
    `/v1/jobs?${query}`,
    `/v1/jobs?vm=${'x'.repeat(10_000)}`,
    `/v1/jobs?__proto__=1`,
  ]) {
    const answer = await get(path);
    assert.equal(answer.status, 422, path.slice(0, 40));
    assert.ok((await answer.text()).length < 20_000);
  }
});
