import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { createTestTerminal } from '../../test/commands/terminal.ts';
import { ERROR_CODES } from '../errors.ts';
import { VERSION } from '../version.ts';
import { runCli } from './cli.ts';
import { EXIT_CODES, exitCodeOf } from './exit-code.ts';
import { COMMANDS } from './index.ts';
import { commandLinePage, settingsPage } from './pages.ts';

async function cli(...args: string[]) {
  const terminal = createTestTerminal();
  const signal = new AbortController().signal;
  const code = await runCli({ args, terminal, signal, version: '9.9.9' });
  return { code, ...terminal.text };
}

test('without a command the help is shown and the code is 2', async () => {
  const { code, out } = await cli();
  assert.equal(code, 2);
  assert.match(out, /^xvault 9\.9\.9/);
  for (const name of Object.keys(COMMANDS)) assert.ok(out.includes(`\n  ${name} `), name);
});

test('help shows the examples before the options, for every command', async () => {
  for (const name of Object.keys(COMMANDS)) {
    for (const args of [
      [name, '--help'],
      ['help', name],
    ]) {
      const { code, out, err } = await cli(...args);
      assert.equal(code, 0);
      assert.equal(err, '');
      assert.ok(out.startsWith(`xvault ${name}`));
      assert.ok(out.indexOf('Examples') < out.indexOf('Options'));
    }
  }
});

test('an unknown command is a usage mistake with the nearest', async () => {
  const { code, out, err } = await cli('confgi');
  assert.equal(code, 2);
  assert.equal(out, '');
  assert.match(err, /unknown command confgi; did you mean config\?/);
  assert.equal((await cli('toString')).code, 2);
});

test('help on an unknown topic says so', async () => {
  const { code, out, err } = await cli('help', 'exit-code');
  assert.equal(code, 2);
  assert.equal(out, '');
  assert.match(err, /unknown command exit-code; did you mean exit-codes\?/);
});

test('an option value that is none of the known ones is refused before anything is asked', async () => {
  const { code, err } = await cli('jobs', '--status', 'broken');
  assert.equal(code, 2);
  assert.match(err, /--status: one of queued, running, succeeded, failed, cancelled/);
  const both = await cli('backup', 'web-1', '--wait', '--no-wait');
  assert.equal(both.code, 2);
  assert.match(both.err, /--wait or --no-wait/);
});

test('an unknown option is a usage mistake with the nearest', async () => {
  const { code, err } = await cli('config', '--jsno');
  assert.equal(code, 2);
  assert.match(err, /unknown option --jsno; did you mean --json\?/);
});

test('with --json a usage mistake is JSON, too', async () => {
  for (const args of [
    ['backup', '--json'],
    ['config', 'what', '--json'],
    ['list', '--json', '--pol', 'x'],
  ]) {
    const { code, out, err } = await cli(...args);
    assert.equal(code, 2);
    assert.equal(out, '');
    assert.equal(JSON.parse(err).error.code, 'invalid_request');
  }
});

test('check answers in JSON even when it could not look', async () => {
  const { code, out } = await cli('check', '--warning', 'soon', '--json');
  assert.equal(code, 3);
  const { state, code: told, lines } = JSON.parse(out);
  assert.deepEqual([state, told, lines.length], ['UNKNOWN', 3, 1]);
});

test('too many words are a usage mistake', async () => {
  const { code, err } = await cli('config', 'what');
  assert.equal(code, 2);
  assert.match(err, /too many words/);
});

test('the version is that of package.json', async () => {
  const { version } = JSON.parse(
    readFileSync(new URL('../../package.json', import.meta.url), 'utf8'),
  );
  assert.equal(VERSION, version);
  assert.equal((await cli('--version')).out, '9.9.9\n');
});

test('every error code has an exit code that the help explains', async () => {
  const { out } = await cli('help', 'exit-codes');
  for (const code of Object.keys(ERROR_CODES)) {
    assert.ok(exitCodeOf(code) !== 0);
    assert.ok(Object.hasOwn(EXIT_CODES, exitCodeOf(code)));
    assert.match(out, new RegExp(`^ *${exitCodeOf(code)} `, 'm'));
  }
  assert.equal(exitCodeOf('some_new_code'), 1);
});

test('docs/settings.md and docs/command-line.md are current (npm run docs)', async () => {
  const page = (name: string) =>
    readFileSync(new URL(`../../docs/${name}`, import.meta.url), 'utf8');
  assert.equal(page('settings.md'), settingsPage());
  assert.equal(page('command-line.md'), await commandLinePage());
});
