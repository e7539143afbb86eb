/**
 * What a queue of jobs must hold, in one process or shared by instances: order, limits, turns that come again, and an end.
 *
 * Every test holds its turns open itself, so nothing is timed: it waits until what must happen has happened, and then
 * looks at what must not have.
 */
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { systemClock, systemIds } from '../../src/clock.ts';
import type { JobQueue, Ticket, TurnEnd } from '../../src/queue-port.ts';
import { NEVER } from '../../src/signals.ts';

export interface QueueLimitsUnderTest {
  total: number;
  perPool: number;
  perSr: number;
  waiting: number;
}

/** A new empty queue with these limits; closed by the test's end. */
export type MakeQueue = (limits: QueueLimitsUnderTest, t: TestContext) => Promise<JobQueue>;

const LIMITS = { total: 8, perPool: 8, perSr: 8, waiting: 100 };

export interface Turning {
  /** Ids in the order of their turns. */
  readonly order: string[];
  /** Those that have their turn now. */
  readonly now: Set<string>;
  end(id: string, end?: TurnEnd): void;
}

/** Serves `queue` with turns that stay open until they are ended. */
export function serve(queue: Pick<JobQueue, 'serve'>, into?: Turning & { ends: Ends }): Turning {
  const ends: Ends = into?.ends ?? new Map();
  const order = into?.order ?? [];
  const now = into?.now ?? new Set<string>();
  queue.serve(async ({ id }) => {
    order.push(id);
    now.add(id);
    const { promise, resolve } = Promise.withResolvers<TurnEnd>();
    ends.set(id, resolve);
    return await promise;
  });
  const end = (id: string, how: TurnEnd = 'done') => {
    now.delete(id);
    ends.get(id)?.(how);
    ends.delete(id);
  };
  return { order, now, end };
}

type Ends = Map<string, (end: TurnEnd) => void>;

/** Looks again and again, since a real server answers when it likes. */
export async function until(
  what: string,
  ready: () => unknown,
  told?: () => unknown,
): Promise<void> {
  for (let tries = 0; tries < 4000; tries++) {
    if (ready()) return;
    await systemClock.sleep(5, { signal: NEVER });
  }
  assert.fail(`waited in vain for ${what}: ${JSON.stringify(told?.())}`);
}

/** A job on these SRs of its pool. */
export function ticket(
  id: string,
  pool: string,
  srs: string[] = [],
  more: Partial<Ticket> = {},
): Ticket {
  return { id, pool, srs: srs.map((name) => ({ uuid: name, name })), priority: 2, ...more };
}

type Check = (
  what: string,
  limits: Partial<QueueLimitsUnderTest>,
  work: (queue: JobQueue) => Promise<void>,
) => void;

/** Registers the suite under `name`. */
export function testJobQueue(name: string, make: MakeQueue): void {
  const check: Check = (
    what: string,
    limits: Partial<QueueLimitsUnderTest>,
    work: (queue: JobQueue) => Promise<void>,
  ) =>
    test(`${name}: ${what}`, async (t) => {
      await work(await make({ ...LIMITS, ...limits }, t));
    });

  testLimits(check);
  testTurns(check);
}

