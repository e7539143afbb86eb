/**
 * A front that reads and an engine that does: what the one cannot answer, the other does.
 *
 * Where a platform lets a process live only as long as a request (docs/cloudflare.md), this app answers what the bucket
 * knows and hands everything else to an engine that is started for it. Which is which is not written into the routes: the
 * front's service is the reading half of the whole one, and each of its other methods throws `NotHere`. So a route's
 * handler does here whatever comes before: token, scope, signature, query, body, what a sender may name. Only then is
 * the engine woken, by the request as it came; the answer, and what is remembered for an idempotency key, are the engine's.
 *
 * A method that is new to Service is the engine's until it is named here.
 */
import type { Service } from '../backup/service.ts';
import type { Identity } from './auth.ts';

/** What is answered from the bucket alone. */
const READS = [
  'getJob',
  'waitJob',
  'watchJob',
  'listJobs',
  'listBackups',
  'getBackup',
  'archiveLink',
  'status',
  'readiness',
  'getRun',
  'waitRun',
  'listRuns',
  'rotation',
  'forecast',
] as const satisfies readonly (keyof Service)[];
const KEPT: ReadonlySet<string> = new Set(READS);

/** The method of the service that is not answered here, and what it was called with. */
export interface Wanted {
  method: string;
  /** Its first argument: all of the service take one object, or an id. */
  input: unknown;
}

/** Thrown by the reading half of a service. */
export class NotHere extends Error {
  readonly wanted: Wanted;

  constructor(wanted: Wanted) {
    super(`${wanted.method} is not answered here`);
    this.name = 'NotHere';
    this.wanted = wanted;
  }
}

/** A request that was checked and is not answered here. */
export interface Elsewhere {
  wanted: Wanted;
  /** The request as it came, every byte of its body, with the request id it has here. */
  request: Request;
  /** The route's own path, with its parameters in braces. */
  path: string;
  identity: Identity | undefined;
}

/** Has it answered; what changes something outlives the caller's patience there. */
export type AskElsewhere = (asked: Elsewhere) => Promise<Response>;

/** The same service, whose methods throw `NotHere` unless they only read the bucket. */
export function readingHalf(service: Service): Service {
  return new Proxy(service, {
    get: (whole, name) => {
      const value: unknown = Reflect.get(whole, name);
      if (typeof name === 'symbol' || typeof value !== 'function' || KEPT.has(name)) return value;
      return (input: unknown) => {
        throw new NotHere({ method: name, input });
      };
    },
  });
}
