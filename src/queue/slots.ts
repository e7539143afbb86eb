/**
 * How many jobs run on a pool and on each of its SRs, counted over all instances, in Redis.
 *
 * The global concurrency of a BullMQ queue counts what is active in Redis. It knows no SRs, and forgets with Redis what
 * still runs; so each running job also holds a slot here, which its instance renews and which expires with it. After Redis
 * was found empty nobody gets a slot until every living instance has had the time to enter its own again: a wiped Redis
 * never lets more jobs run on a pool than it carries.
 *
 * A slot is its instance's: one that has a second turn of the job, or wakes when another goes on with it, does not give
 * that one's slot back.
 *
 * A job that finds its pool or SR full is noted. When a slot is given back, or ran out with its instance, those noted
 * that could use it are named, the oldest first, so that they need not ask all the time. One that needs several SRs is
 * passed some times, then they are kept free for it, as in backup/queue.ts.
 *
 * | key     | type   | what                                                                       |
 * |---------|--------|----------------------------------------------------------------------------|
 * | held    | zset   | job id → when its slot expires, by the clock of Redis                      |
 * | refused | zset   | job id → when it was refused first                                         |
 * | place   | hash   | job id → pool, SRs, whose slot, passes, time of the last refusal, as JSON  |
 * | limits  | hash   | per_pool, per_sr: as the instance that started last has them               |
 * | epoch   | string | when Redis was found empty; without it nobody gets a slot                  |
 */
import type { Redis } from 'ioredis';
import type { QueuePlace, Ticket } from '../queue-port.ts';

/** As in backup/queue.ts. */
const MAX_PASSES = 10;
/** Refused and not seen for so long: it is gone. Each asks again within a quarter of it. */
const FORGET_MS = 120_000;
/** Named when a slot is free: one may have ended meanwhile, more would only be refused again. */
const MAX_NAMED = 4;

const COMMON = `
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local held, refused, place, limits, epoch = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local perPool = tonumber(redis.call('HGET', limits, 'per_pool') or ARGV[1])
local perSr = tonumber(redis.call('HGET', limits, 'per_sr') or ARGV[2])
local function placeOf(id)
  local text = redis.call('HGET', place, id)
  return text and cjson.decode(text) or nil
end
local function shares(a, b)
  if a.pool ~= b.pool then return false end
  for _, x in ipairs(a.srs) do for _, y in ipairs(b.srs) do if x == y then return true end end end
  return false
end
for _, id in ipairs(redis.call('ZRANGEBYSCORE', held, 0, now)) do
  redis.call('ZREM', held, id)
  if not redis.call('ZSCORE', refused, id) then redis.call('HDEL', place, id) end
end
local function forget(id)
  redis.call('ZREM', refused, id)
  if not redis.call('ZSCORE', held, id) then redis.call('HDEL', place, id) end
end
local function isOthers(id, by)
  local at = redis.call('ZSCORE', held, id) and placeOf(id)
  return at and at.by ~= by
end
local function busyBut(id)
  local inPool, inSr = {}, {}
  for _, other in ipairs(redis.call('ZRANGE', held, 0, -1)) do
    local at = other ~= id and placeOf(other) or nil
    if at then
      inPool[at.pool] = (inPool[at.pool] or 0) + 1
      for _, sr in ipairs(at.srs) do
        local key = at.pool .. ' ' .. sr
        inSr[key] = (inSr[key] or 0) + 1
      end
    end
  end
  return function(at)
    for _, sr in ipairs(at.srs) do
      if (inSr[at.pool .. ' ' .. sr] or 0) >= perSr then return sr end
    end
    return (inPool[at.pool] or 0) >= perPool and 'pool' or nil
  end
end
local function named()
  local found, whyNot = {}, busyBut(nil)
  for _, id in ipairs(redis.call('ZRANGE', refused, 0, -1)) do
    if #found >= ${2 * MAX_NAMED} then break end
    local at = placeOf(id)
    if not at or at.seen + ${FORGET_MS} < now then
      forget(id)
    elseif not whyNot(at) then
      table.insert(found, id)
      table.insert(found, at.pool)
    end
  end
  return found
end
`;

const TAKE = `${COMMON}
local id, mine = ARGV[3], cjson.decode(ARGV[4])
local ttl, settle = tonumber(ARGV[5]), tonumber(ARGV[6])
local began = redis.call('GET', epoch)
if not began then return {'settling', settle} end
if now < tonumber(began) + settle then return {'settling', tonumber(began) + settle - now} end
local why = busyBut(id)(mine)
local since = tonumber(redis.call('ZSCORE', refused, id) or now + 1)
local passed = {}
for _, other in ipairs(redis.call('ZRANGEBYSCORE', refused, '-inf', '(' .. since)) do
  local at = other ~= id and placeOf(other) or nil
  if not at or at.seen + ${FORGET_MS} < now then
    if other ~= id then forget(other) end
  elseif #at.srs > 1 and shares(at, mine) then
    if at.passes >= ${MAX_PASSES} then why = why or 'kept' else table.insert(passed, {other, at}) end
  end
end
if why then
  local known = placeOf(id)
  mine.passes = known and known.passes or 0
  mine.seen = now
  redis.call('ZADD', refused, 'NX', now, id)
  redis.call('HSET', place, id, cjson.encode(mine))
  return {'refused', why}
end
for _, one in ipairs(passed) do
  one[2].passes = one[2].passes + 1
  redis.call('HSET', place, one[1], cjson.encode(one[2]))
end
redis.call('ZREM', refused, id)
if not isOthers(id, mine.by) then
  redis.call('ZADD', held, now + ttl, id)
  redis.call('HSET', place, id, ARGV[4])
end
return {'taken'}
`;

