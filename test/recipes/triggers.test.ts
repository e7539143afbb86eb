/**
 * The program itself, called the way docs/triggers.md says: its snippet as it stands there, and a slash command whose later
 * answer arrives at a server that listens.
 */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { type TestContext, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import type { JobView } from '../../src/http/views.ts';
import { startHttpWorld, TOKEN } from '../e2e/app.ts';
import { settingsFor, startProgram } from '../e2e/program.ts';
import { createSparseDisk } from '../sim/disk.ts';

const REPO = fileURLToPath(new URL('../../', import.meta.url));
const SECRET = `whsec_${Buffer.alloc(32, 3).toString('base64')}`;
const CHAT_TOKEN = 'bfoyy3cfobf8pxgbumogbsp8hr';
const DISK = {
  name: 'root',
  storage: 'nfs' as const,
  bootable: true,
  open: () => createSparseDisk(2 * 1_048_576),
};

/** The code of the page, for standard input of node; SECRET and XVAULT_URL are what a reader fills in. */
function snippet(url: string): string {
  const page = readFileSync(new URL('../../docs/triggers.md', import.meta.url), 'utf8');
  const [, code = ''] = /```js\n([\s\S]*?)```/.exec(page) ?? [];
  const values = `const SECRET = ${JSON.stringify(SECRET)}, XVAULT_URL = ${JSON.stringify(url)};\n`;
  return (
    values +
    code
      .replace('await fetch(', 'const answer = await fetch(')
      .concat('console.log(await answer.text());')
  );
}

function runModule(code: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const args = ['--input-type=module', '--eval', code];
    execFile(process.execPath, args, { cwd: REPO, env: {} }, (error, out) =>
      error === null ? resolve(out) : reject(error),
    );
  });
}

/** A server that keeps what it is told of the end. */
async function startChat(t: TestContext) {
  const told = Promise.withResolvers<{ path: string | undefined; body: string }>();
  const server = createServer(async (request, response) => {
    let body = '';
    for await (const piece of request.setEncoding('utf8')) body += piece;
    response.end('ok');
    // on a slow machine the command's own answer comes this way, too, before
    if (body.includes('is backed up')) told.resolve({ path: request.url, body });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => server.close());
  const { port } = server.address() as AddressInfo;
  return { url: `http://127.0.0.1:${port}`, told: told.promise };
}

test('a webhook and a slash command start backups in the program, and the chat hears how it ended', async (t) => {
  const chat = await startChat(t);
  const machines = ['web-1', 'web-2'].map((name) => ({
    name,
    power: 'Running' as const,
    disks: [DISK],
  }));
  await using world = await startHttpWorld({ pool: { machines } });
  assert.ok(world.s3);
  const serve = startProgram(['serve'], {
    ...settingsFor(world.sim, world.s3),
    XVAULT_TOKEN: TOKEN,
    XVAULT_HOOK_STANDARD_SECRET: SECRET,
    XVAULT_HOOK_MATTERMOST_TOKEN: CHAT_TOKEN,
    XVAULT_HOOK_MATTERMOST_URL: chat.url,
    XVAULT_HOOK_MATTERMOST_USERS: '{"u1": ["run"]}',
  });
  t.after(() => serve.child.kill('SIGKILL'));
  const { url } = JSON.parse(await serve.saw('"listening"')) as { url: string };
  const job = JSON.parse(await runModule(snippet(url))) as JobView;
  assert.deepEqual([job.vm.name, job.triggered_by], ['web-1', 'hook:standard']);
  const said = await fetch(`${url}/hooks/mattermost`, {
    method: 'POST',
    headers: { authorization: `Token ${CHAT_TOKEN}` },
    body: new URLSearchParams({
      user_id: 'u1',
      text: 'run web-2',
      response_url: `${chat.url}/hooks/commands/abc`,
    }),
  });
  assert.equal(said.status, 200);
  const told = await chat.told;
  assert.equal(told.path, '/hooks/commands/abc');
  assert.match(JSON.parse(told.body).text, /^web-2 is backed up/);
  serve.child.kill('SIGTERM');
  assert.equal(await serve.ended, 0);
  const log = serve.output.out + serve.output.err;
  for (const secret of [SECRET, CHAT_TOKEN]) assert.equal(log.includes(secret), false);
  assert.equal((await world.backupsOf('web-1')).length, 1);
});
