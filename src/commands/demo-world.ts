/**
 * The world of `xvault demo`: a simulated pool, an embedded S3 server and the real service between them.
 *
 * The one place in src/ that imports from test/: the simulators are the tests' own. They are imported when the demo
 * runs, so nothing else of the program knows them; the package contains them for it.
 */
import type { SimPool } from '../../test/sim/pool.ts';
import type { SimS3 } from '../../test/sim/s3/index.ts';
import { readSettings, type Settings } from '../config.ts';
import { BackupError } from '../errors.ts';
import type { Log } from '../ports.ts';
import { createSecret } from '../secret.ts';
import { type RunningServer, startServer } from './server.ts';

export const DEMO_BUCKET = 'demo-backups';

export interface DemoWorld extends AsyncDisposable {
  pool: SimPool;
  s3: SimS3;
  server: RunningServer;
}

/** The machine whose files change between the two rounds. */
export const CHANGED_MACHINE = 'web-01';

/** Files are written, changed and removed on the machine's disk while it runs, as its guest would. */
export async function changeFiles(pool: SimPool, name: string): Promise<void> {
  const { changeFixtureDisk } = await import('../../test/sim/disk.ts');
  const [root] = pool.machines.find((machine) => machine.name === name)?.disks ?? [];
  if (root === undefined) throw new BackupError('internal', `find a disk of machine ${name}`);
  changeFixtureDisk(root.disk, 'linux-root');
}

/** Starts all three. Errors: `configuration` when the port is taken. */
export async function startDemoWorld(input: { port: number; log: Log }): Promise<DemoWorld> {
  const [{ startSimPool }, { startSimS3 }] = await Promise.all([
    import('../../test/sim/pool.ts'),
    import('../../test/sim/s3/index.ts'),
  ]);
  const stack = new AsyncDisposableStack();
  try {
    const [pool, s3] = await Promise.all([
      startSimPool({ name: 'demo' }),
      startSimS3({ buckets: [DEMO_BUCKET] }),
    ]);
    stack.defer(() => pool.close());
    stack.defer(() => s3.close());
    const server = await startServer(demoSettings(pool, s3, input.port), { log: input.log });
    // Jobs still running when the demo is left are of no use to anybody.
    stack.defer(() => server.stop({ drainMs: 0 }));
    const ending = stack.move();
    return { pool, s3, server, [Symbol.asyncDispose]: () => ending.disposeAsync() };
  } catch (error) {
    await stack.disposeAsync();
    throw error;
  }
}

/** The defaults, whatever the environment says, with the demo's pool and bucket. */
function demoSettings(pool: SimPool, s3: SimS3, port: number): Settings {
  const { settings } = readSettings({ env: {} });
  return {
    ...settings,
    listen: { host: '127.0.0.1', port, loopback: true },
    // nothing real can be overwritten here
    loopbackScopes: ['read', 'backup', 'restore', 'admin'],
    metricsOpen: true,
    metricsPerMachine: true,
    concurrencyPerPool: 4,
    concurrencyPerSr: 2,
    pools: [
      {
        name: 'demo',
        urls: pool.urls,
        username: pool.username,
        password: createSecret(pool.password),
        trust: { kind: 'fingerprint', sha256: pool.fingerprints },
      },
    ],
    bucket: {
      name: DEMO_BUCKET,
      prefix: '',
      endpoint: s3.endpoint,
      pathStyle: true,
      region: s3.region,
      credentials: { accessKeyId: s3.accessKeyId, secretAccessKey: s3.secretAccessKey },
    },
  };
}
