/** docs/monitoring.md: every metric with its meaning and the alerts that use it, from the tables and rules themselves. */
import { readFileSync } from 'node:fs';
import { parse } from 'yaml';
import { type ShownMetric, shownMetrics } from '../../src/metrics.ts';
import { TRACE_VARIABLES } from '../../src/settings-traces.ts';

export interface Alert {
  alert: string;
  expr: string;
  for?: string;
  labels: { severity: string };
  annotations: { summary: string; action: string };
}

/** The rules of alerts.yaml, in their order. */
export function readAlerts(): Alert[] {
  const text = readFileSync(new URL('alerts.yaml', import.meta.url), 'utf8');
  const { groups } = parse(text) as { groups: { rules: Alert[] }[] };
  return groups.flatMap(({ rules }) => rules);
}

/** Names of metrics in a query; of a histogram its family's. */
export function metricsIn(expr: string): string[] {
  const names = expr.match(/\bxvault_\w+/g) ?? [];
  return [...new Set(names.map((name) => name.replace(/_(bucket|sum|count)$/, '')))];
}

function metricRow({ name, kind, labels, help }: ShownMetric, alerts: readonly Alert[]): string {
  const using = alerts.filter(({ expr }) => metricsIn(expr).includes(name));
  const links = using.map(
    ({ alert }) => `[${alert.replace('Xvault', '')}](#${alert.toLowerCase()})`,
  );
  const cells = [`\`${name}\``, kind, labels.map((label) => `\`${label}\``).join(' '), help];
  return `| ${[...cells, links.join(', ')].join(' | ')} |`;
}

function alertText({ alert, labels, annotations, expr, for: lasting }: Alert): string {
  const readable = (text: string) =>
    text
      .replaceAll(/\{\{ \$(?:labels\.)?(\w+)(?: \| \w+)? \}\}/g, '<$1>')
      .replaceAll('<', '‹')
      .replaceAll('>', '›');
  const time = lasting === undefined ? '' : `, for ${lasting}`;
  return `### ${alert}

${labels.severity}${time}: ${readable(annotations.summary)}. **What to do:** ${readable(annotations.action).replace(/[^?]$/, '$&.')}

\`\`\`text
${expr.trim()}
\`\`\`
`;
}

/** The page. */
export function monitoringPage(): string {
  const alerts = readAlerts();
  const rows = shownMetrics().map((metric) => metricRow(metric, alerts));
  return `${HEAD}
## Metrics

| metric | type | labels | meaning | alerts |
|---|---|---|---|---|
${rows.join('\n')}

## Alerts

${alerts.map(alertText).join('\n')}`;
}

