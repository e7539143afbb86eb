/**
 * What is wrong with the files of infra/kubernetes, as a list of faults: so that a test can say there is none, and another that a fault
 * of each kind is found.
 *
 * Types and required fields are those of the published schemas (kubernetes-models). These take unknown keys; here they do not: the
 * checks are run on an object that notes which keys are asked for, and one nobody asked for is unknown.
 */
import assert from 'node:assert/strict';
import { dirname, join } from 'node:path/posix';
import { ScaledJob, TriggerAuthentication } from '@kubernetes-models/keda/keda.sh/v1alpha1';
import { Deployment } from 'kubernetes-models/apps/v1';
import { CronJob } from 'kubernetes-models/batch/v1';
import { NetworkPolicy } from 'kubernetes-models/networking.k8s.io/v1';
import { PodDisruptionBudget } from 'kubernetes-models/policy/v1';
import { ConfigMap, Service, ServiceAccount } from 'kubernetes-models/v1';
import { z } from 'zod';
import { ROUTES } from '../../src/http/routes/index.ts';
import { at, readYaml } from './files.ts';
import { assertCommand, assertGrace, assertStarts, OVERHEAD_MIB } from './held.ts';

/** An object of a cluster, as its file says it. */
export type Manifest = Record<string, unknown>;

const MODELS: Record<string, { prototype: { validate(): void } }> = {
  'v1 ConfigMap': ConfigMap,
  'v1 Service': Service,
  'v1 ServiceAccount': ServiceAccount,
  'apps/v1 Deployment': Deployment,
  'batch/v1 CronJob': CronJob,
  'networking.k8s.io/v1 NetworkPolicy': NetworkPolicy,
  'policy/v1 PodDisruptionBudget': PodDisruptionBudget,
  'keda.sh/v1alpha1 ScaledJob': ScaledJob,
  'keda.sh/v1alpha1 TriggerAuthentication': TriggerAuthentication,
};

const text = z.string().min(1);
const named = z.strictObject({ name: text });
/** Where no schema is published as a package: what we use of it. */
const OWN_SHAPES: Record<string, z.ZodType> = {
  'external-secrets.io/v1 ExternalSecret': z.strictObject({
    apiVersion: text,
    kind: text,
    metadata: named,
    spec: z.strictObject({
      refreshInterval: text,
      secretStoreRef: z.strictObject({ kind: text, name: text }),
      target: z.strictObject({ name: text, creationPolicy: text }),
      data: z.array(
        z.strictObject({
          secretKey: text,
          remoteRef: z.strictObject({ key: text, property: text }),
        }),
      ),
    }),
  }),
};
const kustomizationShape = z.strictObject({
  apiVersion: z.literal('kustomize.config.k8s.io/v1beta1'),
  kind: z.literal('Kustomization'),
  namespace: text.optional(),
  labels: z
    .array(z.strictObject({ pairs: z.record(text, text), includeSelectors: z.boolean() }))
    .optional(),
  resources: z.array(text),
  images: z
    .array(z.strictObject({ name: text, newName: text, newTag: z.string().regex(/^\d/) }))
    .optional(),
});
/** What KEDA's metrics-api reads of its trigger: a map of text to the schema. */
const triggerShape = z.strictObject({
  url: z.url(),
  valueLocation: z.literal('jobs.#'),
  targetValue: z.string().regex(/^\d+$/),
  authMode: z.literal('bearer'),
});

/** A kustomization as a whole: its objects and those of the folders it names. Errors: what does not parse. */
export function readStyle(folder: string): { objects: Manifest[]; files: string[] } {
  const path = `kubernetes/${folder}/kustomization.yaml`;
  const { resources } = kustomizationShape.parse(readYaml(path)[0]);
  const parts = resources.map((name) => {
    if (!name.endsWith('.yaml')) return readStyle(join(folder, name));
    const file = join(dirname(path), name);
    return { objects: readYaml(file), files: [file] };
  });
  return {
    objects: parts.flatMap(({ objects }) => objects),
    files: [path, ...parts.flatMap(({ files }) => files)],
  };
}

