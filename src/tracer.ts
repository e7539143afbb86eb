/**
 * The port to traces: what was asked for, what was done for it, and how long each piece took.
 *
 * Implemented by traces.ts over OpenTelemetry where an endpoint is set, and by NO_TRACER, which costs nothing, elsewhere. A span
 * begins under the one its code runs in. Work that goes on later, or in another process, carries the `traceparent` (W3C Trace
 * Context) of the span that asked for it. No secret and no address with one ever stands in a name or an attribute.
 */

export type SpanAttributes = Readonly<Record<string, string | number | boolean | undefined>>;

export interface SpanOptions {
  /** Of a call to somebody else: `client`. It is recorded only inside of another span: by itself it belongs to nobody. */
  kind?: 'internal' | 'server' | 'client' | 'producer' | 'consumer';
  attributes?: SpanAttributes;
  /** The traceparent it goes on from, instead of the span the code runs in. */
  parent?: string | undefined;
  /** Begins a trace of its own where there is no `parent`. */
  root?: boolean;
  /** Traceparents of spans of other traces it has to do with. */
  links?: readonly (string | undefined)[];
  /** One of very many: recorded only when it fails. */
  quiet?: boolean;
}

export interface Span {
  /** Adds attributes; undefined ones are left out. */
  set(attributes: SpanAttributes): void;
  /** It failed, though nothing was thrown. */
  fail(errorType: string): void;
  rename(name: string): void;
}

export interface ActiveSpan extends Span {
  traceId: string;
  spanId: string;
  /** For whoever goes on. */
  traceparent: string;
}

export interface Tracer {
  /** Runs `work` in a span of this name. What it throws is written down by its code, and thrown on. */
  span<T>(name: string, options: SpanOptions, work: (span: Span) => Promise<T>): Promise<T>;
  /** Runs `work` in no span: a heartbeat that lives longer than what began it. */
  outside<T>(work: () => T): T;
  /** Runs `work` so that calls in it are recorded only when they fail: somebody who looks again and again. */
  quietly<T>(work: () => T): T;
  /** The span this code runs in. */
  active(): ActiveSpan | undefined;
}

const NO_SPAN: Span = { set: () => {}, fail: () => {}, rename: () => {} };

/** Records nothing. */
export const NO_TRACER: Tracer = {
  span: (_name, _options, work) => work(NO_SPAN),
  outside: (work) => work(),
  quietly: (work) => work(),
  active: () => undefined,
};
