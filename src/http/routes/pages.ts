/** Pages for people, and the description for machines. */
import { z } from 'zod';
import { docsPage } from '../docs-page.ts';
import { pageAnswer } from '../page.ts';
import { liveAnswer } from '../pages/live.ts';
import { addressOf, jobLook, statusLook, vmLook } from '../pages/look.ts';
import { runListLook, runLook } from '../pages/run-look.ts';
import { type AnyRoute, defineRoute, jsonAnswer } from '../route.ts';
import { idOf, problemDoc } from './common.ts';

const FOR_PEOPLE =
  'For people: a browser is sent to `/login`, a program gives its token, or the token as password of Basic. ' +
  'With `Accept: text/event-stream` the sections of the page as they change.';

const pageDoc = { description: 'HTML.', contentType: 'text/html', schema: z.string() };

const status = defineRoute({
  method: 'GET',
  path: '/',
  scope: 'read',
  summary: 'Status page',
  description: FOR_PEOPLE,
  basic: true,
  session: true,
  answers: { 200: pageDoc },
  handle: (call) => liveAnswer(call, statusLook(call)),
});

const machine = defineRoute({
  method: 'GET',
  path: '/vms/{pool}/{vm}',
  scope: 'read',
  summary: 'Page of a machine',
  description: FOR_PEOPLE,
  params: { pool: 'name of the pool', vm: 'uuid of the machine; it may no longer exist' },
  basic: true,
  session: true,
  answers: { 200: pageDoc, 404: problemDoc('Nobody knows it.') },
  handle: (call) => {
    const vm = { pool: call.param('pool'), uuid: call.param('vm') };
    return liveAnswer(call, vmLook(call, vm));
  },
});

const job = defineRoute({
  method: 'GET',
  path: '/jobs/{id}',
  scope: 'read',
  summary: 'Page of a job',
  description: FOR_PEOPLE,
  params: { id: 'id of the job' },
  basic: true,
  session: true,
  answers: { 200: pageDoc, 404: problemDoc('No such job.') },
  handle: (call) => liveAnswer(call, jobLook(call, idOf(call, 'job'))),
});

const runs = defineRoute({
  method: 'GET',
  path: '/runs',
  scope: 'read',
  summary: 'Page of the last runs',
  description: FOR_PEOPLE,
  basic: true,
  session: true,
  answers: { 200: pageDoc },
  handle: (call) => liveAnswer(call, runListLook(call)),
});

const run = defineRoute({
  method: 'GET',
  path: '/runs/{id}',
  scope: 'read',
  summary: 'Page of a run',
  description: FOR_PEOPLE,
  params: { id: 'id of the run' },
  basic: true,
  session: true,
  answers: { 200: pageDoc, 404: problemDoc('No such run, or a rule of the bucket removed it.') },
  handle: (call) => liveAnswer(call, runLook(call, idOf(call, 'run'))),
});

const document = defineRoute({
  method: 'GET',
  path: '/openapi.json',
  scope: 'none',
  summary: 'This description',
  answers: { 200: { description: 'OpenAPI 3.1.', schema: z.object({}).loose() } },
  handle: async ({ routes, deps }) => {
    // made when asked for: the generator is not needed to start
    const { openApiDocument } = await import('../describe.ts');
    return jsonAnswer(200, openApiDocument(routes, deps.version));
  },
});

const docs = defineRoute({
  method: 'GET',
  path: '/docs',
  scope: 'none',
  summary: 'The API for people',
  answers: { 200: pageDoc },
  handle: async ({ routes, settings, c }) =>
    await pageAnswer('xvault API', docsPage(routes, addressOf({ settings, c }))),
});

export const PAGE_ROUTES: readonly AnyRoute[] = [status, machine, job, runs, run, document, docs];
