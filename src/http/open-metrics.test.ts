import assert from 'node:assert/strict';
import { test } from 'node:test';
import { toOpenMetrics, wantsOpenMetrics } from './open-metrics.ts';

test('it is given to who names it and does not rule it out', () => {
  const prometheus =
    'application/openmetrics-text;version=1.0.0;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1';
  assert.equal(wantsOpenMetrics(prometheus), true);
  assert.equal(wantsOpenMetrics('Application/OpenMetrics-Text'), true);
  for (const accept of [undefined, '', '*/*', 'text/plain', 'application/openmetrics-text; q=0']) {
    assert.equal(wantsOpenMetrics(accept), false, accept);
  }
});

test('counters lose their ending, info is a type, and the end is marked', () => {
  const text = `# HELP xvault_a_total All "a"
# TYPE xvault_a_total counter
xvault_a_total{x="# TYPE b_total counter"} 1

# HELP xvault_build_info Version
# TYPE xvault_build_info gauge
xvault_build_info{version="1"} 1

# HELP xvault_b_total_seconds A gauge
# TYPE xvault_b_total_seconds gauge
xvault_b_total_seconds +Inf
`;
  assert.equal(
    toOpenMetrics(text),
    `# HELP xvault_a All \\"a\\"
# TYPE xvault_a counter
xvault_a_total{x="# TYPE b_total counter"} 1
# HELP xvault_build Version
# TYPE xvault_build info
xvault_build_info{version="1"} 1
# HELP xvault_b_total_seconds A gauge
# TYPE xvault_b_total_seconds gauge
xvault_b_total_seconds +Inf
# EOF
`,
  );
});
