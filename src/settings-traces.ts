/**
 * Whether traces are sent, by OpenTelemetry's own environment variables (Environment Variable Specification 1.5x).
 *
 * They are read here only so far that nothing is loaded where none are wanted; endpoint, headers, certificates, time-outs and
 * resource attributes are read by the standard's own packages. What cannot be followed is a warning, never a reason not to
 * start: so the specification wants it, and a backup must not hang on who watches it.
 */

export interface TraceSettings {
  sampler: { kind: 'on' | 'off' | 'ratio'; ratio: number; parentBased: boolean };
}

/** The variables the manual names, with what each is for. */
export const TRACE_VARIABLES: Readonly<Record<string, string>> = {
  OTEL_EXPORTER_OTLP_ENDPOINT: 'where to: `/v1/traces` is put behind it; with it traces are on',
  OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: 'the same for traces alone, as it stands',
  OTEL_EXPORTER_OTLP_HEADERS: 'such as `authorization=Bearer%20…`; also `…_TRACES_HEADERS`',
  OTEL_EXPORTER_OTLP_CERTIFICATE: 'a CA for https; also `…_TRACES_CERTIFICATE`',
  OTEL_EXPORTER_OTLP_TIMEOUT: 'milliseconds for one batch, 10,000 unless set',
  OTEL_EXPORTER_OTLP_PROTOCOL: '`http/protobuf`, which is also the default; there is no other here',
  OTEL_SERVICE_NAME: '`xvault` unless set',
  OTEL_RESOURCE_ATTRIBUTES: 'such as `deployment.environment.name=prod`',
  OTEL_TRACES_SAMPLER:
    '`parentbased_always_on` unless set; also `always_on`, `always_off`, `traceidratio` and the other two `parentbased_…`',
  OTEL_TRACES_SAMPLER_ARG: 'of the ratio, 0 to 1',
  OTEL_TRACES_EXPORTER: '`none` turns traces off',
  OTEL_SDK_DISABLED: '`true` turns traces off',
};

/** undefined where no traces are wanted, or none can be sent; then `warnings` says why. */
export function readTraceSettings(env: Readonly<Record<string, string | undefined>>): {
  traces?: TraceSettings;
  warnings: string[];
} {
  const value = (name: string) => env[name]?.trim() || undefined;
  const name = ['OTEL_EXPORTER_OTLP_TRACES_ENDPOINT', 'OTEL_EXPORTER_OTLP_ENDPOINT'].find(value);
  const exporter = value('OTEL_TRACES_EXPORTER') ?? 'otlp';
  const off = value('OTEL_SDK_DISABLED')?.toLowerCase() === 'true' || exporter === 'none';
  if (name === undefined || off) return { warnings: [] };
  const none = (reason: string) => ({ warnings: [`no traces are sent: ${reason}`] });
  if (exporter !== 'otlp')
    return none(`OTEL_TRACES_EXPORTER=${exporter}: only otlp and none are known`);
  const protocol =
    value('OTEL_EXPORTER_OTLP_TRACES_PROTOCOL') ?? value('OTEL_EXPORTER_OTLP_PROTOCOL');
  if (protocol !== undefined && protocol !== 'http/protobuf') {
    return none(`the protocol ${protocol} is not spoken here, only http/protobuf (port 4318)`);
  }
  // the address may have a password in it
  if (!/^https?:$/.test(URL.parse(value(name) ?? '')?.protocol ?? '')) {
    return none(`${name} is no http or https address, such as http://collector:4318`);
  }
  return readSampler(value('OTEL_TRACES_SAMPLER'), value('OTEL_TRACES_SAMPLER_ARG'));
}

const SAMPLERS: Readonly<Record<string, 'on' | 'off' | 'ratio'>> = {
  always_on: 'on',
  always_off: 'off',
  traceidratio: 'ratio',
};
const PARENT_BASED = 'parentbased_';
const EVERYTHING: TraceSettings = { sampler: { kind: 'on', ratio: 1, parentBased: true } };

function readSampler(
  text = 'parentbased_always_on',
  arg: string | undefined,
): { traces: TraceSettings; warnings: string[] } {
  const parentBased = text.startsWith(PARENT_BASED);
  const kind = SAMPLERS[parentBased ? text.slice(PARENT_BASED.length) : text];
  if (kind === undefined) {
    return {
      traces: EVERYTHING,
      warnings: [`OTEL_TRACES_SAMPLER=${text} is not known: all is sent`],
    };
  }
  const ratio = arg === undefined ? 1 : Number(arg);
  if (kind !== 'ratio' || (ratio >= 0 && ratio <= 1)) {
    return { traces: { sampler: { kind, ratio, parentBased } }, warnings: [] };
  }
  const warnings = [`OTEL_TRACES_SAMPLER_ARG=${arg} is no number from 0 to 1: all is sent`];
  return { traces: { sampler: { kind, ratio: 1, parentBased } }, warnings };
}