const GIVE_BACK = `${COMMON}
if isOthers(ARGV[3], ARGV[4]) then return {} end
redis.call('ZREM', held, ARGV[3])
forget(ARGV[3])
return named()
`;

const FORGET = `${COMMON}
forget(ARGV[3])
`;

const RENEW = `${COMMON}
local ttl, settle = tonumber(ARGV[3]), tonumber(ARGV[4])
local empty = redis.call('SET', epoch, now, 'NX')
for i = 5, #ARGV, 2 do
  if not isOthers(ARGV[i], cjson.decode(ARGV[i + 1]).by) then
    redis.call('ZADD', held, now + ttl, ARGV[i])
    redis.call('HSET', place, ARGV[i], ARGV[i + 1])
  end
end
local ms = tonumber(redis.call('GET', epoch)) + settle - now
return {empty and 1 or 0, ms > 0 and ms or 0, named()}
`;

const HELD = `${COMMON}
local found = {}
for _, id in ipairs(redis.call('ZRANGE', held, 0, -1)) do
  local text = redis.call('HGET', place, id)
  if text then table.insert(found, text) end
end
return found
`;

export type Slot =
  | { got: 'taken' }
  | { got: 'refused'; why: string }
  | { got: 'settling'; ms: number };

export type Refused = Pick<Ticket, 'id' | 'pool'>;

export interface Slots {
  take(job: QueuePlace & { id: string }): Promise<Slot>;
  /** Gives it back; the refused jobs that could get one now. */
  giveBack(id: string): Promise<Refused[]>;
  /** It does not ask again. */
  forget(id: string): Promise<void>;
  /** Keeps those. `settlingMs`: nobody gets a slot before. `free`: refused jobs that could get one now. */
  renew(
    jobs: readonly (QueuePlace & { id: string })[],
  ): Promise<{ wasEmpty: boolean; settlingMs: number; free: Refused[] }>;
  /** Of all instances. */
  held(): Promise<{ pool: string; srs: string[] }[]>;
  /** Enters what this instance thinks the limits are; what they were, where they were others. */
  setLimits(): Promise<{ perPool: number; perSr: number } | undefined>;
}

interface SlotSettings {
  /** Put before every key. */
  prefix: string;
  instance: string;
  perPool: number;
  perSr: number;
  /** A slot that is not renewed is free after it. */
  ttlMs: number;
  /** How long instances need to enter their slots again. */
  settleMs: number;
}

const KEYS = 5;

/** Slots under `prefix`. Errors: the client's. */
export function createSlots(redis: Redis, settings: SlotSettings): Slots {
  const { prefix, instance, perPool, perSr, ttlMs, settleMs } = settings;
  const keys = ['held', 'refused', 'place', 'limits', 'epoch'].map((name) => `${prefix}:${name}`);
  const scripts = { take: TAKE, giveBack: GIVE_BACK, forget: FORGET, renew: RENEW, held: HELD };
  const run = async (name: keyof typeof scripts, ...args: (string | number)[]) =>
    await redis.eval(scripts[name], KEYS, ...keys, perPool, perSr, ...args);
  const limitsKey = `${prefix}:limits`;
  return {
    take: async (job) => {
      const args = [job.id, placeText(job, instance), ttlMs, settleMs];
      const [got, more] = (await run('take', ...args)) as [Slot['got'], string | number];
      if (got === 'settling') return { got, ms: Number(more) };
      return got === 'refused' ? { got, why: String(more) } : { got };
    },
    giveBack: async (id) => pairs((await run('giveBack', id, instance)) as string[]),
    forget: async (id) => {
      await run('forget', id);
    },
    renew: async (jobs) => {
      const held = jobs.flatMap((job) => [job.id, placeText(job, instance)]);
      const answer = (await run('renew', ttlMs, settleMs, ...held)) as [number, number, string[]];
      const [empty, settlingMs, free] = answer;
      return { wasEmpty: empty === 1, settlingMs, free: pairs(free) };
    },
    held: async () =>
      ((await run('held')) as string[]).map((text) => {
        const { pool, srs } = JSON.parse(text);
        return { pool, srs: Object.values<string>(srs) };
      }),
    setLimits: async () => {
      const [pool, sr] = await redis.hmget(limitsKey, 'per_pool', 'per_sr');
      await redis.hset(limitsKey, { per_pool: perPool, per_sr: perSr });
      if (!pool || !sr || (Number(pool) === perPool && Number(sr) === perSr)) return undefined;
      return { perPool: Number(pool), perSr: Number(sr) };
    },
  };
}

function placeText({ pool, srs }: QueuePlace, by: string): string {
  // an empty list comes back from the script as an empty object
  return JSON.stringify({ pool, srs: srs.map(({ uuid }) => uuid), by });
}

/** Of id, pool, id, pool, … */
function pairs(flat: readonly string[]): Refused[] {
  return flat.flatMap((id, index) =>
    index % 2 === 0 ? [{ id, pool: flat[index + 1] ?? '' }] : [],
  );
}