/** Everything that is wrong with them, by the name of the object. */
export async function faultsOf(objects: readonly Manifest[]): Promise<string[]> {
  const faults: string[] = [];
  for (const object of objects) {
    const name = `${object.kind} ${at(object, 'metadata', 'name')}`;
    const note = (fault: string) => faults.push(`${name}: ${fault}`);
    for (const check of [checkShape, checkPod, checkTriggers, checkWalls]) {
      try {
        await check(object, objects);
      } catch (error) {
        note((error as Error).message);
      }
    }
  }
  const names = objects.map(({ kind, metadata }) => `${kind} ${at(metadata, 'name')}`);
  const twice = names.filter((name, index) => names.indexOf(name) !== index);
  return [...faults, ...twice.map((name) => `${name}: is there twice`)];
}

function checkShape(object: Manifest): void {
  const type = `${object.apiVersion} ${object.kind}`;
  const own = OWN_SHAPES[type];
  if (own) {
    own.parse(object);
    return;
  }
  const model = MODELS[type];
  assert.ok(model, `no such kind: ${type}`);
  const asked = new Map<string, Set<string>>();
  model.prototype.validate.call(noting(object, '', asked));
  const unknown = [...unasked(object, '', asked)];
  assert.deepEqual(unknown, [], `unknown keys: ${unknown.join(', ')}`);
}

/** The object, and each one in it, noting which keys are read at which path. */
function noting<T>(value: T, path: string, asked: Map<string, Set<string>>): T {
  if (typeof value !== 'object' || value === null) return value;
  const keys = new Set<string>();
  asked.set(path, keys);
  return new Proxy(value, {
    get(target, key, receiver) {
      const inner: unknown = Reflect.get(target, key, receiver);
      if (typeof key !== 'string') return inner;
      keys.add(key);
      return noting(inner, `${path}/${key}`, asked);
    },
  });
}

function* unasked(
  value: unknown,
  path: string,
  asked: Map<string, Set<string>>,
): Generator<string> {
  if (typeof value !== 'object' || value === null) return;
  for (const [key, inner] of Object.entries(value)) {
    const own = `${path}/${key}`;
    if (asked.get(path)?.has(key)) yield* unasked(inner, own, asked);
    else if (asked.has(path)) yield own;
  }
}

interface Pod {
  automountServiceAccountToken?: boolean;
  terminationGracePeriodSeconds?: number;
  restartPolicy?: string;
  securityContext?: Manifest;
  containers: Container[];
}
interface Container {
  image: string;
  args?: string[];
  env?: { name: string; value?: string }[];
  ports?: { name: string; containerPort: number }[];
  resources?: { limits?: { memory?: string } };
  securityContext?: Manifest;
  volumeMounts?: { mountPath: string }[];
}

function podOf(object: Manifest): Pod | undefined {
  const spec = object.spec as Manifest | undefined;
  const template =
    at(spec, 'template') ??
    at(spec, 'jobTemplate', 'spec', 'template') ??
    at(spec, 'jobTargetRef', 'template');
  return at(template, 'spec') as Pod | undefined;
}

async function checkPod(object: Manifest, all: readonly Manifest[]): Promise<void> {
  const pod = podOf(object);
  if (!pod) return;
  assert.equal(pod.automountServiceAccountToken, false, 'carries a token of the cluster');
  assert.equal(pod.securityContext?.runAsNonRoot, true, 'may run as root');
  const seccomp = at(pod.securityContext, 'seccompProfile', 'type');
  assert.equal(seccomp, 'RuntimeDefault', 'has no seccomp profile');
  for (const container of pod.containers) {
    const { image, securityContext, resources } = container;
    assert.match(image, /^xvault$|:\d[\w.-]*$/, 'an image without a tag');
    assert.deepEqual(
      securityContext,
      {
        allowPrivilegeEscalation: false,
        readOnlyRootFilesystem: true,
        capabilities: { drop: ['ALL'] },
      },
      'has rights it does not need',
    );
    assert.match(resources?.limits?.memory ?? '', /^\d+Mi$/, 'has no limit of memory');
    checkProbes(container);
    if (image === 'xvault') await checkXvault(container, pod, all);
  }
}

