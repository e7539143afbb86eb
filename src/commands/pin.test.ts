import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createTestTerminal } from '../../test/commands/terminal.ts';
import { runCli } from './cli.ts';

test('an end that is no date as ISO 8601 writes it is refused, not guessed at', async () => {
  const { signal } = new AbortController();
  for (const until of ['5', '2027', '12/1/2027', 'tomorrow', '2027-13-01', '2027-11-23T25:00']) {
    const terminal = createTestTerminal();
    const args = ['pin', '01988a52-9b1e-7c44-8d20-6f1e2d3c4b5a', '--until', until];
    assert.equal(await runCli({ args, terminal, signal, version: '0' }), 2, until);
    assert.match(terminal.text.err, /read --until: a day such as 2027-11-23/, until);
  }
});