function testLimits(check: Check): void {
  check(
    'of one priority the first comes first, and a better one before it',
    { total: 1 },
    async (queue) => {
      for (const [id, priority] of [
        ['a', 3],
        ['b', 2],
        ['c', 3],
        ['d', 1],
      ] as const) {
        assert.equal(await queue.add(ticket(id, 'p', [], { priority })), true);
      }
      const turns = serve(queue);
      for (const id of ['d', 'b', 'a', 'c']) {
        await until(
          `the turn of ${id}`,
          () => turns.now.has(id),
          () => turns.order,
        );
        turns.end(id);
      }
      await queue.idle();
      assert.deepEqual(turns.order, ['d', 'b', 'a', 'c']);
    },
  );

  check(
    'a job that is added twice has one turn, and may come again when it is done',
    {},
    async (queue) => {
      const turns = serve(queue);
      await queue.add(ticket('a', 'p'));
      await queue.add(ticket('a', 'p'));
      await until('its turn', () => turns.now.has('a'));
      await queue.add(ticket('a', 'p'));
      await queue.add(ticket('b', 'p'));
      await until('the other', () => turns.now.has('b'));
      assert.deepEqual(turns.order, ['a', 'b']);
      turns.end('a');
      turns.end('b');
      await queue.idle();
      await queue.add(ticket('a', 'p'));
      await until('its second turn', () => turns.order.length === 3);
      turns.end('a');
      await queue.idle();
    },
  );

  check(
    'one pool carries so many, and the next pool is no matter',
    { perPool: 2 },
    async (queue) => {
      const turns = serve(queue);
      for (const id of ['a', 'b', 'c']) await queue.add(ticket(id, 'p'));
      await queue.add(ticket('q', 'q'));
      await until(
        'three',
        () => turns.now.size === 3,
        () => turns.order,
      );
      assert.deepEqual([...turns.now].sort(), ['a', 'b', 'q']);
      turns.end('a');
      await until('the third of the pool', () => turns.now.has('c'));
      for (const id of ['b', 'c', 'q']) turns.end(id);
      await queue.idle();
    },
  );

  check('one SR carries so many, and those behind may pass', { perSr: 1 }, async (queue) => {
    const turns = serve(queue);
    await queue.add(ticket('a', 'p', ['s']));
    await until('the first', () => turns.now.has('a'));
    await queue.add(ticket('b', 'p', ['s']));
    await queue.add(ticket('c', 'p', ['t']));
    await until(
      'the one on the other SR',
      () => turns.now.has('c'),
      () => turns.order,
    );
    assert.deepEqual(turns.order, ['a', 'c']);
    turns.end('a');
    await until(
      'the one that waited',
      () => turns.now.has('b'),
      () => turns.order,
    );
    turns.end('b');
    turns.end('c');
    await queue.idle();
  });

  check('a job that needs several SRs is not passed for ever', { perSr: 1 }, async (queue) => {
    const turns = serve(queue);
    await queue.add(ticket('x0', 'p', ['x']));
    await queue.add(ticket('y0', 'p', ['y']));
    await until('both SRs to be busy', () => turns.now.size === 2);
    await queue.add(ticket('both', 'p', ['x', 'y']));
    for (let number = 1; number <= 30 && !turns.order.includes('both'); number++) {
      await queue.add(ticket(`x${number}`, 'p', ['x']));
      await queue.add(ticket(`y${number}`, 'p', ['y']));
      const before = turns.order.length;
      const first = [...turns.now].find((id) => id !== 'both');
      turns.end(first ?? '');
      await until(
        'another turn, or nothing that may pass',
        () => turns.order.length > before || turns.now.size === 0 || turns.now.size === 1,
      );
    }
    for (const id of turns.now) if (id !== 'both') turns.end(id);
    await until(
      'its turn',
      () => turns.now.has('both'),
      () => turns.order,
    );
    queue.stop();
    turns.end('both');
    await queue.idle();
  });
}

function testTurns(check: Check): void {
  check('a turn that ends with a time comes again then, not before', {}, async (queue) => {
    const turns = serve(queue);
    await queue.add(ticket('a', 'p'));
    await until('its turn', () => turns.now.has('a'));
    const againAtMs = systemClock.now() + 300;
    turns.end('a', { againAtMs });
    await until('its second turn', () => turns.order.length === 2);
    assert.ok(systemClock.now() >= againAtMs - 1, 'not before');
    turns.end('a');
    await queue.idle();
  });

  check(
    'a job that is taken out has no turn; one that has its turn cannot be',
    { total: 1 },
    async (queue) => {
      const turns = serve(queue);
      await queue.add(ticket('a', 'p'));
      await until('its turn', () => turns.now.has('a'));
      await queue.add(ticket('b', 'p'));
      await queue.add(ticket('c', 'p', [], { notBeforeMs: systemClock.now() + 60_000 }));
      await queue.add(ticket('d', 'p'));
      assert.equal(await queue.remove({ id: 'a', pool: 'p' }), false);
      assert.equal(await queue.remove({ id: 'b', pool: 'p' }), true);
      assert.equal(await queue.remove({ id: 'c', pool: 'p' }), true);
      assert.equal(await queue.remove({ id: systemIds.uuid(), pool: 'p' }), false);
      turns.end('a');
      await until('the last', () => turns.now.has('d'));
      turns.end('d');
      await queue.idle();
      assert.deepEqual(turns.order, ['a', 'd']);
    },
  );

  check(
    'it says why a job would wait, and when it is full',
    { perPool: 1, waiting: 2 },
    async (queue) => {
      const turns = serve(queue);
      await until('an answer', () => queue.reason(ticket('a', 'p')) === undefined);
      await queue.add(ticket('a', 'p'));
      await until('its turn', () => turns.now.has('a'));
      await until('the reason', () =>
        /XVAULT_CONCURRENCY_PER_POOL/.test(queue.reason(ticket('b', 'p')) ?? ''),
      );
      assert.equal(queue.reason(ticket('b', 'q')), undefined);
      assert.equal(queue.full, false);
      await queue.add(ticket('b', 'p'));
      await queue.add(ticket('c', 'p'));
      assert.equal(queue.full, true);
      assert.equal(queue.waiting, 2);
      assert.equal(queue.running, 1);
      queue.stop();
      turns.end('a');
      await queue.idle();
    },
  );

  check('after a stop no turn begins, and those under way end', {}, async (queue) => {
    const turns = serve(queue);
    await queue.add(ticket('a', 'p'));
    await until('its turn', () => turns.now.has('a'));
    queue.stop();
    await queue.add(ticket('b', 'p'));
    let isIdle = false;
    const idle = queue.idle().then(() => {
      isIdle = true;
    });
    await systemClock.sleep(50, { signal: NEVER });
    assert.equal(isIdle, false);
    turns.end('a');
    await idle;
    assert.deepEqual(turns.order, ['a']);
  });
}