async function checkXvault(container: Container, pod: Pod, all: readonly Manifest[]) {
  const config = all.find(({ kind }) => kind === 'ConfigMap')?.data as Record<string, string>;
  const own = (container.env ?? []).map(({ name, value }) => [name, value ?? 'xvault-0'] as const);
  const env: Record<string, string> = { ...config, ...Object.fromEntries(own) };
  assertStarts(env, 'settings');
  const args = container.args ?? [];
  await assertCommand(args, 'command');
  assertGrace(args, env, pod.terminationGracePeriodSeconds ?? 30, 'grace');
  if (args[0] !== 'serve') assert.equal(pod.restartPolicy, 'Never', 'would be restarted for ever');
  const limit = Number.parseInt(container.resources?.limits?.memory ?? '', 10);
  assert.ok(limit >= Number(env.XVAULT_MEMORY_MIB) + OVERHEAD_MIB, `has ${limit} MiB of memory`);
  const secret = all.find(({ kind }) => kind === 'ExternalSecret');
  const keys = (at(secret, 'spec', 'data') as { secretKey: string }[]).map(
    ({ secretKey }) => secretKey,
  );
  for (const file of Object.values(env).filter((value) => value.startsWith('/run/'))) {
    const mount = container.volumeMounts?.find(({ mountPath }) => file.startsWith(`${mountPath}/`));
    assert.ok(mount, `nothing is mounted at ${file}`);
    assert.ok(keys.includes(file.slice(mount.mountPath.length + 1)), `no secret for ${file}`);
  }
  const { hostname } = new URL(env.XVAULT_QUEUE_URL ?? 'redis://none');
  const services = all
    .filter(({ kind }) => kind === 'Service')
    .map((one) => at(one, 'metadata', 'name'));
  if (hostname !== 'none') assert.ok(services.includes(hostname), `no service ${hostname}`);
}

function checkProbes(container: Container): void {
  const paths = new Set<string>(ROUTES.map(({ path }) => path));
  for (const probe of ['livenessProbe', 'readinessProbe', 'startupProbe']) {
    const http = at(container, probe, 'httpGet') as { path: string; port: string } | undefined;
    if (!http) continue;
    assert.ok(paths.has(http.path), `${probe} asks ${http.path}`);
    const names = container.ports?.map(({ name }) => name);
    assert.ok(names?.includes(http.port), `${probe} asks port ${http.port}`);
  }
}

function checkTriggers(object: Manifest, all: readonly Manifest[]): void {
  if (object.kind !== 'ScaledJob') return;
  const triggers = at(object, 'spec', 'triggers') as Manifest[];
  for (const { type, metadata, authenticationRef } of triggers) {
    assert.equal(type, 'metrics-api');
    const { url } = triggerShape.parse(metadata);
    const { pathname, searchParams, hostname } = new URL(url);
    const route = ROUTES.find(({ path, method }) => path === pathname && method === 'GET');
    assert.ok(route, `nobody answers ${pathname}`);
    assert.equal(searchParams.get('status'), 'queued', 'counts more than what waits');
    assert.ok(
      all.some(
        ({ kind, metadata: own }) => kind === 'Service' && `${at(own, 'name')}.xvault` === hostname,
      ),
      `no service ${hostname}`,
    );
    const reference = all.find(
      ({ kind, metadata: own }) =>
        kind === 'TriggerAuthentication' && at(own, 'name') === at(authenticationRef, 'name'),
    );
    assert.equal(at(reference, 'spec', 'secretTargetRef', 0, 'parameter'), 'token', 'no token');
  }
}

/** kustomize adds our labels to every podSelector with matchLabels: one of other people's pods then selects none. */
function checkWalls(object: Manifest): void {
  if (object.kind !== 'NetworkPolicy') return;
  const spec = object.spec as { egress?: Manifest[]; ingress?: Manifest[] };
  const peers = [
    ...(spec.ingress ?? []).flatMap(({ from }) => from as Manifest[]),
    ...(spec.egress ?? []).flatMap(({ to }) => to as Manifest[]),
  ];
  for (const peer of peers.filter(({ namespaceSelector }) => namespaceSelector)) {
    assert.equal(at(peer, 'podSelector', 'matchLabels'), undefined, 'labels of other pods');
  }
}
