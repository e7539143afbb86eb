/**
 * Idempotency-Key: the first answer to a POST, kept so that a repeat gets it again instead of a second backup.
 *
 * One small object a key: idempotency/<sha256 of token name and key> holds {fingerprint, state, answer}. It is
 * claimed by a conditional create before the work begins and completed by a conditional replace after it, so two
 * instances that get the same webhook at once do the work once (draft-ietf-httpapi-idempotency-key-header):
 *   same key, same payload, answered    the first answer again
 *   same key, same payload, not yet     idempotency_in_flight
 *   same key, other payload             idempotency_mismatch
 * Work that throws is not remembered: its claim is given back and a repeat works anew. On a store without
 * conditional writes the claims of this process still hold, which is enough for the one instance allowed there.
 */
import { z } from 'zod';
import { BackupError, isBackupError } from '../errors.ts';
import type { Cancellable, Clock, Ids, Log, ObjectStore, PutCondition } from '../ports.ts';
import { NEVER } from '../signals.ts';
import { formatTime, parseTime } from '../time.ts';
import type { Keys } from './keys.ts';

/** Published expiry: older records count as absent; a bucket rule removes them. */
export const EXPIRY_MS = 2 * 24 * 3600_000;
/** A claim this old is a crashed instance's: starting takes seconds, its adapters give up far earlier. */
export const ABANDONED_MS = 5 * 60_000;
/** Rounds of read and claim; each lost round means that another request won meanwhile. */
const MAX_CLAIM_ROUNDS = 3;

const answerSchema = z.object({
  status: z.int(),
  headers: z.record(z.string(), z.string()),
  body: z.string(),
});
/** What is given again: status, headers that matter (Location, Retry-After, Content-Type) and body. */
export type RememberedAnswer = z.infer<typeof answerSchema>;

const recordSchema = z.object({
  version: z.literal(1),
  /** New with every write, so that no two writes have the same bytes. */
  id: z.string(),
  /** For what the work makes: a claim taken over after a crash makes the same thing, not another. */
  reserved_id: z.string(),
  fingerprint: z.string(),
  state: z.enum(['claimed', 'answered', 'given_back']),
  created_at: z.iso.datetime(),
  answer: answerSchema.optional(),
});
type IdempotencyRecord = z.infer<typeof recordSchema>;

export interface IdempotentRequest {
  /** Whose key it is: keys of two tokens never meet. */
  tokenName: string;
  key: string;
  method: string;
  path: string;
  /** The parsed body, defaults filled in: spacing and order of fields do not matter. */
  body: unknown;
}

export interface Idempotency {
  /**
   * Gives the remembered answer, or does `work` and remembers its answer.
   * `work` is given an id for what it makes: the same again when a dead instance's claim is taken over, so work
   * that looks for it first does nothing twice.
   * Errors: `idempotency_mismatch`, `idempotency_in_flight`, `store_*`, and whatever `work` throws.
   */
  run(
    request: IdempotentRequest,
    work: (reservedId: string) => Promise<RememberedAnswer>,
    options: Cancellable,
  ): Promise<{ answer: RememberedAnswer; replayed: boolean }>;
}

export interface IdempotencyDeps {
  store: ObjectStore;
  keys: Keys;
  clock: Clock;
  ids: Ids;
  log?: Log;
}

type Claim =
  | { kind: 'mine'; etag: string; reservedId: string }
  | { kind: 'answered'; answer: RememberedAnswer };
type Outcome = Pick<IdempotencyRecord, 'reserved_id' | 'fingerprint' | 'state' | 'answer'>;

/** Keeps first answers in the bucket. */
export function createIdempotency(deps: IdempotencyDeps): Idempotency {
  const records = createRecords(deps);
  /** Requests of this process that are being worked on: hash → fingerprint. Bounded by the open requests. */
  const inFlight = new Map<string, string>();

  async function workOnce(
    key: string,
    fingerprint: string,
    work: (reservedId: string) => Promise<RememberedAnswer>,
    options: Cancellable,
  ) {
    const claimed = await claimInRounds(records, key, fingerprint, options);
    if (claimed.kind === 'answered') return { answer: claimed.answer, replayed: true };
    const same = { reserved_id: claimed.reservedId, fingerprint };
    let answer: RememberedAnswer;
    try {
      answer = await work(claimed.reservedId);
    } catch (error) {
      await records.conclude(key, claimed.etag, { ...same, state: 'given_back' });
      throw error;
    }
    await records.conclude(key, claimed.etag, { ...same, state: 'answered', answer });
    return { answer, replayed: false };
  }

  return {
    run: async (request, work, options) => {
      const hash = await sha256Hex(JSON.stringify([request.tokenName, request.key]));
      const fingerprint = await sha256Hex(
        JSON.stringify([request.method, request.path, canonical(request.body)]),
      );
      const other = inFlight.get(hash);
      if (other !== undefined) throw other === fingerprint ? stillWorking() : mismatch();
      inFlight.set(hash, fingerprint);
      try {
        return await workOnce(deps.keys.idempotency(hash), fingerprint, work, options);
      } finally {
        inFlight.delete(hash);
      }
    },
  };
}

