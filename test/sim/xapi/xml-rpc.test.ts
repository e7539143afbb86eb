import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseQuery } from './query.ts';
import { float, i4, tagged } from './values.ts';
import { formatValue, parseCall } from './xml-rpc.ts';

function callWith(value: string): unknown {
  const param = `<params><param>${value}</param></params>`;
  const [first] = parseCall(
    `<?xml version="1.0"?>\n<!-- c --><methodCall> <methodName>a.b</methodName>${param}</methodCall>`,
  ).params;
  return first;
}

test('every way to write a parameter is read as xapi reads it', () => {
  assert.equal(callWith('<value> a b </value>'), ' a b ');
  assert.equal(callWith('<value><string>x &lt; &#65;&#x42;</string></value>'), 'x < AB');
  assert.equal(callWith('<value><![CDATA[<raw>]]></value>'), '<raw>');
  assert.equal(callWith('<value/>'), '');
  assert.equal(callWith('<value><string/></value>'), '');
  assert.equal(callWith('<value><nil/></value>'), '');
  assert.equal(callWith('<value><int>5000000000</int></value>'), 5_000_000_000);
  assert.equal(callWith('<value><i8>-7</i8></value>'), -7);
  assert.equal(callWith('<value><boolean>1</boolean></value>'), true);
  assert.equal(callWith('<value><boolean>true</boolean></value>'), false);
  assert.deepEqual(callWith('<value><array><data/></array></value>'), []);
  assert.deepEqual(callWith('<value><struct/></value>'), {});
  assert.deepEqual(
    callWith('<value><struct>\n<member><name>k</name> <value>v</value></member></struct></value>'),
    { k: 'v' },
  );
  const number = callWith('<value><double>60.1</double></value>');
  assert.equal(tagged(number as never)?.value, 60.1);
});

test('malformed calls throw', () => {
  for (const xml of [
    '',
    '<methodCall>',
    '<methodCall></methodCall>',
    '<methodCall><methodName>a</methodName></wrong>',
    '<methodCall><methodName>a</methodName><params><param><value>&bomb;</value></param></params></methodCall>',
    '<methodResponse/>',
    'no xml',
  ]) {
    assert.throws(() => parseCall(xml), Error, xml);
  }
  assert.throws(() => callWith('<value><int>5x</int></value>'));
  assert.throws(() => callWith('<value><date>5</date></value>'));
  const deep = '<value><array><data>'.repeat(200) + '</data></array></value>'.repeat(200);
  assert.throws(() => callWith(deep));
});

test('values are written as xapi writes them', () => {
  assert.equal(formatValue('a<b>&"c"\u0001\n'), '<value>a&lt;b&gt;&amp;&quot;c&quot;\n</value>');
  assert.equal(formatValue(-5), '<value>-5</value>');
  assert.equal(formatValue(''), '<value></value>');
  assert.equal(formatValue(float(0.05)), '<value><double>0.05</double></value>');
  assert.equal(formatValue(i4(3)), '<value><i4>3</i4></value>');
  assert.equal(
    formatValue(new Date('2026-08-21T02:00:23.456Z')),
    '<value><dateTime.iso8601>20260821T02:00:23Z</dateTime.iso8601></value>',
  );
  assert.equal(
    formatValue({ a: ['x', true] }),
    '<value><struct><member><name>a</name><value><array><data><value>x</value>' +
      '<value><boolean>1</boolean></value></data></array></value></member></struct></value>',
  );
});

test('queries combine fields, texts, and, or, not and brackets', () => {
  const record = { name: 'a "quoted" name', power: 'Running', template: false, size: 7 };
  const holds = (query: string) => parseQuery(query)(record);
  assert.equal(holds('true'), true);
  assert.equal(holds('field "power"="Running"'), true);
  assert.equal(holds("field 'power' = 'Halted'"), false);
  assert.equal(holds('field "name"="a \\"quoted\\" name"'), true);
  assert.equal(holds('field "template"="false" and field "size"="7"'), true);
  assert.equal(holds('not field "template"="true"'), true);
  assert.equal(holds('(false or true) and not (false)'), true);
  assert.equal(holds('false and true or true'), true);
  assert.equal(holds('field "power"=field "power"'), true);
  for (const bad of [
    '',
    'field',
    'field "power"',
    'field "power"="x" and',
    '(true',
    'true)',
    '%',
  ]) {
    assert.throws(() => parseQuery(bad), /INTERNAL_ERROR/, bad);
  }
  assert.throws(() => holds('field "nothing"="x"'), /no field nothing/);
});
