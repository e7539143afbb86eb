/** Sessions and calls against hosts that misbehave by script. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isBackupError } from '../../src/errors.ts';
import type { Pool } from '../../src/ports.ts';
import { createXapiPool, type PoolSettings } from '../../src/xapi/pool.ts';
import { type Value, XenError } from '../sim/xapi/values.ts';
import { createFastClock } from './fast-clock.ts';
import { createKeptLog, everythingIn, silentMeter } from './quiet.ts';
import { Raw, startScriptedHost } from './scripted-host.ts';

const signal = new AbortController().signal;
const SESSION = 'OpaqueRef:the-session';
const PASSWORD = 'correct horse';

function connect(
  urls: string[],
  settings: Partial<PoolSettings> = {},
  log = createKeptLog(),
): Pool {
  return createXapiPool(
    {
      name: 'p',
      urls,
      username: 'root',
      password: PASSWORD,
      trust: { kind: 'system' },
      ...settings,
    },
    { clock: createFastClock(100), log, meter: silentMeter },
  );
}

/** A master with no machines, unless `special` has an answer. */
function master(special: (method: string, params: Value[]) => Value | Raw | 'hang up' | undefined) {
  return {
    onCall: (method: string, params: Value[]) => {
      const answer = special(method, params);
      if (answer !== undefined) return answer;
      if (method === 'session.login_with_password') return SESSION;
      if (method === 'VM.get_all_records_where') return {};
      return '';
    },
  };
}

test('one login serves many calls, and close logs out', async () => {
  await using host = await startScriptedHost(master(() => undefined));
  const pool = connect([host.url]);
  await Promise.all(Array.from({ length: 5 }, () => pool.listVms({ signal })));
  await pool.listVms({ signal });
  await pool.close();
  assert.equal(host.calls.filter((method) => method === 'session.login_with_password').length, 1);
  assert.equal(host.calls.at(-1), 'session.logout');
  await assert.rejects(pool.listVms({ signal }), (error) => isBackupError(error, 'draining'));
});

test('the login carries the originator, and every request head stays small', async () => {
  const heads: number[] = [];
  const logins: Value[][] = [];
  await using host = await startScriptedHost({
    onCall: (method, params, message) => {
      heads.push(message.rawHeaders.join(': \r\n').length);
      assert.equal(message.headers['transfer-encoding'], undefined);
      assert.ok(Number(message.headers['content-length']) > 0);
      if (method === 'session.login_with_password') logins.push(params);
      return method === 'VM.get_all_records_where' ? {} : SESSION;
    },
  });
  const pool = connect([host.url]);
  await pool.listVms({ signal });
  await pool.close();
  assert.deepEqual(logins, [['root', PASSWORD, '2.0', 'xvault']]);
  assert.ok(Math.max(...heads) < 400, `heads ${heads}`);
});

test('a lost session is made anew once, then told', async () => {
  let lost = 1;
  await using host = await startScriptedHost(
    master((method) => {
      if (method !== 'VM.get_all_records_where' || lost === 0) return undefined;
      lost -= 1;
      throw new XenError('SESSION_INVALID', [SESSION]);
    }),
  );
  const pool = connect([host.url]);
  await pool.listVms({ signal });
  assert.equal(host.calls.filter((method) => method === 'session.login_with_password').length, 2);
  lost = 10;
  await assert.rejects(pool.listVms({ signal }), (error) => {
    assert.ok(isBackupError(error, 'pool_unavailable'));
    assert.doesNotMatch(everythingIn(error), /the-session/);
    return true;
  });
  await pool.close();
});

test('a wrong password is tried once, then remembered', async () => {
  await using host = await startScriptedHost(
    master((method) => {
      if (method !== 'session.login_with_password') return undefined;
      throw new XenError('SESSION_AUTHENTICATION_FAILED', ['root', `no ${PASSWORD}`]);
    }),
  );
  const log = createKeptLog();
  const pool = connect([host.url], {}, log);
  for (let at = 0; at < 4; at += 1) {
    await assert.rejects(pool.listVms({ signal }), (error) => {
      assert.ok(isBackupError(error, 'pool_credentials'));
      assert.equal(error.details.xapi_code, 'SESSION_AUTHENTICATION_FAILED');
      assert.doesNotMatch(everythingIn(error), /correct horse/);
      return true;
    });
  }
  assert.deepEqual(host.calls, ['session.login_with_password']);
  assert.doesNotMatch(log.text(), /correct horse/);
  await pool.close();
});