async function claimInRounds(
  records: ReturnType<typeof createRecords>,
  key: string,
  fingerprint: string,
  options: Cancellable,
): Promise<Claim> {
  for (let round = 1; round <= MAX_CLAIM_ROUNDS; round++) {
    try {
      return await records.claim(key, fingerprint, options);
    } catch (error) {
      if (!isBackupError(error, 'precondition_failed')) throw error;
    }
  }
  throw stillWorking();
}

/** Reading and writing one record. */
function createRecords({ store, clock, ids, log }: IdempotencyDeps) {
  /** Conditional where the store can: elsewhere one instance is all there may be. */
  async function put(
    key: string,
    outcome: Outcome,
    { signal, ...condition }: Cancellable & PutCondition,
  ): Promise<string> {
    const { conditionalWrites } = await store.facts({ signal });
    const record: IdempotencyRecord = {
      version: 1,
      id: ids.uuid(),
      created_at: formatTime(clock.now()),
      ...outcome,
    };
    const contentType = 'application/json';
    const options = { signal, contentType, ...(conditionalWrites ? condition : {}) };
    return (await store.put(key, JSON.stringify(record), options)).etag;
  }

  async function read(key: string, { signal }: Cancellable) {
    const found = await store.get(key, { signal });
    if (found === undefined) return undefined;
    const record = recordSchema.safeParse(parseJson(found.bytes));
    if (record.success) return { record: record.data, etag: found.etag };
    const cause = record.error;
    throw new BackupError('data_corrupt', `read idempotency record key=${key}`, { cause });
  }

  return {
    /** One round: look, then claim what is free. Throws `precondition_failed` when another was faster. */
    claim: async (key: string, fingerprint: string, { signal }: Cancellable): Promise<Claim> => {
      const found = await read(key, { signal });
      if (found !== undefined && !isFree(found.record, clock.now())) {
        if (found.record.fingerprint !== fingerprint) throw mismatch();
        if (found.record.answer === undefined) throw stillWorking();
        return { kind: 'answered', answer: found.record.answer };
      }
      const condition = found === undefined ? { ifAbsent: true } : { ifMatch: found.etag };
      const abandoned =
        found?.record.state === 'claimed' && found.record.fingerprint === fingerprint;
      const reservedId = abandoned ? found.record.reserved_id : ids.uuid();
      const claim = { reserved_id: reservedId, fingerprint, state: 'claimed' as const };
      const etag = await put(key, claim, { signal, ...condition });
      return { kind: 'mine', etag, reservedId };
    },
    /** Runs outside the caller's signal: what was begun must be written down though he has left. */
    conclude: async (key: string, etag: string, outcome: Outcome): Promise<void> => {
      try {
        await put(key, outcome, { signal: NEVER, ifMatch: etag });
      } catch (error) {
        // The work itself is done or has failed, and its caller must learn that; the claim left behind
        // refuses repeats until it counts as abandoned.
        log?.warn('idempotency record not written', { key, state: outcome.state, error });
      }
    },
  };
}

function isFree(record: IdempotencyRecord, now: number): boolean {
  const ageMs = now - parseTime(record.created_at);
  return (
    record.state === 'given_back' ||
    ageMs > EXPIRY_MS ||
    (record.state === 'claimed' && ageMs > ABANDONED_MS)
  );
}

function mismatch(): BackupError {
  return new BackupError('idempotency_mismatch', 'repeat request with another payload');
}

function stillWorking(): BackupError {
  return new BackupError('idempotency_in_flight', 'repeat request while the first is worked on');
}

/** The same value with the fields of every object in order, so that equal payloads have equal text. */
function canonical(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(canonical);
  if (typeof value !== 'object' || value === null) return value;
  const fields = Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1));
  return Object.fromEntries(fields.map(([name, field]) => [name, canonical(field)]));
}

async function sha256Hex(text: string): Promise<string> {
  const digest = await crypto.subtle.digest('SHA-256', new TextEncoder().encode(text));
  return Array.from(new Uint8Array(digest), (byte) => byte.toString(16).padStart(2, '0')).join('');
}

function parseJson(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder().decode(bytes));
  } catch {
    return undefined; // the schema check reports it
  }
}
