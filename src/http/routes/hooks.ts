/**
 * Triggers: services that sign what they send and can do no more than POST it, instead of calling the API with a token.
 *
 * What is asked for is a backup or a run, in the words of the API. An event that is not for xvault is answered with 200 and
 * `ignored`: senders take everything else for a failure and send it again. What GitHub calls inputs are texts; they are
 * read as what they mean.
 */
import { z } from 'zod';
import { backupRequestSchema } from '../../catalog/record.ts';
import { runRequestSchema } from '../../catalog/run.ts';
import { BackupError } from '../../errors.ts';
import { NEVER } from '../../signals.ts';
import { bodyError } from '../problem.ts';
import { type Answer, type AnyRoute, type Call, defineRoute, jsonAnswer } from '../route.ts';
import { runView } from '../run-answers.ts';
import { jobAnswerSchema } from '../schemas.ts';
import { type Delivery, mayNameAll, requireVm } from '../senders.ts';
import { POLL_HEADERS, problemDoc, startedAnswer } from './common.ts';

/** What `data`, `client_payload` or the inputs must be: the body of the API's call and the machine. */
const backupWish = backupRequestSchema.extend({ vm: z.string().min(1).max(255) });

/** Event types of repository_dispatch, and the beginning of a workflow's file name. */
const GITHUB_BACKUP = 'xvault-backup';
const GITHUB_RUN = 'xvault-run';
const LOGIN = /^[A-Za-z0-9-]{1,39}(\[bot\])?$/;

/** Somebody asks for something: what, and where in the body that stands. */
interface Asked {
  kind: 'backup' | 'run';
  wish: unknown;
  field: string;
  /** Whoever made the sender send it. */
  by?: string | undefined;
}

const ignoredSchema = z.object({ ignored: z.string() });
const ANSWERS = {
  200: {
    description: 'Nothing to do: why.',
    schema: ignoredSchema,
    example: { ignored: 'type backup.succeeded' },
  },
  202: {
    description: 'The job, or the run, started.',
    schema: jobAnswerSchema,
    headers: { Location: 'The job, or the run.' },
  },
  401: problemDoc('No signature, a wrong one, or one of another time.'),
  403: problemDoc('The settings do not let this sender name that machine.'),
  404: problemDoc('This sender has no secret in the settings; or no machine of that name.'),
  409: problemDoc('`job_conflict`: one is running already, see `links.job`.'),
  422: problemDoc('Wrong field.'),
  429: problemDoc('`limit_reached`: the queue is full.'),
  503: problemDoc('`draining`, or the pool or the store does not answer.'),
};

const standard = defineRoute({
  method: 'POST',
  path: '/hooks/standard',
  scope: 'none',
  sender: 'standard',
  summary: 'Start by a webhook (Standard Webhooks)',
  description:
    'Of type `backup.requested` with `data` as the body of `POST /v1/vms/{vm}/backups` and `vm` in it, or of type `run.requested` with `data` ' +
    'as the body of `POST /v1/runs`. Other types are ignored. See docs/triggers.md.',
  body: z.looseObject({
    type: z.string().min(1).max(255).meta({ example: 'backup.requested' }),
    data: z
      .unknown()
      .optional()
      .meta({ example: { vm: 'web-1', retention: 'weekly' } }),
  }),
  answers: ANSWERS,
  handle: async (call) => {
    const { type, data: wish } = call.body;
    if (type === 'backup.requested')
      return await start(call, { kind: 'backup', wish, field: 'data' });
    if (type === 'run.requested') return await start(call, { kind: 'run', wish, field: 'data' });
    return ignored(`type ${type}`);
  },
});

