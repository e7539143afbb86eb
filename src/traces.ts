/**
 * Traces by OpenTelemetry: spans of requests, jobs, runs and calls, sent to a collector by OTLP over HTTP.
 *
 * The only importer of OpenTelemetry, and it loads nothing before somebody asks for traces. The span that code runs in is kept in
 * an AsyncLocalStorage, the one ambient thing here: calls to pool and bucket are made many layers below the request they
 * belong to, and nothing in between should know of it. Spans wait in a bounded line (2,048; what comes more is dropped) and leave in the
 * background: a collector that is slow or away costs neither time nor a job. Names and attributes follow the semantic
 * conventions where there are some (http.*, rpc.*, aws.*, error.type), and are xvault.* elsewhere. Source:
 * opentelemetry.io/docs/specs/semconv, W3C Trace Context (level 1; tracestate is not passed on).
 */
import { AsyncLocalStorage } from 'node:async_hooks';
import type { Span as ApiSpan, Context, SpanContext } from '@opentelemetry/api';
import type { ReadableSpan, Sampler, SpanExporter } from '@opentelemetry/sdk-trace';
import { BackupError } from './errors.ts';
import type { Clock, Log, LogFields } from './ports.ts';
import type { TraceSettings } from './settings-traces.ts';
import { inTime } from './signals.ts';
import type { ActiveSpan, Span, SpanAttributes, SpanOptions, Tracer } from './tracer.ts';

/** For what is still in the line when the process is to end; supervisors wait for ten seconds in all, and for jobs first. */
const FLUSH_MS = 3_000;
/** The SDK gives up a batch after this time, and says so to nobody. */
const BATCH_MS = 30_000;
/** A collector that is away is told of so often, at most. */
const TOLD_EVERY_MS = 60_000;
/** A command is often over before the exporter gives up: without this a wrong address is never told. */
const NO_ANSWER = 'the collector gave no answer before the process ended';
/** As long as the key of an object may be; anybody's path and program name can be longer, and 2,048 spans wait in memory. */
const MAX_VALUE_LENGTH = 1_024;
const TRACEPARENT = /^00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})$/;

export interface Traces {
  tracer: Tracer;
  /** The same log, whose lines carry `trace_id` and `span_id` of the work they are about. */
  log: Log;
  /** Sends what is left, for a moment. Never throws. */
  stop(): Promise<void>;
}

interface Frame {
  context: Context;
  quiet: boolean;
}

/** Loads OpenTelemetry and begins to trace. */
export async function startTraces(
  { sampler }: TraceSettings,
  { log, clock, version }: { log: Log; clock: Clock; version: string },
): Promise<Traces> {
  const [api, sdk, { OTLPTraceExporter }, resources] = await Promise.all([
    import('@opentelemetry/api'),
    import('@opentelemetry/sdk-trace'),
    import('@opentelemetry/exporter-trace-otlp-proto'),
    import('@opentelemetry/resources'),
  ]);
  const own = { 'service.name': 'xvault', 'service.version': version };
  const resource = resources
    .defaultResource()
    .merge(resources.resourceFromAttributes(own))
    .merge(
      resources.detectResources({
        detectors: [resources.resourceAttributesEnvDetector, resources.serviceNameEnvDetector],
      }),
    );
  const exporter = telling(new OTLPTraceExporter(), { log, clock });
  const provider = new sdk.TracerProvider({
    resource,
    sampler: samplerOf(sampler, sdk),
    spanLimits: { attributeValueLengthLimit: MAX_VALUE_LENGTH },
    spanProcessors: [new sdk.BatchSpanProcessor({ exporter })],
  });
  const tracer = createTracer(api, provider.getTracer('xvault', version));
  return {
    tracer,
    log: withTrace(log, tracer),
    stop: async () => {
      // what was refused was told by the exporter
      const over = provider.shutdown().then(
        () => true,
        () => true,
      );
      const isOver = await inTime(clock, FLUSH_MS, over);
      if (!isOver) log.warn('traces not sent', { reason: NO_ANSWER });
    },
  };
}

type Api = typeof import('@opentelemetry/api');
type Sdk = typeof import('@opentelemetry/sdk-trace');

function samplerOf({ kind, ratio, parentBased }: TraceSettings['sampler'], sdk: Sdk): Sampler {
  const root = {
    on: () => new sdk.AlwaysOnSampler(),
    off: () => new sdk.AlwaysOffSampler(),
    ratio: () => new sdk.TraceIdRatioBasedSampler(ratio),
  }[kind]();
  return parentBased ? new sdk.ParentBasedSampler({ root }) : root;
}

/** Says that traces do not arrive, once in a while, and lets them go: nothing hangs on them. */
function telling(exporter: SpanExporter, { log, clock }: { log: Log; clock: Clock }): SpanExporter {
  let toldAt = Number.NEGATIVE_INFINITY;
  const tell = (fields: LogFields): void => {
    if (clock.elapsed() - toldAt < TOLD_EVERY_MS) return;
    toldAt = clock.elapsed();
    log.warn('traces not sent', fields);
  };
  return {
    export: (spans: ReadableSpan[], done) => {
      const answered = new AbortController();
      clock.sleep(BATCH_MS, { signal: answered.signal }).then(
        () => tell({ spans: spans.length, reason: `no whole answer in ${BATCH_MS / 1000} s` }),
        () => undefined, // it answered
      );
      exporter.export(spans, (result) => {
        answered.abort();
        if (result.error !== undefined) {
          const { name, message, code } = result.error as Error & { code?: unknown };
          tell({ spans: spans.length, reason: message || name, code });
        }
        done(result);
      });
    },
    shutdown: () => exporter.shutdown(),
    forceFlush: async () => await exporter.forceFlush?.(),
  };
}

