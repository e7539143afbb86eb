/** Pages for people, and the description for machines. */
import { z } from 'zod';
import { type BackupError, toBackupError } from '../../errors.ts';
import { docsPage } from '../docs-page.ts';
import { pageAnswer } from '../page.ts';
import { type AnyRoute, defineRoute, jsonAnswer } from '../route.ts';
import { statusPage } from '../status-page.ts';

const REFRESH_SECONDS = 15;
const MAX_JOBS = 100;
const FORECAST_DAYS = 30;

const status = defineRoute({
  method: 'GET',
  path: '/',
  scope: 'read',
  summary: 'Status page',
  description: 'For people. A browser is asked for a password: the token, with any user name.',
  basic: true,
  answers: { 200: { description: 'HTML.', contentType: 'text/html', schema: z.string() } },
  handle: async ({ deps: { service, version }, settings, signal }) => {
    const jobsIn = async (state: string) =>
      (await service.listJobs({ pageSize: MAX_JOBS, status: state }, { signal })).items;
    const [report, running, queued, forecast] = await Promise.all([
      orProblem(service.status({ maxAgeSeconds: settings.maxAgeSeconds }, { signal })),
      orProblem(jobsIn('running')),
      orProblem(jobsIn('queued')),
      orProblem(service.forecast({ days: FORECAST_DAYS }, { signal })),
    ]);
    const jobs =
      Array.isArray(running) && Array.isArray(queued) ? [...running, ...queued] : running;
    const { draining } = service;
    const page = statusPage({ version, draining, status: report, jobs, forecast });
    return await pageAnswer('xvault', page, { refreshSeconds: REFRESH_SECONDS });
  },
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
  answers: { 200: { description: 'HTML.', contentType: 'text/html', schema: z.string() } },
  handle: async ({ routes, c }) =>
    await pageAnswer('xvault API', docsPage(routes, new URL(c.req.url).origin)),
});

/** A page shows what it has: the part that failed says why. */
async function orProblem<T>(work: Promise<T>): Promise<T | BackupError> {
  try {
    return await work;
  } catch (error) {
    return toBackupError(error);
  }
}

export const PAGE_ROUTES: readonly AnyRoute[] = [status, document, docs];
