import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { formatXmlValue, parseXmlValue, type XmlValue } from './xml-value.ts';

test('every kind of value is read', () => {
  const xml = `<!-- c --><value> <struct>
    <member><name>text</name><value>a &lt;b&gt; &amp; "c" <![CDATA[<d>]]></value></member>
    <member><name>string</name><value><string> x </string></value></member>
    <member><name>empty</name><value/></member>
    <member><name>int</name><value><int> 5 </int></value></member>
    <member><name>flag</name><value><boolean>1</boolean></value></member>
    <member><name>when</name><value><dateTime.iso8601>20260101T00:00:00Z</dateTime.iso8601></value></member>
    <member><name>none</name><value><nil/></value></member>
    <member><name>list</name><value><array><data><value>1</value><value/></data></array></value></member>
    <member><name>struct</name><value><struct/></value></member>
    </struct></value>`;
  assert.deepEqual(
    parseXmlValue(xml),
    new Map<string, XmlValue>([
      ['text', 'a <b> & "c" <d>'],
      ['string', ' x '],
      ['empty', ''],
      ['int', { tag: 'int', text: '5' }],
      ['flag', { tag: 'boolean', text: '1' }],
      ['when', { tag: 'dateTime.iso8601', text: '20260101T00:00:00Z' }],
      ['none', { tag: 'nil', text: '' }],
      ['list', ['1', '']],
      ['struct', new Map()],
    ]),
  );
});

test('a text longer than the parser keeps at once is read whole', () => {
  const long = 'x'.repeat(300_000);
  assert.equal(parseXmlValue(`<value>${long}</value>`), long);
  assert.equal(parseXmlValue(`<value><![CDATA[${long}]]></value>`), long);
});

const REFUSED: [name: string, xml: string, why: RegExp][] = [
  ['nothing', '', /is empty/],
  ['no XML', 'hello', /well-formed/],
  ['an element left open', '<value><int>1</int>', /well-formed/],
  ['a document type', '<!DOCTYPE x [<!ENTITY a "aaaa">]><value>&a;</value>', /document type/],
  ['an entity of its own', '<value>&nbsp;</value>', /well-formed/],
  ['another root', '<methodResponse/>', /out of place/],
  ['two roots', '<value/><value/>', /well-formed|two values/],
  ['an unknown type', '<value><float>1</float></value>', /out of place/],
  ['an element in a scalar', '<value><int><int/></int></value>', /out of place/],
  ['a value without data', '<value><array/></value>', /array without data/],
  ['two values in one', '<value><int>1</int><int>2</int></value>', /two values/],
  ['text beside an element', '<value>x<int>1</int></value>', /text out of place/],
  ['text in a struct', '<value><struct>x</struct></value>', /text out of place/],
  [
    'a member without value',
    '<value><struct><member><name>a</name></member></struct></value>',
    /without name/,
  ],
  [
    'a member without name',
    '<value><struct><member><value/></member></struct></value>',
    /without name/,
  ],
  [
    'a member with two names',
    '<value><struct><member><name>a</name><name>b</name></member></struct></value>',
    /two names/,
  ],
  [
    'a name twice',
    `<value><struct>${'<member><name>a</name><value/></member>'.repeat(2)}</struct></value>`,
    /two members/,
  ],
  ['a deep nest', '<value><array><data>'.repeat(40), /too deep/],
  [
    'too many values',
    `<value><array><data>${'<value/>'.repeat(250_001)}</data></array></value>`,
    /too many values/,
  ],
];
for (const [name, xml, why] of REFUSED) {
  test(`${name} is refused`, () => {
    assert.throws(() => parseXmlValue(xml), why);
  });
}

test('values are written the way xapi writes them, members sorted', () => {
  const value: XmlValue = new Map<string, XmlValue>([
    ['b', ['<&>"', { tag: 'boolean', text: '1' }]],
    ['a\u0001', { tag: 'nil', text: '' }],
    ['c', 'x\ty\u0000\ud800z😀'],
  ]);
  assert.equal(
    formatXmlValue(value),
    '<value><struct><member><name>a</name><value><nil/></value></member>' +
      '<member><name>b</name><value><array><data><value>&lt;&amp;&gt;&quot;</value>' +
      '<value><boolean>1</boolean></value></data></array></value></member>' +
      '<member><name>c</name><value>x\tyz😀</value></member></struct></value>',
  );
});

test('whatever is written is read back', () => {
  const text = fc.string().map((s) => s.replace(/[^\x20-\x7e]/g, ''));
  const { value } = fc.letrec<{ value: XmlValue }>((tie) => ({
    value: fc.oneof(
      { maxDepth: 4 },
      text,
      fc.constantFrom('int', 'boolean').map((tag) => ({ tag, text: '1' })),
      fc.array(tie('value'), { maxLength: 4 }),
      fc.array(fc.tuple(text, tie('value')), { maxLength: 4 }).map((entries) => new Map(entries)),
    ),
  }));
  fc.assert(fc.property(value, (any) => assert.deepEqual(parseXmlValue(formatXmlValue(any)), any)));
});