test('slaves that point at each other for ever are given up', async () => {
  await using host = await startScriptedHost({
    onCall: () => {
      throw new XenError('HOST_IS_SLAVE', ['127.0.0.1']);
    },
  });
  const pool = connect([host.url]);
  await assert.rejects(pool.listVms({ signal }), (error) =>
    isBackupError(error, 'pool_unavailable'),
  );
  assert.ok(host.calls.length <= 5, `${host.calls.length} calls`);
  await pool.close();
});

test('a pool with too many tasks is asked again a few times', async () => {
  let busy = 3;
  await using host = await startScriptedHost(
    master((method) => {
      if (method !== 'VM.get_all_records_where' || busy === 0) return undefined;
      busy -= 1;
      throw new XenError('TOO_MANY_PENDING_TASKS');
    }),
  );
  const pool = connect([host.url]);
  assert.deepEqual(await pool.listVms({ signal }), []);
  await pool.close();
});

test('a broken answer to a call that reads is asked for again, to one that changes is not', async () => {
  let cuts = 1;
  await using host = await startScriptedHost(
    master((method) => {
      if (cuts === 0 || method === 'session.login_with_password') return undefined;
      cuts -= 1;
      return 'hang up';
    }),
  );
  const pool = connect([host.url]);
  assert.deepEqual(await pool.listVms({ signal }), []);
  cuts = 1;
  const before = host.calls.length;
  await assert.rejects(pool.markSnapshot('OpaqueRef:1' as never, { a: 'b' }, { signal }), (error) =>
    isBackupError(error, 'pool_unavailable'),
  );
  assert.equal(host.calls.length, before + 1);
  await pool.close();
});

for (const [name, raw] of [
  ['an HTTP 500 page', new Raw(500, 'text/html', '<html>Internal Error</html>')],
  ['an HTML page with status 200', new Raw(200, 'text/html', '<html>Welcome</html>')],
  ['broken XML', new Raw(200, 'text/xml', '<methodResponse><par')],
] as const) {
  test(`${name} is a pool that is not available`, async () => {
    await using host = await startScriptedHost(
      master((method) => (method === 'VM.get_all_records_where' ? raw : undefined)),
    );
    const pool = connect([host.url]);
    await assert.rejects(pool.listVms({ signal }), (error) =>
      isBackupError(error, 'pool_unavailable'),
    );
    await pool.close();
  });
}

test('a call that is never answered ends by its time-out, or by its signal', async () => {
  await using host = await startScriptedHost({
    onCall: (method) => (method === 'session.login_with_password' ? SESSION : 'hang'),
  });
  const pool = connect([host.url], { callTimeoutMs: 50 });
  await assert.rejects(pool.listVms({ signal }), (error) => {
    assert.ok(isBackupError(error, 'pool_unavailable'));
    assert.equal(error.details.timeout_ms, 50);
    return true;
  });
  const patient = connect([host.url]);
  const stop = new AbortController();
  const listing = patient.listVms({ signal: stop.signal });
  setImmediate(() => stop.abort(new Error('no longer wanted')));
  await assert.rejects(listing, /no longer wanted/);
});

test('nobody there at all is told with every address', async () => {
  const urls = ['http://127.0.0.1:9', 'http://127.0.0.1:10'];
  const pool = connect(urls);
  await assert.rejects(pool.listVms({ signal }), (error) => {
    assert.ok(isBackupError(error, 'pool_unavailable'));
    assert.match(JSON.stringify(error.details), /127\.0\.0\.1:9.*127\.0\.0\.1:10/);
    return true;
  });
  await pool.close();
});

test('a dead member does not keep the pool from being found through another', async () => {
  await using host = await startScriptedHost(master(() => undefined));
  const pool = connect(['http://127.0.0.1:9', host.url]);
  assert.deepEqual(await pool.listVms({ signal }), []);
  await pool.close();
});
