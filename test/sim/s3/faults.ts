/**
 * The fault port: tests say which requests go wrong, how, and how often.
 *
 * A fault picks requests by operation, bucket and key, lets some pass first, and then acts a given number of times
 * (or with a probability, drawn from the seed). The first fault that fits a request acts; all others wait.
 */

export type FaultEffect =
  /** Refuses before anything is done; the body is read first, as servers under load do. */
  | { kind: 'status'; status: number; code: string; retryAfterSeconds?: number }
  /** Cuts the connection after so many bytes of the request's body (0: at once). */
  | { kind: 'reset'; afterBytes: number }
  /** Carries the request out and cuts the connection instead of answering. */
  | { kind: 'lose-answer' }
  /** Carries the request out and cuts the connection after so many bytes of the answer's body. */
  | { kind: 'cut-answer'; afterBytes: number }
  /** Waits before anything is done. */
  | { kind: 'delay'; ms: number }
  /** Never answers; the connection stays open until the server closes. */
  | { kind: 'hang' }
  /** The first byte changes on the way in: ETag and checksums are those of the damaged content. */
  | { kind: 'receive-damaged' }
  /** The first byte changes after it was hashed: only reading it back shows it. */
  | { kind: 'store-damaged' }
  /** The last byte is lost after it was hashed: only a size shows it. */
  | { kind: 'store-short' }
  /** Answers 200 with an error document, as CompleteMultipartUpload and copies may on AWS. Nothing is done. */
  | { kind: 'error-in-200'; code: string };

export interface Fault {
  effect: FaultEffect;
  /** `UploadPart` or several; every operation when absent. */
  operation?: string | readonly string[];
  bucket?: string;
  key?: string | RegExp;
  partNumber?: number;
  /** Requests that fit and still pass first; 0 when absent. */
  skip?: number;
  /** How often it acts; once when absent. */
  times?: number;
  /** Acts only on this share of the requests that fit. */
  probability?: number;
  /** Acts only while this says so. */
  while?: () => boolean;
}

export interface FaultTarget {
  operation: string;
  bucket: string;
  key: string;
  partNumber: number | undefined;
}

/**
 * Sees every request twice: before anything is done (`done` false), and after it was carried out. The request waits
 * for it, and the answer `cut` ends its connection there.
 */
export type Watch = (request: FaultTarget & { done: boolean }) => unknown;

export interface Faults {
  watch?: Watch | undefined;
  /** Plans a fault; the returned function takes it back. */
  add(fault: Fault): () => void;
  clear(): void;
  /** How many requests were struck so far, by effect. */
  readonly struck: Readonly<Record<string, number>>;
}

interface Planned {
  fault: Fault;
  skip: number;
  left: number;
}

/** An empty plan; `seed` decides the draws of `probability`. */
export function createFaults(
  seed = 1,
): Faults & { strike(target: FaultTarget): FaultEffect | undefined } {
  let planned: Planned[] = [];
  const struck: Record<string, number> = {};
  const random = createRandom(seed);
  return {
    struck,
    add: (fault) => {
      const entry = { fault, skip: fault.skip ?? 0, left: fault.times ?? 1 };
      planned.push(entry);
      return () => {
        planned = planned.filter((each) => each !== entry);
      };
    },
    clear: () => {
      planned = [];
    },
    strike: (target) => {
      for (const entry of planned) {
        if (entry.left <= 0 || !fits(entry.fault, target)) continue;
        if (entry.skip > 0) {
          entry.skip -= 1;
          continue;
        }
        if (entry.fault.while?.() === false) continue;
        if (random() >= (entry.fault.probability ?? 1)) continue;
        entry.left -= 1;
        const { effect } = entry.fault;
        struck[effect.kind] = (struck[effect.kind] ?? 0) + 1;
        return effect;
      }
      return undefined;
    },
  };
}

function fits(fault: Fault, target: FaultTarget): boolean {
  const operations = fault.operation === undefined ? [] : [fault.operation].flat();
  if (operations.length > 0 && !operations.includes(target.operation)) return false;
  if (fault.bucket !== undefined && fault.bucket !== target.bucket) return false;
  if (fault.partNumber !== undefined && fault.partNumber !== target.partNumber) return false;
  if (fault.key === undefined) return true;
  return typeof fault.key === 'string' ? fault.key === target.key : fault.key.test(target.key);
}

/** Mulberry32: small, seeded, good enough to draw faults. */
function createRandom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
