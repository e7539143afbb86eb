/**
 * Streams that share limits, as water shares pipes: at each instant every stream runs as fast as the fairest division allows.
 *
 * Fair is max-min: all rates grow together until a limit is reached; what uses that limit stays there, the rest grows on. Rates
 * change only when a stream begins or ends, so simulated time goes from one such instant to the next. Pure.
 */

/** One limit and how much of it a byte of the stream takes: 1 for bytes on a line, seconds of a core, requests. */
export interface Use {
  limit: number;
  perByte: number;
}

export interface Flow {
  uses: readonly Use[];
  /** Of this stream alone. */
  mostBytesPerSecond: number;
}

/** What the rate of a stream hangs on: a limit by its number, or the stream itself. */
export const ITSELF = -1;

export interface Division {
  bytesPerSecond: Float64Array;
  /** For each stream the limit that holds it, or ITSELF. */
  heldBy: Int32Array;
  /** Of each limit, what is used. */
  used: Float64Array;
}

/** Divides the limits (capacities in units a second) among the streams. */
export function divide(flows: readonly Flow[], capacities: readonly number[]): Division {
  const bytesPerSecond = new Float64Array(flows.length);
  const heldBy = new Int32Array(flows.length).fill(ITSELF);
  const used = new Float64Array(capacities.length);
  const growing = new Float64Array(capacities.length);
  const users = new Int32Array(capacities.length);
  for (const { uses } of flows) {
    for (const { limit, perByte } of uses) {
      growing[limit] = (growing[limit] as number) + perByte;
      users[limit] = (users[limit] as number) + 1;
    }
  }
  const closed = new Uint8Array(flows.length);
  let open = flows.map((_, index) => index);
  const close = (index: number, level: number, by: number): void => {
    closed[index] = 1;
    bytesPerSecond[index] = level;
    heldBy[index] = by;
    for (const { limit, perByte } of (flows[index] as Flow).uses) {
      used[limit] = (used[limit] as number) + level * perByte;
      growing[limit] = (growing[limit] as number) - perByte;
      users[limit] = (users[limit] as number) - 1;
    }
  };
  while (open.length > 0) {
    const { level, by } = nextLimit({ capacities, used, growing, users });
    // who is content with less than the next limit allows leaves more to all others: the limit only rises
    const content = open.filter((index) => (flows[index] as Flow).mostBytesPerSecond <= level);
    for (const index of content) close(index, (flows[index] as Flow).mostBytesPerSecond, ITSELF);
    const isHeld = (index: number): boolean =>
      content.length === 0 && (flows[index] as Flow).uses.some(({ limit }) => limit === by);
    for (const index of open.filter(isHeld)) close(index, level, by);
    open = open.filter((index) => !closed[index]);
  }
  return { bytesPerSecond, heldBy, used };
}

/** How far all open streams can grow together before they reach a limit, and which. */
function nextLimit(state: {
  capacities: readonly number[];
  used: Float64Array;
  growing: Float64Array;
  users: Int32Array;
}): { level: number; by: number } {
  const { capacities, used, growing, users } = state;
  let level = Number.POSITIVE_INFINITY;
  let by = ITSELF;
  for (let limit = 0; limit < capacities.length; limit += 1) {
    if (users[limit] === 0) continue;
    const rest = Math.max(0, (capacities[limit] as number) - (used[limit] as number));
    const most = rest / (growing[limit] as number);
    if (most < level) {
      level = most;
      by = limit;
    }
  }
  return { level, by };
}
