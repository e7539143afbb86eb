/**
 * Calls of XenAPI as spans, repeats and a new session included.
 *
 * Parameters are left out: the first of them is the session. Looking at a task again and again is no span unless it fails: an
 * export of hours is looked at every few seconds. No trace context is sent along: hosts take 1,024 bytes of request head in all.
 */
import type { Tracer } from '../tracer.ts';
import type { Session } from './session.ts';

const LOOKS = /^(?:task\.get_|event\.)/;

/** The same session, traced. */
export function tracedSession(
  session: Session,
  tracer: Tracer,
  { pool, address }: { pool: string; address: string | undefined },
): Session {
  const span = <T>(method: string, work: () => Promise<T>): Promise<T> => {
    const attributes = {
      'rpc.system': 'xenapi',
      'rpc.method': method,
      'server.address': address,
      'xvault.pool': pool,
    };
    return tracer.span(method, { kind: 'client', attributes, quiet: LOOKS.test(method) }, work);
  };
  return {
    ...session,
    call: (method, params, options) => span(method, () => session.call(method, params, options)),
    callBare: (method, options) => span(method, () => session.callBare(method, options)),
  };
}
