/** What several routes share: page parameters, lists, and holding an answer back until a job ended. */
import { z } from 'zod';
import { isEnded, type Job } from '../../catalog/record.ts';
import { BackupError } from '../../errors.ts';
import { isUuid } from '../../uuid.ts';
import { JOB_EXAMPLE } from '../examples.ts';
import { readPreferences } from '../input.ts';
import { type Answer, type AnswerDoc, type Call, jsonAnswer } from '../route.ts';
import { httpProblemSchema, jobAnswerSchema } from '../schemas.ts';
import { jobView } from '../views.ts';

const DEFAULT_PAGE_SIZE = 50;
const MAX_PAGE_SIZE = 1000;
/** How long a client should wait before it looks at a job again. */
const POLL_SECONDS = 5;

export const pageFields = {
  page_size: z
    .string()
    .regex(/^[1-9]\d{0,8}$/, 'a whole number, 1 to 1000')
    .optional()
    .transform((text) => Math.min(Number(text ?? DEFAULT_PAGE_SIZE), MAX_PAGE_SIZE))
    .meta({ description: 'Entries a page, 50 unless told; more than 1000 count as 1000.' }),
  page_token: z
    .string()
    .max(4096)
    .optional()
    .meta({ description: '`next_page_token` of the page before; other parameters stay the same.' }),
};

export const nameField = z.string().min(1).max(255).optional();

/** A job as an answer, for the description. */
export function jobDoc(description: string, example: unknown = JOB_EXAMPLE): AnswerDoc {
  return { description, schema: jobAnswerSchema, example };
}

/** Both answers of a route that starts a job: `ended` within the time waited, or just started. */
export function startDocs(
  example: unknown = JOB_EXAMPLE,
  ended = 'The job, ended within the time waited.',
): Record<200 | 202, AnswerDoc> {
  return {
    200: jobDoc(ended, example),
    202: {
      ...jobDoc('The job, started.', example),
      headers: { Location: 'The job.', 'Retry-After': 'Seconds until a look makes sense.' },
    },
  };
}

/** Who starts a job, and the id it has so that a repeat finds the same one. */
export function starterOf({ identity, reservedId }: Pick<Call, 'identity' | 'reservedId'>) {
  return { triggeredBy: identity?.name ?? 'nobody', jobId: reservedId };
}

/** 202 with the job that was started. */
export function startedAnswer(job: Job): Answer {
  const view = jobView(job);
  return jsonAnswer(202, view, { location: view.links.self, ...POLL_HEADERS });
}

/** Query → input of the service's lists. */
export function pageInput(query: { page_size: number; page_token?: string | undefined }): {
  pageSize: number;
  pageToken?: string;
} {
  const pageToken = query.page_token;
  return { pageSize: query.page_size, ...(pageToken ? { pageToken } : {}) };
}

/** The fields that are there: the service's inputs have no undefined ones. */
export function given<T extends Record<string, unknown>>(
  fields: T,
): { [K in keyof T]?: NonNullable<T[K]> } {
  const there = Object.entries(fields).filter(([, value]) => value !== undefined);
  return Object.fromEntries(there) as { [K in keyof T]?: NonNullable<T[K]> };
}

/** An id from the path. Errors: `not_found` for what cannot be one, before it becomes part of a key. */
export function idOf(call: Call, kind: 'job' | 'backup' | 'run'): string {
  const id = call.param('id');
  if (!isUuid(id)) throw notFound(kind, id);
  return id.toLowerCase();
}

/** Errors: `not_found` when the service has none. */
export function found<T>(value: T | undefined, kind: 'job' | 'backup' | 'run', id: string): T {
  if (value === undefined) throw notFound(kind, id);
  return value;
}

function notFound(kind: string, id: string): BackupError {
  return new BackupError('not_found', `find ${kind} ${id.slice(0, 100)}: there is none of that id`);
}

/** The seconds a caller asked to wait and may, or undefined; `release` gives the place back. */
export function takeWait(call: Call): { waitSeconds: number; release: () => void } | undefined {
  const { waitSeconds } = readPreferences(call.c.req.header('prefer'));
  if (waitSeconds === undefined || waitSeconds === 0) return undefined;
  const release = call.holds.tryTake();
  return release && { waitSeconds, release };
}

/** Prefer: wait=N on a POST that started a job: 200 with the job once it ended, else the first answer's 202. */
export async function holdForJob(call: Call, answer: Answer): Promise<Answer> {
  const wait = takeWait(call);
  if (wait === undefined) {
    const { respondAsync } = readPreferences(call.c.req.header('prefer'));
    if (!respondAsync) return answer;
    return { ...answer, headers: { ...answer.headers, 'preference-applied': 'respond-async' } };
  }
  try {
    const { id } = JSON.parse(String(answer.body)) as { id: string };
    const timeoutMs = wait.waitSeconds * 1000;
    const job = await call.deps.service.waitJob(id, { timeoutMs }, { signal: call.signal });
    const headers: Answer['headers'] = {
      ...answer.headers,
      'preference-applied': `wait=${wait.waitSeconds}`,
    };
    if (job === undefined) return { ...answer, headers };
    const { 'retry-after': _, ...ended } = headers;
    return isEnded(job)
      ? jsonAnswer(200, jobView(job), ended)
      : jsonAnswer(202, jobView(job), headers);
  } finally {
    wait.release();
  }
}

/** Retry-After for a job that goes on. */
export const POLL_HEADERS = { 'retry-after': String(POLL_SECONDS) };

/** A problem among a route's possible answers. */
export function problemDoc(description: string): AnswerDoc {
  return { description, contentType: 'application/problem+json', schema: httpProblemSchema };
}
