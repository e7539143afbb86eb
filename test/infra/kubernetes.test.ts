/**
 * infra/kubernetes: each style as kustomize puts it together, against the published schemas, against the code, and against what a pod
 * may do; kubernetes-faults.test.ts proves that each kind of mistake is found. What a cluster makes of them is not seen from here.
 */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { faultsOf, readStyle } from './cluster.ts';
import { at, list } from './files.ts';

const STYLES = ['service', 'jobs', 'keda'];

describe('infra/kubernetes', () => {
  for (const style of STYLES) {
    test(`${style}: nothing is wrong with it`, async () => {
      assert.deepEqual(await faultsOf(readStyle(style).objects), []);
    });
  }

  test('every file belongs to a style', () => {
    const used = STYLES.flatMap((style) => readStyle(style).files);
    assert.deepEqual([...new Set(used)].sort(), list('kubernetes/**/*.yaml'));
  });

  test('the service has instances that go one at a time, and a policy for each of its pods', () => {
    const { objects } = readStyle('service');
    const find = (kind: string, name = 'xvault') =>
      objects.find((one) => one.kind === kind && at(one, 'metadata', 'name') === name);
    assert.ok(Number(at(find('Deployment'), 'spec', 'replicas')) > 1);
    const labels = at(find('Deployment'), 'spec', 'template', 'metadata', 'labels');
    assert.deepEqual(at(find('Service'), 'spec', 'selector'), labels);
    const budget = at(find('PodDisruptionBudget'), 'spec');
    assert.deepEqual(at(budget, 'selector', 'matchLabels'), labels);
    assert.equal(at(budget, 'maxUnavailable'), 1);
    const queue = at(find('NetworkPolicy', 'xvault-queue'), 'spec');
    assert.deepEqual(at(queue, 'policyTypes'), ['Ingress', 'Egress']);
    assert.equal(at(queue, 'egress'), undefined);
    const queueLabels = at(
      find('Deployment', 'xvault-queue'),
      'spec',
      'template',
      'metadata',
      'labels',
    );
    assert.deepEqual(at(queue, 'podSelector', 'matchLabels'), queueLabels);
    const components = at(
      find('NetworkPolicy'),
      'spec',
      'podSelector',
      'matchExpressions',
      0,
      'values',
    );
    assert.deepEqual(components, ['service', 'run']);
  });

  test('one night does not run into the next, and no use is made of trying what cannot succeed', () => {
    const jobs = readStyle('jobs').objects.filter(({ kind }) => kind === 'CronJob');
    assert.equal(jobs.length, 2);
    for (const job of jobs) {
      assert.equal(at(job, 'spec', 'concurrencyPolicy'), 'Forbid');
      const rules = at(job, 'spec', 'jobTemplate', 'spec', 'podFailurePolicy', 'rules');
      // what somebody cancelled is not begun again, nor a night of which a part failed; what had to go is
      const isOver =
        at(job, 'metadata', 'name') === 'xvault-all' ? [2, 3, 10, 12, 130] : [2, 10, 12, 130];
      assert.deepEqual(at(rules, 0, 'onExitCodes', 'values'), isOver);
      assert.equal(at(rules, 0, 'action'), 'FailJob');
      assert.deepEqual(at(rules, 1, 'onExitCodes', 'values'), [143]);
      assert.equal(at(rules, 1, 'action'), 'Ignore');
      assert.equal(at(rules, 2, 'onPodConditions', 0, 'type'), 'DisruptionTarget');
    }
  });
});