function createTracer(api: Api, tracer: import('@opentelemetry/api').Tracer): Tracer {
  const frames = new AsyncLocalStorage<Frame | undefined>();
  const { ROOT_CONTEXT, SpanKind, trace } = api;
  const kinds = {
    internal: SpanKind.INTERNAL,
    server: SpanKind.SERVER,
    client: SpanKind.CLIENT,
    producer: SpanKind.PRODUCER,
    consumer: SpanKind.CONSUMER,
  };
  const contextOf = ({ parent, root }: SpanOptions): Context => {
    const from = readTraceparent(parent);
    if (from !== undefined) return trace.setSpanContext(ROOT_CONTEXT, from);
    return (root ? undefined : frames.getStore()?.context) ?? ROOT_CONTEXT;
  };
  const begin = (name: string, options: SpanOptions, startTime: number) => {
    const context = contextOf(options);
    const links = (options.links ?? []).flatMap((link) => {
      const to = readTraceparent(link);
      return to === undefined ? [] : [{ context: to }];
    });
    const attributes = defined(options.attributes);
    const kind = kinds[options.kind ?? 'internal'];
    const span = tracer.startSpan(name, { kind, attributes, links, startTime }, context);
    return { span, context: trace.setSpan(context, span) };
  };
  return {
    span: async (name, options, work) => {
      const frame = frames.getStore();
      const isCall = options.kind === 'client';
      if (isCall && frame === undefined) return await work(faceOf(undefined));
      // the wall's time, as the SDK has it: a span that began before it was made needs the same
      const startTime = Date.now();
      if (options.quiet || (isCall && frame?.quiet)) {
        try {
          return await work(faceOf(undefined));
        } catch (error) {
          const { span } = begin(name, options, startTime);
          failed(span, error, api);
          span.end();
          throw error;
        }
      }
      const { span, context } = begin(name, options, startTime);
      try {
        return await frames.run({ context, quiet: false }, () => work(faceOf(span, api)));
      } catch (error) {
        failed(span, error, api);
        throw error;
      } finally {
        span.end();
      }
    },
    outside: (work) => frames.run(undefined, work),
    quietly: (work) => {
      const frame = frames.getStore();
      return frame === undefined ? work() : frames.run({ ...frame, quiet: true }, work);
    },
    active: () => {
      const frame = frames.getStore();
      const span = frame && trace.getSpan(frame.context);
      return span && activeOf(span, api);
    },
  };
}

function activeOf(span: ApiSpan, api: Api): ActiveSpan {
  const { traceId, spanId, traceFlags } = span.spanContext();
  const traceparent = `00-${traceId}-${spanId}-${traceFlags.toString(16).padStart(2, '0')}`;
  return { ...faceOf(span, api), traceId, spanId, traceparent };
}

function faceOf(span: ApiSpan | undefined, api?: Api): Span {
  return {
    set: (attributes) => void span?.setAttributes(defined(attributes)),
    fail: (errorType) => {
      span?.setAttribute('error.type', errorType);
      if (api !== undefined) span?.setStatus({ code: api.SpanStatusCode.ERROR });
    },
    rename: (name) => void span?.updateName(name),
  };
}

/** Messages of our own errors hold no secrets; those of others may. */
function failed(span: ApiSpan, error: unknown, { SpanStatusCode }: Api): void {
  const name = error instanceof Error ? error.name : typeof error;
  const code = (error as { code?: unknown } | undefined)?.code;
  span.setAttribute('error.type', typeof code === 'string' ? code : name);
  const message = error instanceof BackupError ? { message: error.message } : {};
  span.setStatus({ code: SpanStatusCode.ERROR, ...message });
}

function readTraceparent(text: string | undefined): SpanContext | undefined {
  const [, traceId, spanId, flags] = TRACEPARENT.exec(text ?? '') ?? [];
  if (traceId === undefined || spanId === undefined || flags === undefined) return undefined;
  if (/^0+$/.test(traceId) || /^0+$/.test(spanId)) return undefined;
  return { traceId, spanId, traceFlags: Number.parseInt(flags, 16) & 1, isRemote: true };
}

function defined(attributes: SpanAttributes = {}): Record<string, string | number | boolean> {
  const entries = Object.entries(attributes).filter((entry) => entry[1] !== undefined);
  return Object.fromEntries(entries) as Record<string, string | number | boolean>;
}

function withTrace(log: Log, tracer: Tracer): Log {
  const at =
    (level: 'debug' | 'info' | 'warn' | 'error') => (message: string, fields?: LogFields) => {
      const active = tracer.active();
      if (active === undefined) return log[level](message, fields);
      log[level](message, { trace_id: active.traceId, span_id: active.spanId, ...fields });
    };
  return {
    debug: at('debug'),
    info: at('info'),
    warn: at('warn'),
    error: at('error'),
    child: (fields) => withTrace(log.child(fields), tracer),
  };
}
