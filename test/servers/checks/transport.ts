/** Ways to the same server: https, and the bucket in the host name. */
import { Agent } from 'node:http';
import { Readable } from 'node:stream';
import { NodeHttpHandler } from '@smithy/node-http-handler';
import { assertSame, type Check, FIVE_MIB, REST, type Trial } from '../trial.ts';

function overTls(t: Trial) {
  if (t.server.endpointTls === undefined) throw new Error('no https here');
  return t.client({ endpoint: t.server.endpointTls });
}

export const TRANSPORT_CHECKS: readonly Check[] = [
  {
    name: 'https: an upload',
    run: async (t) => {
      const via = overTls(t);
      await t.answer('upload', t.upload(t.key('a'), [FIVE_MIB, REST], { via }));
      assertSame(await t.read(t.key('a')), Buffer.concat([FIVE_MIB, REST]));
    },
  },
  {
    name: 'https: a stream with a trailer',
    run: async (t) => {
      const body = { Body: Readable.from([REST]), ContentLength: REST.length };
      await t.answer('put', overTls(t).putObject({ Bucket: t.bucket, Key: t.key('a'), ...body }));
      assertSame(await t.read(t.key('a')), REST);
    },
  },
  {
    name: 'the bucket stands in the host name',
    run: async (t) => {
      const { port } = new URL(t.server.endpoint);
      // Names below localhost do not resolve everywhere.
      const httpAgent = new Agent({
        lookup: (_name, options, done) => {
          if (options.all) done(null, [{ address: '127.0.0.1', family: 4 }]);
          else done(null, '127.0.0.1', 4);
        },
      });
      const requestHandler = new NodeHttpHandler({ httpAgent });
      const endpoint = `http://localhost:${port}`;
      const client = t.client({ endpoint, forcePathStyle: false, requestHandler });
      const target = { Bucket: t.bucket, Key: t.key('a') };
      await t.answer('put', client.putObject({ ...target, Body: 'virtual' }));
      t.note('content', (await t.read(target.Key)).toString());
    },
  },
];
