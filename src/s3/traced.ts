/**
 * Calls of the store as spans, by the conventions for the AWS SDK (`S3.PutObject`, rpc.*, aws.s3.*), tries included.
 *
 * What carries an archive is left out unless it fails: a terabyte is some thousand parts, which nobody reads and every collector
 * charges for. How many there were is in the job's own span.
 */
import type { Tracer } from '../tracer.ts';
import type { Calls } from './calls.ts';

/** Parts; and ranges of archives, which have a budget of their own. */
const BULK = new Set(['UploadPart', 'UploadPartCopy']);

/** The same calls, traced. */
export function tracedCalls(
  calls: Calls,
  tracer: Tracer,
  { bucket, endpoint }: { bucket: string; endpoint: string },
): Calls {
  const address = URL.parse(endpoint)?.hostname;
  return async (operation, send, options) => {
    let resent = 0;
    const work = () =>
      calls(operation, send, {
        ...options,
        onRetry: (failure) => {
          resent += 1;
          options.onRetry?.(failure);
        },
      });
    const attributes = {
      'rpc.system': 'aws-api',
      'rpc.service': 'S3',
      'rpc.method': operation,
      'aws.s3.bucket': bucket,
      'aws.s3.key': options.key,
      'server.address': address,
    };
    const quiet =
      BULK.has(operation) || (operation === 'GetObject' && options.budget !== undefined);
    return await tracer.span(
      `S3.${operation}`,
      { kind: 'client', attributes, quiet },
      async (span) => {
        try {
          return await work();
        } finally {
          if (resent > 0) span.set({ 'http.request.resend_count': resent });
        }
      },
    );
  };
}
