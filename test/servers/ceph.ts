/**
 * A real Ceph RADOS gateway: the reference for what an S3 server answers.
 *
 * Ceph 20 (Tentacle) out of Debian's packages, unpacked once into `.cache/ceph20` and run from there with its data in
 * memory: about 15 s to fetch, 2 s to start, 250 MiB. Lifecycle days last two seconds.
 */
import { writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { createCertificate } from '../sim/xapi/certificate.ts';
import { createRunFolder, findPorts, runScript, sweep } from './daemon.ts';
import { bucketMaker, isWanted, type S3Server, type Skipped } from './server.ts';

const SCRIPTS = join(import.meta.dirname, 'ceph');
const ROOT = resolve(import.meta.dirname, '../../.cache/ceph20');
/** Well below a test's own limit (test/run.ts): a slow network is a reason to skip, not a failure. */
const FETCH_TIMEOUT_MS = 120_000;
const START_TIMEOUT_MS = 90_000;
const STOP_TIMEOUT_MS = 30_000;
/** How long a lifecycle "day" lasts. */
export const CEPH_DAY_SECONDS = 2;
/** The only key of its key service, see start.sh. */
export const CEPH_KMS_KEY = 'testkey-1';
/** Ports in a row that one instance takes: see start.sh. */
const PORTS = 100;
const START_TRIES = 2;

/** A user who owns nothing and may do what a bucket's policy allows; there with `limitedUser`. */
export const LIMITED_USER = {
  arn: 'arn:aws:iam:::user/limited',
  accessKeyId: 'limitedaccess',
  secretAccessKey: 'limitedsecret1234567890',
};

/** Fetches what is missing and starts an instance of its own. */
export async function startCeph(
  options: { limitedUser?: boolean } = {},
): Promise<S3Server | Skipped> {
  if (!isWanted('ceph')) return { skipped: 'Ceph RGW is not among XVAULT_TEST_SERVERS' };
  if (process.platform !== 'linux' || process.arch !== 'x64') {
    return { skipped: 'Ceph RGW is only set up for Linux on x64' };
  }
  try {
    await runScript(join(SCRIPTS, 'fetch-root.sh'), [ROOT], { timeoutMs: FETCH_TIMEOUT_MS });
  } catch (error) {
    return { skipped: `Ceph RGW can not be fetched: ${(error as Error).message}` };
  }
  await sweep('ceph', join(SCRIPTS, 'stop.sh'));
  for (let tries = START_TRIES; ; tries--) {
    try {
      return await startInstance(options);
    } catch (error) {
      // Another process may have taken one of the ports between the look and the start.
      if (tries > 1) continue;
      return { skipped: `Ceph RGW does not start: ${(error as Error).message}` };
    }
  }
}

async function startInstance({ limitedUser }: { limitedUser?: boolean }): Promise<S3Server> {
  const folder = createRunFolder('ceph');
  const port = await findPorts(PORTS);
  const address = '127.0.0.1';
  const { certPem, keyPem } = createCertificate({ address, serial: port, nowMs: Date.now() });
  writeFileSync(join(folder, 'cert.pem'), certPem);
  writeFileSync(join(folder, 'key.pem'), keyPem, { mode: 0o600 });
  const facts = {
    endpoint: `http://${address}:${port}`,
    accessKeyId: 'testaccess',
    secretAccessKey: 'testsecret1234567890',
    region: 'us-east-1',
  };
  const stop = async () => {
    await runScript(join(SCRIPTS, 'stop.sh'), [folder], { timeoutMs: STOP_TIMEOUT_MS });
  };
  const env = {
    CEPH_ROOT: ROOT,
    ACCESS_KEY: facts.accessKeyId,
    SECRET_KEY: facts.secretAccessKey,
    TLS_CERT: join(folder, 'cert.pem'),
    TLS_KEY: join(folder, 'key.pem'),
    DAY_SECONDS: String(CEPH_DAY_SECONDS),
    OWNER_PID: String(process.pid),
    ...(limitedUser === true && {
      LIMITED_ACCESS_KEY: LIMITED_USER.accessKeyId,
      LIMITED_SECRET_KEY: LIMITED_USER.secretAccessKey,
    }),
  };
  const timeoutMs = START_TIMEOUT_MS;
  const createBucket = bucketMaker(facts);
  try {
    await runScript(join(SCRIPTS, 'start.sh'), [folder, String(port)], { env, timeoutMs });
    // its gateway answers before its storage writes, and has once not come to that at all
    await createBucket('first');
  } catch (error) {
    await stop();
    throw error;
  }
  return {
    name: 'ceph',
    ...facts,
    endpointTls: `https://${address}:${port + 1}`,
    caPem: certPem,
    createBucket,
    stop,
  };
}