const github = defineRoute({
  method: 'POST',
  path: '/hooks/github',
  scope: 'none',
  sender: 'github',
  summary: 'Start by a webhook of GitHub',
  description:
    `\`repository_dispatch\` of type \`${GITHUB_BACKUP}\` or \`${GITHUB_RUN}\`, with the body of the API’s call (and \`vm\`) as \`client_payload\`; ` +
    `\`workflow_dispatch\` of a workflow \`${GITHUB_BACKUP}.yml\`, with the same as inputs. \`ping\` and all others are ignored. See docs/triggers.md.`,
  body: z.looseObject({
    action: z.string().max(255).optional(),
    client_payload: z
      .unknown()
      .optional()
      .meta({ example: { vm: 'web-1', retention: 'weekly' } }),
    // of some events it is an object
    workflow: z.unknown().optional(),
    inputs: z.unknown().optional(),
    sender: z.looseObject({ login: z.string().optional() }).optional(),
  }),
  answers: ANSWERS,
  handle: async (call) => {
    const { body } = call;
    const event = call.c.req.header('x-github-event') ?? 'none';
    const login = body.sender?.login ?? '';
    const by = LOGIN.test(login) ? login : undefined;
    if (event === 'repository_dispatch') {
      const field = 'client_payload';
      const wish = body.client_payload;
      if (body.action === GITHUB_BACKUP)
        return await start(call, { kind: 'backup', wish, field, by });
      if (body.action === GITHUB_RUN) return await start(call, { kind: 'run', wish, field, by });
      return ignored(`repository_dispatch of type ${body.action ?? 'none'}`);
    }
    if (event !== 'workflow_dispatch') return ignored(`event ${event.slice(0, 100)}`);
    const file = String(body.workflow).split('/').at(-1) ?? 'none';
    if (!/^xvault-backup\.ya?ml$/.test(file))
      return ignored(`workflow_dispatch of ${file.slice(0, 100)}`);
    return await start(call, {
      kind: 'backup',
      wish: fromInputs(body.inputs),
      field: 'inputs',
      by,
    });
  },
});

function ignored(what: string): Answer {
  return jsonAnswer(200, { ignored: what });
}

async function start(call: Call, asked: Asked): Promise<Answer> {
  const { delivery } = call;
  if (delivery === undefined) throw new Error('a route of a sender without a delivery');
  return asked.kind === 'run'
    ? await startRun(call, delivery, asked)
    : await startBackup(call, delivery, asked);
}

async function startBackup(call: Call, delivery: Delivery, asked: Asked): Promise<Answer> {
  const { vm, ...request } = readWish(backupWish, asked);
  requireVm(delivery.sender, vm);
  const job = await call.deps.service.startBackup(
    { vm, request, triggeredBy: triggeredBy(delivery, asked), jobId: call.reservedId },
    { signal: NEVER },
  );
  return startedAnswer(job);
}

async function startRun(call: Call, delivery: Delivery, asked: Asked): Promise<Answer> {
  const request = readWish(runRequestSchema, asked);
  const { names, tags, all } = request.select;
  if (!mayNameAll(delivery.sender)) {
    if (all || tags.length > 0) {
      const message = 'allow request: this sender may name machines only, no tags and not all';
      throw new BackupError('forbidden', message);
    }
    for (const name of names) requireVm(delivery.sender, name);
  }
  const run = await call.deps.service.startRun(
    { request, triggeredBy: triggeredBy(delivery, asked), runId: call.reservedId },
    { signal: NEVER },
  );
  const view = runView(run);
  if (request.dry_run) return jsonAnswer(200, view);
  return jsonAnswer(202, view, { location: view.links.self, ...POLL_HEADERS });
}

function triggeredBy({ identity }: Delivery, { by }: Asked): string {
  return by === undefined ? identity.name : `${identity.name} ${by}`;
}

/** Errors: `invalid_request`, with pointers into the body. */
function readWish<T extends z.ZodType>(schema: T, { wish, field }: Asked): z.output<T> {
  const result = schema.safeParse(wish);
  if (result.success) return result.data;
  const issues = result.error.issues.map((issue) => ({ ...issue, path: [field, ...issue.path] }));
  throw bodyError(new z.ZodError(issues));
}

/** Texts as what they mean; an empty one is an input nobody filled in. */
function fromInputs(inputs: unknown): unknown {
  if (typeof inputs !== 'object' || inputs === null) return inputs;
  const filled = Object.entries(inputs).filter(([, value]) => value !== '' && value !== null);
  return Object.fromEntries(
    filled.map(([name, value]) => {
      if (typeof value !== 'string') return [name, value];
      if (name === 'dry_run')
        return [name, value === 'true' || (value === 'false' ? false : value)];
      if (name === 'exclude_disks') return [name, value.split(',').map((part) => part.trim())];
      return [name, value];
    }),
  );
}

export const HOOK_ROUTES: readonly AnyRoute[] = [standard, github];
