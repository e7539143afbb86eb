/** That nothing is wrong with infra/kubernetes means something only if what is wrong is found: one planted fault of each kind. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { faultsOf, type Manifest, readStyle } from './cluster.ts';
import { at } from './files.ts';

const SERVICE = 'Deployment xvault';
const QUEUE = 'Deployment xvault-queue';
const NIGHT = 'CronJob xvault-all';
const SCALED = 'ScaledJob xvault-waiting';

const PODS: Record<string, string> = {
  Deployment: 'spec/template/spec',
  CronJob: 'spec/jobTemplate/spec/template/spec',
  ScaledJob: 'spec/jobTargetRef/template/spec',
};
const MAIN = 'POD/containers/0';
const GONE = undefined;
const TRIGGER = 'spec/triggers/0/metadata';
const JOBS = 'http://xvault.xvault/v1/jobs';

/** What, in which object, at which place, what stands there instead, what is said. */
const FAULTS: [what: string, name: string, path: string, value: unknown, said: RegExp][] = [
  ['a wrong type', SERVICE, 'spec/replicas', '3', /replicas/],
  ['a missing field', SERVICE, 'spec/selector', GONE, /selector/],
  ['a missing field deep within', NIGHT, `${MAIN}/name`, GONE, /name/],
  ['an unknown key', SERVICE, 'POD/restart', 1, /unknown keys: \/spec\/template\/spec\/restart/],
  ['an unknown key deep within', NIGHT, `${MAIN}/imag`, 'x', /containers\/0\/imag/],
  ['an unknown kind', 'ServiceAccount xvault', 'apiVersion', 'v2', /no such kind/],
  ['a wrong type of KEDA', SCALED, 'spec/pollingInterval', '30', /pollingInterval/],
  ['a missing field of KEDA', SCALED, 'spec/triggers', GONE, /triggers/],
  ['an unknown key of KEDA', SCALED, 'spec/maxReplicas', 3, /\/spec\/maxReplicas/],
  [
    'a trigger nobody answers',
    SCALED,
    `${TRIGGER}/url`,
    `${JOBS}s?status=queued`,
    /nobody answers/,
  ],
  ['a trigger that counts what runs', SCALED, `${TRIGGER}/url`, JOBS, /more than what waits/],
  [
    'a trigger that looks elsewhere',
    SCALED,
    `${TRIGGER}/valueLocation`,
    'items.#',
    /valueLocation/,
  ],
  ['a trigger without a token', SCALED, 'spec/triggers/0/authenticationRef/name', 'x', /no token/],
  ['an unknown setting', 'ConfigMap xvault', 'data/XVAULT_BUKET', 'b', /no setting/],
  ['a setting that is refused', 'ConfigMap xvault', 'data/XVAULT_MEMORY_MIB', 'much', /MEMORY_MIB/],
  ['an unknown command', NIGHT, `${MAIN}/args`, ['backups'], /no command/],
  ['an unknown option', NIGHT, `${MAIN}/args`, ['run', '--al'], /--al/],
  ['words too many', NIGHT, `${MAIN}/args`, ['run', 'web-1'], /command: run web-1/],
  ['too short a grace', SERVICE, 'POD/terminationGracePeriodSeconds', 30, /killed after 30 s/],
  ['too short a grace for a run', NIGHT, 'POD/terminationGracePeriodSeconds', 20, /after 20 s/],
  ['too little memory', SERVICE, `${MAIN}/resources/limits/memory`, '300Mi', /300 MiB/],
  ['no limit of memory', QUEUE, `${MAIN}/resources`, GONE, /no limit/],
  ['root', QUEUE, 'POD/securityContext/runAsNonRoot', GONE, /as root/],
  ['no filter of system calls', SERVICE, 'POD/securityContext/seccompProfile', GONE, /seccomp/],
  [
    'a root that is written',
    SERVICE,
    `${MAIN}/securityContext/readOnlyRootFilesystem`,
    false,
    /rights/,
  ],
  ['a token of the cluster', SERVICE, 'POD/automountServiceAccountToken', GONE, /of the cluster/],
  [
    'a probe of no route',
    SERVICE,
    `${MAIN}/livenessProbe/httpGet/path`,
    '/health',
    /asks \/health/,
  ],
  ['a probe of no port', SERVICE, `${MAIN}/readinessProbe/httpGet/port`, 'web', /asks port web/],
  ['a secret that is not mounted', SERVICE, `${MAIN}/volumeMounts`, [], /nothing is mounted/],
  ['a secret that is not there', 'ExternalSecret xvault', 'spec/data', [], /no secret for/],
  ['an unknown key of a secret', 'ExternalSecret xvault', 'spec/interval', '1h', /interval/],
  [
    'a queue that is not there',
    SERVICE,
    `${MAIN}/env/2/value`,
    'redis://gone:6379',
    /no service gone/,
  ],
  ['an image without a tag', QUEUE, `${MAIN}/image`, 'valkey/valkey', /tag/],
  ['a job that is restarted for ever', SCALED, 'POD/restartPolicy', 'OnFailure', /for ever/],
  ['two of one name', 'Service xvault-queue', 'metadata/name', 'xvault', /twice/],
  [
    'labels that kustomize adds to',
    'NetworkPolicy xvault',
    'spec/egress/0/to/0/podSelector',
    { matchLabels: { 'k8s-app': 'kube-dns' } },
    /other pods/,
  ],
];

const nameOf = (object: Manifest) => `${object.kind} ${at(object, 'metadata', 'name')}`;

function plant(object: Manifest, path: string, value: unknown): void {
  const keys = path.replace('POD', PODS[String(object.kind)] ?? '').split('/');
  const last = keys.pop() ?? '';
  const home = at(object, ...keys) as Manifest | undefined;
  assert.ok(home, `${nameOf(object)} has no ${keys.join('/')}`);
  if (value === GONE) delete home[last];
  else home[last] = value;
}

describe('a planted fault is found:', () => {
  const all = [...readStyle('keda').objects, ...readStyle('jobs').objects];
  const names = all.map(nameOf);
  const once = all.filter((object, index) => names.indexOf(nameOf(object)) === index);

  for (const [what, name, path, value, said] of FAULTS) {
    test(what, async () => {
      const objects = structuredClone(once);
      const object = objects.find((one) => nameOf(one) === name);
      assert.ok(object, name);
      plant(object, path, value);
      const found = await faultsOf(objects);
      const isSaid = found.some((fault) => said.test(fault));
      assert.ok(isSaid, found.join('\n'));
    });
  }
});