const HEAD = `# Monitoring

<!-- Made from src/metrics.ts, src/metrics-catalog.ts and infra/monitoring/alerts.yaml by \`npm run docs\`; do not edit. -->

A backup nobody looks at is a hope. Five ways to look, for whatever you have:

| you have | you take |
|---|---|
| Prometheus | \`GET /metrics\`, with the rules [infra/monitoring/alerts.yaml](../infra/monitoring/alerts.yaml) and the Grafana dashboard [dashboard.json](../infra/monitoring/dashboard.json) |
| Nagios, Icinga | \`xvault check\`, or \`check_http\` on \`/v1/status?format=nagios\` |
| healthchecks.io, chat, mail | [notifications](notifications.md) |
| OpenTelemetry | [traces](#traces) of jobs, requests and calls |
| a terminal | \`xvault status\`, or \`curl -H 'Accept: text/plain' …/v1/status\` |

## Prometheus

\`\`\`yaml
rule_files: [alerts.yaml]
scrape_configs:
  - job_name: xvault
    static_configs: [{ targets: ['xvault:8080'] }]
    authorization: { credentials_file: /etc/prometheus/xvault-token }   # a token of scope read; not with XVAULT_METRICS_OPEN
    scrape_timeout: 60s                                                 # the first scrape reads the bucket
\`\`\`

- What an instance did (bytes, requests, jobs) it counts itself, from 0 at its start. What is known of machines and pools comes
  from the bucket, at most every five minutes, and **every instance tells the same**: take \`max without (instance)\`.
- Labels do not grow with the number of backups: twelve series per machine, the rest by pool, operation, code or name of a
  setting. \`XVAULT_METRICS_PER_MACHINE=false\` leaves the twelve out; \`xvault_machines\` and \`XvaultMachinesCritical\` stay.
- Times of day are instants (\`…_timestamp_seconds\`), so \`time() - …\` is right even when a figure is old; how old the figures
  are says \`xvault_catalog_age_seconds\`.
- Asked for \`application/openmetrics-text\`, as Prometheus does, the page is OpenMetrics 1.0.
- Every alert has \`summary\` (what) and \`action\` (what to do). Severities: critical, a machine could not be restored as promised
  or soon cannot be; warning, look today; info, look when there is time.

## Nagios and Icinga

\`\`\`sh
xvault check --warning 26h --critical 50h        # all machines, one line and one figure each; XVAULT_URL and XVAULT_TOKEN_FILE say where
xvault check --vm web-1                          # one
check_http -H xvault.example.com -p 8080 -u '/v1/status?format=nagios&strict=1' -k "Authorization: Bearer $TOKEN" -r '^(OK|WARNING) - '
\`\`\`

- \`xvault check\` is a plug-in: exit codes 0 ok, 1 warning, 2 critical, 3 wrong usage; the worst machine first, then a line each;
  \`label=value;warning;critical;minimum\` for graphs; ranges as the guidelines of the plug-ins have them (\`@0:1h\`).
- \`check_http\` needs nothing of ours on the monitoring machine. \`strict=1\` answers critical with 503, which is critical there, as is
  silence; it has no code for a warning, and a wrong token (401) is its warning.
- Both say critical or warning of whatever \`/v1/status\` does: no good backup, too old, damaged, the last try failed, about to be
  deleted by the bucket with nothing that keeps it, records that cannot be read, a silent pool.

## Logs

One JSON object a line on stdout: \`time\`, \`level\`, \`msg\` and fields. \`XVAULT_LOG_LEVEL=debug\` also has every request, call and repeat.

| from | to |
|---|---|
| a caller | \`Request-Id\` of the answer (the caller's own, if it sends one) is \`request_id\`; a \`traceparent\` (W3C) gives \`trace_id\`, as do [traces](#traces), with \`span_id\` |
| a request | \`started\` is the job or run that began; \`token_name\` says who asked |
| a job | \`job_id\`, \`kind\`, \`vm_uuid\` and \`pool\` on the lines of its beginning and end; \`code\` is that of [errors.md](errors.md) |

## Traces

\`\`\`sh
OTEL_EXPORTER_OTLP_ENDPOINT=http://collector:4318 xvault serve
\`\`\`

Off unless an endpoint is set; then nothing of it is even loaded. OTLP over HTTP with protobuf, set by the standard's own variables:

| variable | |
|---|---|
${Object.entries(TRACE_VARIABLES)
  .map(([name, meaning]) => `| \`${name}\` | ${meaning} |`)
  .join('\n')}

\`\`\`text
POST /v1/vms/{vm}/backups          of a caller that sends a traceparent: in its trace
└─ job backup                      xvault.job.id, xvault.vm.uuid, xvault.sent_bytes …; error.type is that of errors.md
   ├─ phase snapshotting ─ Async.VM.snapshot …
   ├─ phase exporting    ─ S3.CreateMultipartUpload, S3.CompleteMultipartUpload …
   ├─ phase cleaning     ─ Async.VM.destroy …
   ├─ hook before_snapshot, notify slack
POST /v1/runs ─ run                the jobs of a run have traces of their own, linked to it
\`\`\`

- A job goes on with the trace of who asked for it, also hours later and in another instance: its record carries the traceparent.
  A span is sent when it ends; that of a process that died is missing, while those under it are there.
- Not recorded unless it failed: parts of uploads and ranges of archives (a terabyte is thousands), looking at tasks and jobs,
  heartbeats. Never recorded: probes, scrapes, and work nobody asked for, such as sweeps.
- A traceparent is sent along to guest hooks and to targets of kind \`webhook\` and \`cloudevents\` (there also as the event's attribute). Not to pools, which take 1,024
  bytes of request head, nor to the store, chats and monitors, which are somebody else's.
- No span holds a password, token, session, query of a URL or address of a target. Keys of objects and uuids of machines are in them.
- A collector that is slow or away costs no job anything: 2,048 spans wait for it, what comes more is dropped, and the log says so
  once a minute. At the end of the process the last ones have three seconds; then the log says that they were not sent. Values are cut at
  1,024 characters.
- On, they cost 0.2 s of CPU at the start; of backups and requests, no difference could be measured.

## How old is too old

\`XVAULT_MAX_AGE_HOURS\` (26) for all, \`?max_age=\` or \`--critical\` for one look. A machine that is backed up weekly, or hourly, says so itself
by a tag on the pool: \`xe vm-param-add uuid=… param-name=tags param-key=xvault:max_age=8d\`. The tag wins over setting and look, in
status, check, alerts and notifications alike; of several the strictest counts, and one that is no time is a warning. While a pool does
not answer its tags are not known, and the setting counts. Machines with the tag \`xvault:skip\` are not looked at.
`;
